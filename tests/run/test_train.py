"""Training a run: what it leaves, how it goes on, and faults that it meets."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from diffumin_tf import cli
from diffumin_tf.errors import ConfigError, DataError, NotFiniteError, TrainingError
from diffumin_tf.input.splits import files_of
from diffumin_tf.run.lock import run_lock
from diffumin_tf.run.open import create_run
from diffumin_tf.run.train import train_run
from diffumin_tf.training import checkpoints
from tests.small_log import write_experiment
from tests.training.forks import environment
from tests.training.test_kills import assert_same_bits, values

# Without history, training traces in a second.
SETTINGS = {
    "use_omie": False,
    "subseq_len": 0,
    "activation": "relu",
    "deep_layers": [4],
    "batch_size": 32,
    "save_checkpoints_steps": 2,
}


def train(exp, model_dir, *overrides):
    """Trains; returns the lines of progress and everything in the latest checkpoint."""
    lines = []
    run = create_run(str(exp), str(model_dir), overrides, lines.append)
    train_run(run, lines.append)
    return lines, values(checkpoints.latest(str(model_dir)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An experiment, and a run of it that went all the way."""
    folder = tmp_path_factory.mktemp("whole")
    exp = write_experiment(folder, **SETTINGS)
    return exp, folder / "model", train(exp, folder / "model")[1]


def test_a_run_trains_and_leaves_what_later_commands_need(trained):
    assert trained.result.steps == trained.result.best_step == 10
    assert trained.result.best_auc == trained.metrics["valid"]["auc"]
    assert any("diffusion_loss" in line and "samples/s" in line for line in trained.lines)
    assert any("validation auc" in line for line in trained.lines)
    files = "config.json data_struct.json metrics.json vocabulary.txt vocabulary_pending.npy"
    expected = {"best", "checkpoints", "export", "logs", *files.split()}
    assert set(os.listdir(trained.model_dir)) == expected
    assert trained.export.parent == trained.model_dir / "export" and trained.export.name.isdigit()


def test_candidates_and_users_without_a_row_are_counted_before_training(tmp_path):
    # An item is seen some 50 to 150 times, as a candidate or in a history.
    rare = {"kind": "vocabulary", "min_count": 60}
    exp = write_experiment(tmp_path, **{**SETTINGS, "embedding": rare})
    run = create_run(str(exp), str(tmp_path / "model"), report=lambda line: None)
    fields = np.concatenate([batch.fields.numpy() for batch in run.batches("valid").epoch()])
    user, item = (np.mean(fields[:, column] == 0) for column in (0, 1))
    assert 0 < item < 1
    with open(tmp_path / "model" / "vocabulary.txt") as file:
        count = len(file.readlines())
    assert re.fullmatch(rf"vocabulary: {count:,} ids, loaded in \d+\.\d s", run.loaded)
    assert run.rows_missing("valid") == (
        f"valid: {item:.1%} of the candidates (item) and {user:.1%} of the users (user) have no "
        f"embedding row ({len(fields)} samples looked at)"
    )


def test_a_run_that_is_done_is_continued_with_more_epochs_but_not_with_other_settings(
    whole, tmp_path
):
    exp, model_dir, _ = whole
    shutil.copytree(model_dir, tmp_path / "model")
    lines, _ = train(exp, tmp_path / "model", "epoch=2")
    assert "epoch was 1, is 2 from here on" in lines
    assert "going on from step 10, epoch 1" in lines
    assert any("step 20: validation" in line for line in lines)
    with pytest.raises(ConfigError, match="holds a run with other settings: .*seed 1 .now 2."):
        train(exp, tmp_path / "model", "epoch=2", "seed=2")


def test_another_seed_gives_other_weights(whole, tmp_path):
    exp, _, weights = whole
    other = train(exp, tmp_path / "other", "seed=2")[1]
    key = "model/tower/logit/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    assert (other[key] != weights[key]).all()


def test_a_second_run_in_the_same_folder_is_refused(whole, tmp_path, capsys):
    with run_lock(str(tmp_path / "model")):
        assert cli.main(["train", f"--exp={whole[0]}", f"--model_dir={tmp_path}/model"]) == 1
    assert f"another run works here (process {os.getpid()} on " in capsys.readouterr().err


def test_a_damaged_file_is_named_while_training(tmp_path):
    exp = write_experiment(tmp_path, **SETTINGS)
    part = tmp_path / "data" / "20240102" / "part-00001"
    os.truncate(part, part.stat().st_size - 10)
    with pytest.raises(DataError, match="20240102/part-00001: .* after 79 records"):
        train(exp, tmp_path / "strict")
    lines, _ = train(exp, tmp_path / "lenient", "max_bad_records=1")
    assert any("20240102/part-00001: " in line for line in lines)


