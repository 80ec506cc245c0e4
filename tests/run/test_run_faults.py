"""Faults that a run meets, each of them provoked: what it says, and that nothing is lost by it."""

import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from diffumin_tf import cli
from diffumin_tf.errors import ConfigError, DataError, NotFiniteError
from diffumin_tf.input.splits import files_of
from diffumin_tf.run.open import create_run
from diffumin_tf.run.train import train_run
from diffumin_tf.training import checkpoints
from tests.small_log import write_experiment
from tests.training.processes import ended, environment, start
from tests.training.test_kills import assert_same_bits, weights

# Without history, training traces in a second.
SETTINGS = {
    "use_omie": False,
    "subseq_len": 0,
    "activation": "relu",
    "batch_size": 32,
    "save_checkpoints_steps": 2,
}


def train(exp, model_dir, *overrides):
    """Trains; returns the lines of progress and the latest weights."""
    lines = []
    train_run(create_run(str(exp), str(model_dir), overrides, lines.append), lines.append)
    return lines, weights(checkpoints.complete(str(model_dir / checkpoints.LATEST))[-1])


def test_damaged_records_are_left_out_up_to_a_limit(tmp_path):
    exp = write_experiment(tmp_path, **SETTINGS)
    part = tmp_path / "data" / "20240101" / "part-00001"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 255
    part.write_bytes(content)
    with pytest.raises(
        DataError, match="20240101/part-00001: torn or damaged after [0-9]+ records"
    ):
        train(exp, tmp_path / "strict")
    with pytest.raises(DataError, match="more than max_bad_records 1"):
        train(exp, tmp_path / "lenient", "max_bad_records=1")
    lines, after_damage = train(exp, tmp_path / "lenient", "max_bad_records=80")
    (line,) = [line for line in lines if "20240101/part-00001: torn or damaged" in line]
    left_out = 80 - int(re.search("after ([0-9]+) records", line)[1])
    assert any(f"20240101: at least {left_out} records left out" in line for line in lines)
    state = [json.loads(v) for v in after_damage.values() if isinstance(v, bytes) and b"samp" in v]
    assert [s["samples"] for s in state] == [320 - left_out]


def test_a_file_that_vanishes_is_named_and_the_run_goes_on_once_it_is_back(tmp_path, monkeypatch):
    exp = write_experiment(tmp_path, **SETTINGS)
    _, whole = train(exp, tmp_path / "whole")
    part = tmp_path / "data" / "20240102" / "part-00000"
    experiment = create_run(str(exp), str(tmp_path / "cut"), report=lambda line: None)
    listed = files_of(experiment.config, experiment.schema, "train")
    part.rename(tmp_path / "elsewhere")
    with monkeypatch.context() as patch, pytest.raises(DataError, match="20240102/part-00000"):
        patch.setattr("diffumin_tf.run.train.files_of", lambda *arguments: listed)
        train_run(experiment, lambda line: None)
    (tmp_path / "elsewhere").rename(part)
    _, continued = train(exp, tmp_path / "cut")
    assert_same_bits(whole, continued)


def test_empty_files_and_days_are_no_fault(tmp_path):
    exp = write_experiment(tmp_path, **SETTINGS)
    (tmp_path / "data" / "20240102" / "part-00001").write_bytes(b"")
    shutil.rmtree(tmp_path / "data" / "20240101")
    (tmp_path / "data" / "20240101").mkdir()
    lines, _ = train(exp, tmp_path / "model")
    assert "train: no records on 20240101" in lines
    assert any("step 3: validation" in line for line in lines)


def test_a_weight_that_becomes_infinite_stops_the_run_or_leads_it_back(tmp_path):
    """As by a fault of the memory, for training looks at no moving variance: no loss shows it."""
    exp = write_experiment(tmp_path, **SETTINGS, epoch=2)

    def train_with_a_fault(name, *overrides):
        lines = []
        experiment = create_run(str(exp), str(tmp_path / name), overrides, lines.append)

        def report(line):
            if "validation" in line and not any("validation" in before for before in lines):
                variables = experiment.model.variables
                variance = next(v for v in variables if "moving_variance" in v.name)
                variance.assign(np.inf * np.ones(variance.shape))
            lines.append(line)

        train_run(experiment, report)
        return lines, weights(checkpoints.complete(f"{tmp_path / name}/{checkpoints.LATEST}")[-1])

    with pytest.raises(NotFiniteError, match="moving_variance.* is not finite; .*good checkpoint"):
        train_with_a_fault("stop")
    lines, found = train_with_a_fault("back", "max_rollbacks=1")
    (told,) = [line for line in lines if "back to the weights of step" in line]
    assert "(rollback 1 of 1)" in told
    assert all(np.isfinite(v).all() for v in found.values() if not isinstance(v, bytes))


def test_a_second_run_in_the_same_folder_is_refused(tmp_path, capsys):
    exp = write_experiment(tmp_path, **SETTINGS, epoch=10_000)
    model_dir = tmp_path / "model"
    with ended(start(tmp_path / "log", exp, model_dir)) as (first,):
        while not checkpoints.complete(str(model_dir / checkpoints.LATEST)):
            assert first.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        assert cli.main(["train", f"--exp={exp}", f"--model_dir={model_dir}"]) == 1
        assert f"another run works here (process {first.pid})" in capsys.readouterr().err
        assert first.poll() is None
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        create_run(str(exp), str(model_dir), ["seed=7"], report=lambda line: None)


# Mounts a small filesystem, trains until it is full, makes it larger, and trains again.
FULL_DISK = """
mount -t tmpfs -o size={small}k none {disk} || exit 77
{train} --model_dir={disk}/model > {folder}/full.log 2>&1; echo $? > {folder}/code
ls -A {disk}/model/checkpoints > {folder}/left
mount -o remount,size={large}k {disk}
{train} --model_dir={disk}/model > {folder}/again.log 2>&1
echo $? >> {folder}/code
cp -r {disk}/model {folder}/after
"""


def test_a_full_disk_keeps_what_was_saved_and_the_run_goes_on_with_more_room(tmp_path):
    table = {"kind": "hash", "rows": 40_000}  # a checkpoint of 1.3 MB
    exp = write_experiment(tmp_path, **SETTINGS, embedding=table)
    (tmp_path / "disk").mkdir()
    command = shlex.join([sys.executable, "-m", "diffumin_tf.cli", "train", f"--exp={exp}"])
    script = FULL_DISK.format(
        small=4_000, large=100_000, disk=tmp_path / "disk", folder=tmp_path, train=command
    )
    # A mount of its own for this script alone, for which no privilege is needed on most machines.
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    # Containers mostly allow neither mounts nor user namespaces, and nothing else is a full disk.
    # What is done about one is tested there too, by an error that is made up: test_trainer.
    if not (tmp_path / "code").exists():
        pytest.skip(f"this machine lets nobody mount a filesystem: {done.stderr.strip()}")
    assert (tmp_path / "code").read_text().split() == ["1", "0"], done.stderr
    told = (tmp_path / "full.log").read_text()
    assert "no space left on the disk" in told and "last good checkpoint: " in told
    assert "start the same command again" in told and "Traceback" not in told
    left = {pathlib.Path(name).stem for name in (tmp_path / "left").read_text().split()}
    left.discard("checkpoint")
    assert left and all(name.startswith("ckpt-") for name in left)
    assert "going on from step" in (tmp_path / "again.log").read_text()
    _, whole = train(exp, tmp_path / "whole")
    latest = checkpoints.complete(str(tmp_path / "after" / checkpoints.LATEST))[-1]
    assert_same_bits(whole, weights(latest))
