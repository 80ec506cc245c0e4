import diffumin_tf  # noqa: F401  (first of all, so that Keras 2 is settled)

# isort: split

import dataclasses
import pathlib

import pytest

from diffumin_tf.run.open import Run, create_run
from diffumin_tf.run.train import train_run
from diffumin_tf.training.loop import TrainingResult
from tests import two_devices  # noqa: F401  (splits the CPU before TensorFlow computes anything)
from tests.gc_tuning import collect_rarely
from tests.small_log import write_experiment
from tests.small_model import build
from tests.training.forks import Forks

collect_rarely()


# With several processes, these files come first, so that none is left with one of them at the end.
LONGEST = (
    "test_kills.py",
    "test_distribution.py",
    "test_cluster_of_servers.py",
    "test_point_in_time.py",
    "test_one_cluster.py",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run that went all the way; tests read it and leave it as it is."""

    exp: pathlib.Path
    model_dir: pathlib.Path
    run: Run
    result: TrainingResult
    lines: list[str]
    metrics: dict[str, dict]
    export: pathlib.Path


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> TrainedRun:
    """DiffuMIN with a vocabulary, trained on the small log, evaluated and exported."""
    folder = tmp_path_factory.mktemp("trained")
    exp = write_experiment(
        folder,
        embedding={"kind": "vocabulary", "min_count": 2},
        sample_rate=0.25,
        lazyAdam_learning_rate=0.01,
        deep_layers=[8],
        activation="relu",
        infer_timesteps=1,
        booster_mode=3,
    )
    lines: list[str] = []
    run = create_run(str(exp), str(folder / "model"), report=lines.append)
    result = train_run(run, lines.append)
    metrics = run.evaluate(["valid", "test"])
    export = pathlib.Path(run.export())
    return TrainedRun(exp, folder / "model", run, result, lines, metrics, export)


@pytest.fixture(scope="session")
def scoring():
    """A model whose weights stay as they are."""
    return build()


@pytest.fixture(scope="session")
def commands():
    """Starts commands without loading TensorFlow for each."""
    with Forks() as forks:
        yield forks