def test_a_file_that_vanishes_is_named_and_the_run_goes_on_once_it_is_back(
    whole, tmp_path, monkeypatch
):
    exp = write_experiment(tmp_path, **SETTINGS)
    part = tmp_path / "data" / "20240102" / "part-00000"
    run = create_run(str(exp), str(tmp_path / "cut"), report=lambda line: None)
    listed = files_of(run.config, run.schema, "train")
    part.rename(tmp_path / "elsewhere")
    with monkeypatch.context() as patch, pytest.raises(DataError, match="20240102/part-00000"):
        patch.setattr("diffumin_tf.run.open.files_of", lambda *arguments: listed)
        train_run(run, lambda line: None)
    (tmp_path / "elsewhere").rename(part)
    assert_same_bits(whole[2], train(exp, tmp_path / "cut")[1])


def test_empty_files_and_days_are_no_fault(tmp_path):
    exp = write_experiment(tmp_path, **SETTINGS)
    (tmp_path / "data" / "20240102" / "part-00001").write_bytes(b"")
    shutil.rmtree(tmp_path / "data" / "20240101")
    (tmp_path / "data" / "20240101").mkdir()
    lines, _ = train(exp, tmp_path / "model")
    assert "train: no records on 20240101" in lines
    assert any("step 3: validation" in line for line in lines)


def test_a_loss_that_is_not_finite_stops_the_run_at_its_first_step(whole, tmp_path):
    run = create_run(str(whole[0]), str(tmp_path / "model"), report=lambda line: None)
    table = run.model.embedding.table
    table.assign(np.full(table.shape, np.nan))
    with pytest.raises(TrainingError, match="step 1: the loss is not finite"):
        train_run(run, lambda line: None)


def test_a_weight_that_becomes_infinite_stops_the_run_or_leads_it_back(whole, tmp_path):
    """As by a fault of the memory, for training looks at no moving variance: no loss shows it."""

    def train_with_a_fault(name, *overrides):
        lines, overrides = [], ["epoch=2", *overrides]
        run = create_run(str(whole[0]), str(tmp_path / name), overrides, lines.append)

        def report(line):
            if "validation" in line and not any("validation" in before for before in lines):
                variables = run.model.variables
                variance = next(v for v in variables if "moving_variance" in v.name)
                variance.assign(np.inf * np.ones(variance.shape))
            lines.append(line)

        train_run(run, report)
        return lines, values(checkpoints.latest(str(tmp_path / name)))

    with pytest.raises(NotFiniteError, match="moving_variance.* is not finite; .*good checkpoint"):
        train_with_a_fault("stop")
    lines, found = train_with_a_fault("back", "max_rollbacks=1")
    assert any("back to the weights of step" in line for line in lines)
    assert all(np.isfinite(v).all() for v in found.values() if not isinstance(v, bytes))


# Mounts a small filesystem, trains until it is full, makes it larger, and trains again.
FULL_DISK = """
mount -t tmpfs -o size=4000k none {disk} || exit 77
{train} --model_dir={disk}/model > {folder}/full.log 2>&1; echo $? > {folder}/code
ls -A {disk}/model/checkpoints > {folder}/left
mount -o remount,size=100000k {disk}
{train} --model_dir={disk}/model > {folder}/again.log 2>&1
echo $? >> {folder}/code
cp -r {disk}/model {folder}/after
"""


@pytest.mark.soak
def test_a_full_disk_keeps_what_was_saved_and_the_run_goes_on_with_more_room(tmp_path):
    table = {"kind": "hash", "rows": 40_000}  # a checkpoint of 1.3 MB
    exp = write_experiment(tmp_path, **SETTINGS, embedding=table)
    (tmp_path / "disk").mkdir()
    command = shlex.join([sys.executable, "-m", "diffumin_tf.cli", "train", f"--exp={exp}"])
    script = FULL_DISK.format(disk=tmp_path / "disk", folder=tmp_path, train=command)
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
    # What is done about one is tested there too, by an error that is made up: test_loop.
    if not (tmp_path / "code").exists():
        pytest.skip(f"this machine lets nobody mount a filesystem: {done.stderr.strip()}")
    assert (tmp_path / "code").read_text().split() == ["1", "0"], done.stderr
    printed = (tmp_path / "full.log").read_text()
    assert "no space left on the disk" in printed and "last good checkpoint: " in printed
    assert "start the same command again" in printed and "Traceback" not in printed
    left = {pathlib.Path(name).stem for name in (tmp_path / "left").read_text().split()}
    left.discard("checkpoint")
    assert left and all(name.startswith("ckpt-") for name in left)
    assert "going on from step" in (tmp_path / "again.log").read_text()
    _, found = train(exp, tmp_path / "whole")
    assert_same_bits(found, values(checkpoints.latest(str(tmp_path / "after"))))
