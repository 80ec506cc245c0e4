"""Parameter-server clusters as processes on this machine: AUC, lost tasks, restarts."""

import json
import math
import os
import re
import signal
import socket
import time

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.evaluation.metrics import auc
from diffumin_tf.input.splits import list_files
from diffumin_tf.training import checkpoints
from tests.small_log import write_experiment
from tests.training.forks import cluster_of, wait_until

PER_DAY, EPOCHS, ROWS, DIM = 3000, 4, 20_000, 8  # the table is worth two servers
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
    "save_checkpoints_steps": 40,
}


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("asynchronous"), PER_DAY, **SETTINGS)


@pytest.fixture(scope="module")
def expected(commands, exp, tmp_path_factory):
    """Test AUC of the same run on one device."""
    folder = tmp_path_factory.mktemp("alone")
    assert commands.code(commands.start(folder / "log", exp, folder / "run")) == 0
    return auc_of(folder / "run")


def auc_of(model_dir):
    return json.loads((model_dir / "metrics.json").read_text())["test"]["auc"]


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
        os.kill(self.tasks[job, index], number)

    def wait_for(self, pattern):
        """The first line of the chief that matches."""
        found = lambda: re.search(f"^.*{pattern}.*$", self.text(), re.M)  # noqa: E731
        wait_until(found, 120, f"{pattern!r} in {self.log}")
        return found()[0]

    def wait_for_saves(self, count):
        """Waits until so many checkpoints were written and listed, which is the last step."""
        listed = self.folder / "model" / checkpoints.LATEST / "checkpoint"
        now = lambda: listed.read_text() if listed.exists() else None  # noqa: E731
        for _ in range(count):
            before = now()
            wait_until(lambda: now() != before, 120, f"{self.log}: a checkpoint")  # noqa: B023

    def text(self):
        return self.log.read_text() if self.log.exists() else ""

    def codes(self):
        """Exit codes; of the chief first, and then, soon, of all others."""
        codes = {("chief", 0): self.commands.code(self.tasks["chief", 0])}
        others = [task for task in self.tasks if task != ("chief", 0)]
        return codes | {task: self.commands.code(self.tasks[task], 30) for task in others}


def state_of(model_dir):
    """Path of the last checkpoint, and what it says of the place in the data."""
    path = checkpoints.complete(str(model_dir / checkpoints.LATEST))[-1]
    reader = tf.train.load_checkpoint(path)
    (name,) = (n for n in reader.get_variable_to_shape_map() if n.startswith("state/"))
    return path, json.loads(reader.get_tensor(name))


def assert_one_ordinary_model(model_dir, found):
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
    assert auc(labels, scores) == pytest.approx(found, abs=1e-6)


def test_a_lost_server_ends_the_run_which_goes_on_with_fewer_tasks_to_the_auc_of_one_device(
    commands, exp, expected, tmp_path
):
    cluster = Cluster(commands, tmp_path, exp, workers=2, servers=2)
    cluster.wait_for_saves(1)
    cluster.kill("ps", 1)
    lost = {("ps", 1): -signal.SIGKILL, ("chief", 0): 1}
    assert cluster.codes() == {task: lost.get(task, 0) for task in cluster.tasks}
    error = cluster.wait_for("error: ")
    assert re.search(r"ps 1 \S+ is gone.*start all tasks again", error)
    assert "Traceback" not in cluster.text()
    path, state = state_of(tmp_path / "model")
    # Chief and both servers wrote a part of it.
    assert len(tf.io.gfile.glob(path + ".data-*-of-00003")) == 3

    again = Cluster(commands, tmp_path, exp, workers=1, servers=1)
    assert set(again.codes().values()) == {0}, again.text()
    assert f"going on from step {state['step']}," in again.text()
    _, state = state_of(tmp_path / "model")
    # What either worker had in hand was done again: one of eight pieces each.
    assert 0 <= state["samples"] - EPOCHS * 2 * PER_DAY <= 2 * 2 * PER_DAY / 8
    found = auc_of(tmp_path / "model")
    assert expected > 0.75 and found == pytest.approx(expected, abs=0.01)
    assert_one_ordinary_model(tmp_path / "model", found)
    validated = [int(s) for s in re.findall(r"step (\d+): validation", again.text())]
    assert len(validated) > 1 and validated[-1] == state["step"]


@pytest.mark.soak
def test_every_sample_is_used_once_an_epoch(commands, exp, expected, tmp_path):
    cluster = Cluster(commands, tmp_path, exp, workers=2, servers=2)
    assert set(cluster.codes().values()) == {0}, cluster.text()
    assert auc_of(tmp_path / "model") == pytest.approx(expected, abs=0.01)
    _, state = state_of(tmp_path / "model")
    # The last batch of each of the eight pieces is a smaller one.
    assert state["samples"] == EPOCHS * 2 * PER_DAY
    assert state["step"] == EPOCHS * 8 * math.ceil(2 * PER_DAY / 8 / SETTINGS["batch_size"])
    shares = re.search(r"updates by worker: (.*)", cluster.text())[1].split(", ")
    assert min(map(int, shares)) > 0 and sum(map(int, shares)) == state["step"]


@pytest.mark.soak
def test_lost_workers_are_replaced_and_a_chief_that_is_stopped_saves(commands, exp, tmp_path):
    cluster = Cluster(commands, tmp_path, exp, "epoch=1000", workers=2, servers=2)
    cluster.wait_for_saves(1)
    cluster.kill("worker", 1)
    cluster.wait_for(r"worker 1 \S+ is lost: training goes on with 1 of 2 workers")
    cluster.wait_for_saves(2)
    cluster.start("worker", 1)
    cluster.wait_for(r"worker 1 \S+ is back: training goes on with 2 of 2 workers")
    cluster.kill("worker", 0)  # so that the new worker 1 is the only one
    cluster.wait_for(r"worker 0 \S+ is lost")
    cluster.wait_for_saves(2)
    cluster.kill("chief", 0, signal.SIGTERM)
    codes = cluster.codes()
    assert codes.pop(("worker", 0)) == -signal.SIGKILL and set(codes.values()) == {0}
    path, state = state_of(tmp_path / "model")
    assert path in cluster.wait_for("stopped by SIGTERM")
    # Whatever was lost was done again: no epoch is short of a sample.
    assert state["samples"] >= state["epoch"] * 2 * PER_DAY


def test_a_worker_ends_when_its_chief_has_and_not_before(commands, exp, tmp_path):
    addresses = cluster_of(chief=1, worker=1, ps=1)
    host, port = addresses["chief"][0].split(":")
    with socket.create_server((host, int(port))):
        settings = {"task": ("worker", 0), "cluster": addresses}
        log = tmp_path / "log"
        worker = commands.start(log, exp, tmp_path, "strategy=parameter_server", **settings)
        wait_until(lambda: log.exists() and "worker 0 serves at" in log.read_text(), 60, log)
        time.sleep(1.0)
        os.kill(worker, signal.SIGTERM)  # the chief may need it for its last checkpoint
        time.sleep(2.0)
        assert commands.poll(worker) is None
    assert commands.code(worker, 20) == 0
    assert "worker 0 ends, as the chief has" in log.read_text()
