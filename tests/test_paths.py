"""Paths in messages say what they are relative to, and names that are patterns are refused."""

import os

import pytest

from diffumin_tf import cli
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.files import staged_directory
from diffumin_tf.input.splits import list_files
from diffumin_tf.lock import exclusive
from diffumin_tf.paths import from_where, has_wildcards
from tests.small_log import write_experiment


def test_what_a_relative_path_is_relative_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        from_where("a")
        == from_where("/a", "a")
        == f" (relative to the working directory {tmp_path})"
    )
    assert from_where("/a", "gs://b/c") == from_where() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--exp=gone", "--model_dir=m"], "no task_conf.json in gone, ./exp/user1/gone"),
        (["train", "--exp=exp", "--model_dir=m"], "train_data_path: 'data'{} is no folder"),
        (
            ["train", "--exp=exp", "--model_dir=m", "--set=train_data_path=x/*"],
            "train_data_path: no file matches 'x/*'{}",
        ),
        (
            ["train", "--exp=exp", "--model_dir=m", "--set=train_data_path=empty"],
            "train_data_path: 'empty'{} holds no records",
        ),
        (
            ["train", "--exp=exp", "--model_dir=m", "--set=train_data_path=DATA"]
            + ["--set=pretrain_model_dir=old"],
            "pretrain_model_dir 'old'{}: no run",
        ),
        (
            ["train", "--exp=exp", "--model_dir=m", "--set=train_data_path=DATA"]
            + ["--set=embedding.kind=vocabulary", "--set=embedding.path=ids.txt"],
            "embedding.path: ids.txt{}: no vocabulary",
        ),
        (["train", "--exp=bare", "--model_dir=m"], "neither bare/data_struct.json nor data/"),
        (["train", "--exp=exp", "--model_dir=exp/task_conf.json/m"], "m{}: cannot be made: Not a"),
        (["evaluate", "--model_dir=gone"], "gone{}: no trained run"),
        (["prepare", "--spec=gone.json", "--output=o"], "gone.json{}: cannot be read"),
    ],
)
def test_a_relative_path_that_leads_nowhere(tmp_path, monkeypatch, capsys, arguments, message):
    exp = write_experiment(tmp_path / "made", train_data_path="data")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare").mkdir()
    os.rename(exp, tmp_path / "exp")
    (tmp_path / "bare" / "task_conf.json").write_text(
        (tmp_path / "exp" / "task_conf.json").read_text()
    )
    arguments = [argument.replace("DATA", f"{tmp_path}/made/data") for argument in arguments]
    assert cli.main(arguments) == 1
    said, where = capsys.readouterr().err, f" (relative to the working directory {tmp_path})"
    assert message.format(where) in said and where in said


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        ("train --exp=exp", "model_dir"),
        ("train --exp=exp", "set=model_path"),
        ("daily --exp=exp --first=20240101 --last=20240102", "model_dir"),
        ("demo", "model_dir"),
        ("evaluate", "model_dir"),
        ("predict --output=o", "model_dir"),
        ("export", "model_dir"),
        ("compare --exp=exp --seeds=1", "output"),
    ],
)
def test_a_folder_whose_name_is_a_pattern_is_refused(tmp_path, monkeypatch, capsys, command, flag):
    write_experiment(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main([*command.split(), f"--{flag}=runs/a[1]"]) == 1
    said = capsys.readouterr().err
    assert "runs/a[1]" in said and "choose a name without any of * ? [" in said
    assert not (tmp_path / "runs").exists() or os.listdir(tmp_path / "runs") == []


@pytest.mark.parametrize("name", ["a[1]", "a*", "a?", "a\\b", "gs://b/a*"])
def test_outputs_of_such_names_are_refused_too(name):
    assert has_wildcards(name)
    for hold in (lambda: exclusive(name, "prepare"), lambda: staged_directory(name)):
        with pytest.raises(ConfigError, match="^--output .*choose a name without"):
            hold().__enter__()


def test_records_in_a_folder_of_such_a_name_are_found(tmp_path):
    for day in ("20240101", "20240102"):
        (tmp_path / "of [me]*" / day).mkdir(parents=True)
        (tmp_path / "of [me]*" / day / "part-0").touch()
    folder = str(tmp_path / "of [me]*")
    assert list_files(folder, 20240102, None, "train") == [f"{folder}/20240102/part-0"]
    with pytest.raises(DataError, match="there is 20240101 to 20240102"):
        list_files(folder, 20250101, None, "train")
