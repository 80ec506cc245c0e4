"""A run that is killed again and again ends with the bits of a run that never was."""

import json
import os
import random
import signal
import time

import pytest
import tensorflow as tf

from diffumin_tf.training import checkpoints
from tests.input.grouped import GROUPED_SCHEMA, grouped_samples
from tests.small_log import write_experiment
from tests.training.forks import wait_until

SETTINGS = {
    "epoch": 2,
    "evaluate_every_steps": 25,
    "early_stopping_patience": 50,
    "save_checkpoints_steps": 2,
    "keep_checkpoint_max": 2,
    "batch_size": 16,
    "shuffle_buffer_size": 100,
    "samples_per_user": 4,
    "activation": "relu",
    "deep_layers": [4],
    "lazyAdam_learning_rate": 0.01,
}
# Dropout and noise have a state that has to come back.
DROPOUT = {"subseq_len": 0, "use_dmig": False, "dropout_rate": 0.1}
LEAN_DIFFUMIN = {"subseq_len": 0, "use_cmic": False, "infer_timesteps": 1, "dropout_rate": 0.1}
# Most of its time goes into writing.
BIG_TABLE = {"use_omie": False, "subseq_len": 0, "embedding": {"kind": "hash", "rows": 300_000}}

SIZES = [(6, 15), (1, 3), (5, 40)]  # impressions and behaviours of records


def in_groups(count, seed):
    """Samples that share records, most of which become several chunks."""
    return grouped_samples(SIZES * (count // sum(n for n, _ in SIZES)), seed)


ONE_EACH, GROUPED = {}, {"schema": GROUPED_SCHEMA.to_dict(), "samples": in_groups}


def values(path):
    """Everything in a checkpoint but its save counter."""
    reader = tf.train.load_checkpoint(path)
    names = [n for n in reader.get_variable_to_shape_map() if "save_counter" not in n]
    return {name: reader.get_tensor(name) for name in sorted(names)}


def assert_same_bits(one, other):
    assert one.keys() == other.keys() and len(one) > 10
    for name, value in one.items():
        if isinstance(value, bytes):
            assert value == other[name], name
        else:
            assert value.tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize(
    ("kills", "per_day", "model", "data"),
    [
        (2, 144, DROPOUT, GROUPED),
        pytest.param(20, 480, LEAN_DIFFUMIN, GROUPED, marks=pytest.mark.soak),
        pytest.param(20, 480, BIG_TABLE, ONE_EACH, marks=pytest.mark.soak),
    ],
    ids=["dropout", "DiffuMIN", "big table"],
)
def test_kills_change_nothing(commands, tmp_path, kills, per_day, model, data):
    exp = write_experiment(tmp_path, per_day, **data, **SETTINGS, **model)
    rng = random.Random(7)
    log, whole, killed = tmp_path / "killed.log", tmp_path / "whole", tmp_path / "killed"
    assert commands.code(commands.start(tmp_path / "whole.log", exp, whole)) == 0
    for _ in range(kills):
        process = commands.start(log, exp, killed)
        for _ in range(rng.randint(1, 2)):
            before = checkpoints.latest(str(killed))
            wait_until(lambda: checkpoints.latest(str(killed)) != before, 120, log.read_text)  # noqa: B023
        time.sleep(rng.uniform(0.0, 0.05))
        os.kill(process, signal.SIGKILL)
        assert commands.code(process) == -signal.SIGKILL
    assert commands.code(commands.start(log, exp, killed)) == 0
    assert log.read_text().count("going on from step") == kills

    for folder in (checkpoints.LATEST, checkpoints.BEST):
        found = [checkpoints.complete(str(run / folder))[-1] for run in (whole, killed)]
        assert os.path.basename(found[0]) == os.path.basename(found[1])
        assert_same_bits(*map(values, found))
    assert (whole / "metrics.json").read_bytes() == (killed / "metrics.json").read_bytes()
    # 2 epochs of two days: none lost, none seen twice.
    last = values(checkpoints.latest(str(killed)))
    states = [v for v in last.values() if isinstance(v, bytes) and b"samples" in v]
    assert [json.loads(state)["samples"] for state in states] == [2 * 2 * per_day]
