"""One device, two replicas and two workers train alike; a lost or stopped worker loses nothing."""

import json
import signal
import time

import pytest

from tests.small_log import write_experiment
from tests.training.events import scalars
from tests.training.forks import forks
from tests.training.processes import cluster_of

SETTINGS = {
    "batch_size": 15,  # odd, so that two replicas never get the same number of samples
    "epoch": 2,
    "input_shards": 1,
    "save_summary_steps": 1,
    "save_checkpoints_steps": 10,
    "activation": "dice",
    "deep_layers": [8],
    "infer_timesteps": 1,
    "embedding": {"kind": "vocabulary", "min_count": 2},
    "lazyAdam_learning_rate": 0.01,
    "lamda1": 0.1,
    "lamda2": 0.1,
}
STEPS = 56  # 412 samples an epoch: the last batch has 7


@pytest.fixture(scope="module")
def commands():
    with forks() as ours:
        yield ours


def workers(commands, folder, name, exp):
    """Two workers of a cluster of their own."""
    cluster = cluster_of(worker=2)
    return [
        commands.start(
            folder / f"{name}-{index}.log",
            exp,
            folder / name,
            "strategy=multi_worker_mirrored",
            task=("worker", index),
            cluster=cluster,
        )
        for index in range(2)
    ]


def codes_of(commands, processes, seconds=240):
    """Exit codes, after waiting for all."""
    return [commands.code(process, seconds) for process in processes]


@pytest.fixture(scope="module")
def runs(commands, tmp_path_factory):
    """The same command on one device, two replicas, and two workers."""
    folder = tmp_path_factory.mktemp("runs")
    exp = write_experiment(folder, per_day=206, **SETTINGS)
    mirrored = ["strategy=mirrored", "replicas=2"]
    alone = commands.start(folder / "one.log", exp, folder / "one")
    two = commands.start(folder / "two.log", exp, folder / "two", *mirrored)
    with commands.ended([alone, two]) as both:
        assert codes_of(commands, both) == [0, 0], (folder / "two.log").read_text()[-3000:]
    with commands.ended(workers(commands, folder, "workers", exp)) as both:
        assert codes_of(commands, both) == [0, 0], (folder / "workers-0.log").read_text()[-3000:]
    return folder


@pytest.mark.parametrize("name", ["two", "workers"])
def test_the_losses_of_every_step_agree(runs, name):
    one, other = scalars(runs / "one" / "logs"), scalars(runs / name / "logs")
    for tag in ("train/loss", "train/total_loss"):
        assert sorted(one[tag]) == list(range(1, STEPS + 1))
        assert other[tag] == pytest.approx(one[tag], abs=1e-4)
    # Metrics of training are sums over replicas.
    for tag in ("train/auc", "train/diffusion_loss", "train/contrastive_loss", "valid/auc"):
        assert other[tag] == pytest.approx(one[tag], abs=2e-3), tag


@pytest.mark.parametrize("name", ["two", "workers"])
def test_the_final_metrics_agree(runs, name):
    one, other = (json.loads((runs / n / "metrics.json").read_text()) for n in ("one", name))
    assert other["test"]["auc"] == pytest.approx(one["test"]["auc"], abs=2e-3)
    assert other["test"]["examples"] == one["test"]["examples"]


@pytest.mark.parametrize("name", ["two", "workers"])
def test_metrics_by_all_replicas_are_those_of_one_device(runs, name):
    """What training validated is what the restored best model gives on one device."""
    validated = scalars(runs / name / "logs")
    alone = json.loads((runs / name / "metrics.json").read_text())["valid"]
    best = max(validated["valid/auc"], key=validated["valid/auc"].get)
    for metric in ("auc", "gauc", "logloss", "calibration"):
        assert validated[f"valid/{metric}"][best] == pytest.approx(alone[metric], abs=1e-6)


def test_the_chief_alone_writes(runs):
    left = {path.name for path in (runs / "workers").iterdir()}
    assert left == {path.name for path in (runs / "one").iterdir()}
    assert "step" not in (runs / "workers-1.log").read_text()


def wait_for_step(commands, model_dir, step, processes, seconds=180):
    """Returns once a run has saved a step."""
    end = time.monotonic() + seconds
    while not (model_dir / "checkpoints" / f"ckpt-{step}.index").exists():
        codes = [commands.poll(process) for process in processes]
        assert codes == [None] * len(codes), f"ended before step {step}"
        assert time.monotonic() < end, f"no step {step} after {seconds} s"
        time.sleep(0.05)


def test_workers_that_are_stopped_or_lost_go_on_where_they_were(commands, runs):
    exp, model_dir = runs / "exp", runs / "cut"
    with commands.ended(workers(commands, runs, "cut", exp)) as both:
        wait_for_step(commands, model_dir, 10, both)
        commands.kill(both[1], signal.SIGTERM)  # the other one has to save too
        assert codes_of(commands, both, 60) == [0, 0]
    assert "stopped by SIGTERM; saved" in (runs / "cut-0.log").read_text()

    with commands.ended(workers(commands, runs, "cut", exp)) as both:
        wait_for_step(commands, model_dir, 30, both)
        commands.kill(both[1])
        assert codes_of(commands, both, 120) == [1, -signal.SIGKILL]
    log = (runs / "cut-0.log").read_text()
    assert "going on from step" in log and "start all tasks again" in log

    with commands.ended(workers(commands, runs, "cut", exp)) as both:
        assert codes_of(commands, both) == [0, 0], (runs / "cut-0.log").read_text()[-3000:]
    whole, cut = (scalars(runs / name / "logs") for name in ("workers", "cut"))
    assert cut["train/loss"] == pytest.approx(whole["train/loss"], abs=1e-6)
    metrics = [json.loads((runs / n / "metrics.json").read_text()) for n in ("workers", "cut")]
    assert metrics[0] == metrics[1]
