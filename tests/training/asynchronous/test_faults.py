"""Parameter-server clusters as processes on this machine: AUC, lost tasks, restarts."""

import json
import math
import re
import signal
import socket
import time

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.input.splits import list_files
from diffumin_tf.training import checkpoints
from tests.small_log import write_experiment
from tests.training.forks import forks
from tests.training.processes import cluster_of

PER_DAY, EPOCHS, ROWS, DIM = 6000, 4, 20_000, 8  # the table is worth two servers
SETTINGS = {
    "embedding": {"kind": "hash", "rows": ROWS, "initial_stddev": 0.3},
    "embed_dim": DIM,
    "subseq_len": 0,
    "use_dmig": False,
    "deep_layers": [32, 16],
    "activation": "relu",
    "batch_norm_momentum": 0.9,
    "learning_rate": 0.1,
    "lazyAdam_learning_rate": 0.01,
    "batch_size": 128,
    "epoch": EPOCHS,
}


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("asynchronous"), PER_DAY, **SETTINGS)


@pytest.fixture(scope="module")
def commands():
    with forks() as ours:
        yield ours


class Cluster:
    """A chief with workers and servers that run one command."""

    def __init__(self, commands, folder, exp, *overrides, workers, servers):
        self.commands, self.folder, self.exp = commands, folder, exp
        self.overrides = ["strategy=parameter_server", *overrides]
        self.addresses = cluster_of(chief=1, worker=workers, ps=servers)
        self.log = folder / f"chief-{time.monotonic_ns()}.log"
        self.tasks = {}
        for job, hosts in self.addresses.items():
            for index in range(len(hosts)):
                self.start(job, index)

    def start(self, job, index):
        log = self.log if job == "chief" else self.folder / f"{job}-{index}.log"
        self.tasks[job, index] = self.commands.start(
            log,
            self.exp,
            self.folder / "model",
            *self.overrides,
            task=(job, index),
            cluster=self.addresses,
        )

    def kill(self, job, index, number=signal.SIGKILL):
        self.commands.kill(self.tasks[job, index], number)

    def wait_for(self, pattern, times=1, seconds=120):
        """The last of so many lines of the chief that match."""
        end = time.monotonic() + seconds
        while len(found := re.findall(f"^.*{pattern}.*$", self.text(), re.M)) < times:
            assert time.monotonic() < end, f"no {pattern!r} in:\n{self.text()}"
            time.sleep(0.1)
        return found[times - 1]

    def text(self):
        return self.log.read_text() if self.log.exists() else ""

    def codes(self):
        """Exit codes; of the chief first, and then, soon, of all others."""
        codes = {("chief", 0): self.commands.code(self.tasks["chief", 0], 240)}
        others = [task for task in self.tasks if task != ("chief", 0)]
        return codes | {task: self.commands.code(self.tasks[task], 20) for task in others}


def state_of(model_dir):
    """Path of the last checkpoint, and what it says of the place in the data."""
    path = checkpoints.complete(str(model_dir / checkpoints.LATEST))[-1]
    reader = tf.train.load_checkpoint(path)
    (name,) = (n for n in reader.get_variable_to_shape_map() if n.startswith("state/"))
    return path, json.loads(reader.get_tensor(name))


def test_asynchronous_training_reaches_the_auc_of_one_device(commands, exp, tmp_path):
    alone = commands.start(tmp_path / "alone.log", exp, tmp_path / "alone")
    cluster = Cluster(commands, tmp_path, exp, workers=2, servers=2)
    assert commands.code(alone, 240) == 0
    assert set(cluster.codes().values()) == {0}, cluster.text()

    found, expected = (
        json.loads((tmp_path / name / "metrics.json").read_text())["test"]["auc"]
        for name in ("model", "alone")
    )
    assert expected > 0.75
    assert abs(found - expected) < 0.01
    path, state = state_of(tmp_path / "model")
    # Each sample once an epoch; the last batch of each of the eight pieces is a smaller one.
    assert state["samples"] == EPOCHS * 2 * PER_DAY
    assert state["step"] == EPOCHS * 8 * math.ceil(2 * PER_DAY / 8 / SETTINGS["batch_size"])
    # Chief and both servers wrote a part of it.
    assert len(tf.io.gfile.glob(path + ".data-*-of-00003")) == 3
    assert_one_ordinary_model(tmp_path / "model", found)
    validated = [int(s) for s in re.findall(r"step (\d+): validation", cluster.text())]
    assert len(validated) > 1 and validated[-1] == state["step"]
    shares = re.search(r"updates by worker: (.*)", cluster.text())[1].split(", ")
    assert min(map(int, shares)) > 0 and sum(map(int, shares)) == state["step"]


