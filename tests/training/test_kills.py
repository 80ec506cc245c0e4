"""Runs that are killed 20 times end with the bits of a run that never was."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

from diffumin_tf.training import checkpoints
from tests.small_log import write_experiment

KILLS = 20
ROOT = pathlib.Path(__file__).parents[2]
SETTINGS = {
    "epoch": 2,
    "evaluate_every_steps": 25,
    "early_stopping_patience": 50,
    "save_checkpoints_steps": 2,
    "keep_checkpoint_max": 2,
    "batch_size": 16,
    "shuffle_buffer_size": 100,
    "activation": "relu",
    "deep_layers": [4],
    "lazyAdam_learning_rate": 0.01,
}
# With noise and dropout, whose state has to come back; without what only takes long to trace.
LEAN_DIFFUMIN = {"subseq_len": 0, "use_cmic": False, "infer_timesteps": 1, "dropout_rate": 0.1}
BIG_TABLE = {"use_omie": False, "subseq_len": 0, "embedding": {"kind": "hash", "rows": 300_000}}


def train(folder, exp, name, kills, moment):
    """Lets the command be killed; returns its folder and what happened."""
    arguments = [str(kills), moment, "7", "--exp", str(exp), "--model_dir", str(folder / name)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.killing", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / name, json.loads(done.stdout.splitlines()[-1])


def weights(path):
    reader = tf.train.load_checkpoint(path)
    names = [n for n in reader.get_variable_to_shape_map() if "SAVE_COUNTER" not in n.upper()]
    return {name: reader.get_tensor(name) for name in sorted(names)}


def assert_same_bits(one, other):
    assert one.keys() == other.keys() and one
    for name, value in one.items():
        if isinstance(value, bytes):
            assert value == other[name], name
        else:
            assert value.tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize(
    ("moment", "model"), [("steps", LEAN_DIFFUMIN), ("writing", BIG_TABLE)], ids=["steps", "saving"]
)
def test_twenty_kills_change_nothing(tmp_path, moment, model):
    exp = write_experiment(tmp_path, per_day=480, **SETTINGS, **model)
    whole, told = train(tmp_path, exp, "whole", 0, moment)
    assert told == {"kills": 0, "early_ends": 0, "exit_code": 0}
    killed, told = train(tmp_path, exp, "killed", KILLS, moment)
    assert told == {"kills": KILLS, "early_ends": 0, "exit_code": 0}
    log = (tmp_path / "killed.log").read_text()
    assert log.count("going on from step") >= KILLS // 2

    for folder in (checkpoints.LATEST, checkpoints.BEST):
        found = [checkpoints.complete(str(run / folder))[-1] for run in (whole, killed)]
        assert os.path.basename(found[0]) == os.path.basename(found[1])
        assert_same_bits(*(weights(path) for path in found))
    assert (whole / "metrics.json").read_bytes() == (killed / "metrics.json").read_bytes()
    # 2 epochs of 960 samples: none lost, none seen twice.
    last = checkpoints.complete(str(killed / checkpoints.LATEST))[-1]
    states = [v for v in weights(last).values() if isinstance(v, bytes) and b"samples" in v]
    assert [json.loads(state)["samples"] for state in states] == [1920]
