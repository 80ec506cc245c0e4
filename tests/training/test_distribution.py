"""One device, two replicas and two workers train alike; a lost or stopped worker loses nothing."""

import json
import os
import signal

import pytest

from tests.several_values import SEVERAL
from tests.small_log import write_experiment
from tests.training.events import scalars
from tests.training.forks import cluster_of, wait_until

SETTINGS = {
    "batch_size": 15,  # odd, so that two replicas never get the same number of samples
    "epoch": 2,
    "input_shards": 1,
    "save_summary_steps": 1,
    "save_checkpoints_steps": 10,
    "activation": "dice",
    "deep_layers": [8],
    "subseq_len": 0,
    "use_dmig": False,  # takes long to trace; tests/test_model_replicas.py has all of DiffuMIN
    "embedding": {"kind": "vocabulary", "min_count": 2},
    "lazyAdam_learning_rate": 0.01,
}
STEPS = 28  # 206 samples an epoch: the last batch has 11


def train_by_workers(commands, folder, name, stop_at=None, number=None):
    """Runs two workers; sends one of them a signal at a step. Returns their exit codes."""
    cluster, overrides = cluster_of(worker=2), ["strategy=multi_worker_mirrored"]
    both = [
        commands.start(
            folder / f"{name}-{index}.log",
            folder / "exp",
            folder / name,
            *overrides,
            task=("worker", index),
            cluster=cluster,
        )
        for index in range(2)
    ]
    with commands.ended(both):
        if stop_at:
            saved = folder / name / "checkpoints" / f"ckpt-{stop_at}.index"
            wait_until(saved.exists, 180, saved)
            os.kill(both[1], number)
        return [commands.code(process) for process in both]


@pytest.fixture(scope="module")
def runs(commands, tmp_path_factory):
    """The same command on one device, two replicas, and two workers, one of which was stopped."""
    folder = tmp_path_factory.mktemp("runs")
    exp = write_experiment(folder, per_day=103, **SEVERAL, **SETTINGS)
    mirrored = ["strategy=mirrored", "replicas=2"]
    alone = commands.start(folder / "one.log", exp, folder / "one")
    two = commands.start(folder / "two.log", exp, folder / "two", *mirrored)
    with commands.ended([alone, two]) as both:
        codes = [commands.code(process) for process in both]
        assert codes == [0, 0], (folder / "two.log").read_text()[-3000:]
    stopped = train_by_workers(commands, folder, "workers", 10, signal.SIGTERM)
    log = (folder / "workers-0.log").read_text()
    assert stopped == [0, 0] and "stopped by SIGTERM; saved" in log, log[-3000:]
    assert train_by_workers(commands, folder, "workers") == [0, 0], log[-3000:]
    assert "going on from step 1" in (folder / "workers-0.log").read_text()
    return folder


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())


@pytest.mark.parametrize("name", ["two", "workers"])
def test_losses_and_metrics_agree(runs, name):
    one, other = scalars(runs / "one" / "logs"), scalars(runs / name / "logs")
    for tag in ("train/loss", "train/total_loss"):
        assert sorted(one[tag]) == list(range(1, STEPS + 1))
        assert other[tag] == pytest.approx(one[tag], abs=1e-4)
    # Metrics of training are sums over replicas.
    for tag in ("train/auc", "valid/auc"):
        assert other[tag] == pytest.approx(one[tag], abs=2e-3), tag
    one, other = metrics_of(runs / "one")["test"], metrics_of(runs / name)["test"]
    assert other["auc"] == pytest.approx(one["auc"], abs=2e-3)
    assert other["examples"] == one["examples"]


@pytest.mark.parametrize("name", ["two", "workers"])
def test_metrics_by_all_replicas_are_those_of_one_device(runs, name):
    """What training validated is what the restored best model gives on one device."""
    validated, alone = scalars(runs / name / "logs"), metrics_of(runs / name)["valid"]
    best = max(validated["valid/auc"], key=validated["valid/auc"].get)
    for metric in ("auc", "gauc", "logloss", "calibration"):
        assert validated[f"valid/{metric}"][best] == pytest.approx(alone[metric], abs=1e-6)


def test_the_chief_alone_writes(runs):
    left = {path.name for path in (runs / "workers").iterdir()}
    assert left == {path.name for path in (runs / "one").iterdir()}
    assert "auc" not in (runs / "workers-1.log").read_text()


@pytest.mark.soak
def test_workers_that_lost_one_go_on_where_they_were(commands, runs):
    codes = train_by_workers(commands, runs, "cut", 20, signal.SIGKILL)
    assert codes == [1, -signal.SIGKILL]
    assert "start all tasks again" in (runs / "cut-0.log").read_text()
    assert train_by_workers(commands, runs, "cut") == [0, 0]
    whole, cut = (scalars(runs / name / "logs") for name in ("workers", "cut"))
    assert cut["train/loss"] == pytest.approx(whole["train/loss"], abs=1e-6)
    assert metrics_of(runs / "cut") == metrics_of(runs / "workers")