def assert_one_ordinary_model(model_dir, auc):
    """TensorFlow alone loads the export, whose table is whole, and scores as it was evaluated."""
    (export,) = (model_dir / "export").iterdir()
    loaded = tf.saved_model.load(str(export))
    assert [ROWS, DIM] in [v.shape.as_list() for v in loaded.weights]
    data = json.loads((model_dir / "config.json").read_text())["train_data_path"]
    files = list_files(data, 20240104, 20240104, "test")
    samples = list(tf.data.TFRecordDataset(files).as_numpy_iterator())
    scores = loaded.signatures["examples"](inputs=tf.constant(samples))["outputs"].numpy()
    labels = [tf.train.Example.FromString(s).features.feature["label"] for s in samples]
    labels = np.array([label.int64_list.value[0] for label in labels])
    order = np.argsort(scores)
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    positive, negative = labels.sum(), (1 - labels).sum()
    ranked = (ranks[labels == 1].sum() - positive * (positive + 1) / 2) / (positive * negative)
    assert ranked == pytest.approx(auc, abs=1e-3)


def test_lost_workers_are_replaced_and_a_lost_server_ends_the_run(commands, tmp_path):
    per_day, settings = 1200, ["epoch=1000", "save_checkpoints_steps=40"]
    exp = write_experiment(tmp_path, per_day, **SETTINGS)
    cluster = Cluster(commands, tmp_path, exp, *settings, workers=2, servers=2)
    cluster.wait_for("samples/s")
    cluster.kill("worker", 1)
    cluster.wait_for(r"worker 1 \S+ is lost: training goes on with 1 of 2 workers")
    lines = len(re.findall("samples/s", cluster.text()))
    cluster.wait_for("samples/s", lines + 2)
    cluster.start("worker", 1)
    cluster.wait_for(r"worker 1 \S+ is back: training goes on with 2 of 2 workers")
    cluster.kill("worker", 0)  # so that the new worker 1 is the only one
    cluster.wait_for(r"worker 0 \S+ is lost")
    lines = len(re.findall("samples/s", cluster.text()))
    cluster.wait_for("samples/s", lines + 2)

    cluster.kill("ps", 1)
    killed = time.monotonic()
    codes = cluster.codes()
    assert time.monotonic() - killed < 30
    assert codes == {
        ("chief", 0): 1,
        ("worker", 0): -signal.SIGKILL,
        ("worker", 1): 0,
        ("ps", 0): 0,
        ("ps", 1): -signal.SIGKILL,
    }
    error = cluster.wait_for("error: ")
    assert re.search(r"ps 1 \S+ is gone.*start all tasks again", error)
    assert "Traceback" not in cluster.text()
    path, state = state_of(tmp_path / "model")
    # Whatever was lost was done again: no epoch is short of a sample.
    assert state["samples"] >= state["epoch"] * 2 * per_day

    again = Cluster(commands, tmp_path, exp, *settings, workers=1, servers=1)
    assert f"going on from step {state['step']}," in again.wait_for("going on")
    again.wait_for("samples/s", 2)
    again.kill("chief", 0, signal.SIGTERM)
    assert set(again.codes().values()) == {0}, again.text()
    path, after = state_of(tmp_path / "model")
    assert path in again.wait_for("stopped by SIGTERM")
    assert after["step"] > state["step"] and after["best_auc"] >= state["best_auc"]
    assert after["epoch"] > state["epoch"] or set(after["pieces_done"]) >= set(state["pieces_done"])


def test_a_worker_ends_when_its_chief_has_and_not_before(commands, exp, tmp_path):
    addresses = cluster_of(chief=1, worker=1, ps=1)
    host, port = addresses["chief"][0].split(":")
    with socket.create_server((host, int(port))):
        settings = {"task": ("worker", 0), "cluster": addresses}
        log = tmp_path / "log"
        worker = commands.start(log, exp, tmp_path, "strategy=parameter_server", **settings)
        end = time.monotonic() + 60
        while not (log.exists() and "worker 0 serves at" in log.read_text()):
            assert time.monotonic() < end
            time.sleep(0.1)
        time.sleep(1.0)
        commands.kill(worker, signal.SIGTERM)  # the chief may need it for its last checkpoint
        time.sleep(2.0)
        assert commands.poll(worker) is None
    assert commands.code(worker, 20) == 0
    assert "worker 0 ends, as the chief has" in log.read_text()
