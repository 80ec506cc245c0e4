"""The command line: exit codes, messages, and where they go."""

import contextlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from diffumin_tf import cli
from diffumin_tf.run.open import open_run
from tests.small_log import write_experiment

ROOT = pathlib.Path(__file__).parents[1]
SETTINGS = ["--set", "epoch=2", "--set=deep_layers=[4]", "--set=embedding.rows=101"]


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    return write_experiment(folder, input_units=["handle_peer_unit:MeanPooling"])


@pytest.fixture(scope="module")
def model(exp):
    """Folder of a run that `train` made; what that printed lies beside it."""
    model = exp.parent / "model"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert cli.main(["train", "--exp", str(exp), f"--model_dir={model}", *SETTINGS]) == 0
    (model.parent / "printed").write_text(printed.getvalue())
    return model


def test_train_does_everything_and_set_wins(exp, model, capsys):
    printed = (model.parent / "printed").read_text()
    assert "20 steps at" in printed and "samples/s" in printed
    for split in ("valid", "test"):
        assert f"{split}: auc 0." in printed and "examples 160" in printed
    (version,) = (model / "export").iterdir()
    assert f"exported {version}" in printed
    written = json.loads((model / "config.json").read_text())
    assert (written["epoch"], written["deep_layers"]) == (2, [4])
    assert written["embedding"]["rows"] == 101
    assert list(json.loads((model / "metrics.json").read_text())) == ["valid", "test"]

    assert cli.main(["train", f"--exp={exp}", "--model_dir", str(model), *SETTINGS]) == 0
    assert f"{model}: finished after 20 steps; export {version}" in capsys.readouterr().out
    assert [version] == list((model / "export").iterdir())


def test_evaluate_prints_and_writes_the_metrics_of_one_split(model, tmp_path, capsys):
    copy = shutil.copytree(model, tmp_path / "model")
    (copy / "metrics.json").unlink()
    assert cli.main(["evaluate", "--model_dir", str(copy), "--split=valid"]) == 0
    valid = json.loads((model / "metrics.json").read_text())["valid"]
    assert capsys.readouterr().out.startswith(f"valid: auc {valid['auc']:.4f}  gauc ")
    assert json.loads((copy / "metrics.json").read_text()) == {"valid": valid}


def test_predict_writes_a_line_a_sample(model, tmp_path, capsys):
    folder = tmp_path / "scores"
    command = ["predict", f"--model_dir={model}", f"--output={folder}"]
    assert cli.main([*command, "--header", "--user"]) == 0
    assert f"160 predictions in 1 parts under {folder}" in capsys.readouterr().out
    header, *lines = (folder / "part-00000").read_text().splitlines()
    scores = open_run(str(model)).score("test")
    assert header == "label\tprediction\tuser" and len(lines) == 160
    label, prediction, user = lines[7].split("\t")
    assert (int(label), int(user)) == (scores.labels[7], scores.users[7])
    assert float(prediction) == pytest.approx(float(scores.pctr[7]), abs=1e-7)
    assert cli.main(command) == 1
    assert "exists already" in capsys.readouterr().err
    assert cli.main([*command[:2], f"--output={tmp_path}/more", "--passthrough=hour, day"]) == 1
    assert "--passthrough 'hour': no record has this key" in capsys.readouterr().err


def test_prepare_and_demo_are_handed_what_was_asked_for(monkeypatch, capsys):
    handed = []
    manifest = {
        "days": {"20240102": {"examples": 1200, "clicks": 300, "click_rate": 0.25}},
        "history_length": {"mean": 1.5},
        "group": None,
        "empty_histories": 0.25,
        "missing": {},
        "data": {"warnings": ["the sky is grey"]},
    }
    monkeypatch.setattr(
        "diffumin_tf.prepare.command.prepare", lambda *args: handed.append(args) or manifest
    )
    monkeypatch.setattr("diffumin_tf.run.demo.demo", lambda *args: handed.append(args))
    assert cli.main(["prepare", "--spec", "s", "--input", "i", "--output", "o"]) == 0
    shown = capsys.readouterr().out
    assert "1,200 impressions, click rate 0.2500\nwarning: the sky is grey\n" in shown
    assert "page: o/report.html\n" in shown
    slice_of_files = ["--jobs=3", "--slice=2/4", "--engine=spark", "--memory_limit=2GB"]
    assert (
        cli.main(["prepare", "--spec", "s", "--input", "i", "--output", "o", *slice_of_files]) == 0
    )
    assert cli.main(["demo"]) == 0
    assert cli.main(["demo", "--exp=X", "--model_dir=o", "--set=epoch=1"]) == 0
    assert handed[:2] == [
        ("s", "i", "o", None, (1, 1), "duckdb", None, "800MB", False),
        ("s", "i", "o", 3, (2, 4), "spark", None, "2GB", False),
    ]
    assert handed[2:] == [("Eleme_DiffuMIN", "runs/demo", []), ("X", "o", ["epoch=1"])]


TRAIN = ["train", "--exp=EXP"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--exp=nowhere"], "--exp 'nowhere': no task_conf.json in nowhere"),
        (TRAIN, "give --model_dir or set model_path"),
        ([*TRAIN, "--model_dir=m", "--set=strategy=multi_worker_mirrored"], "needs a cluster"),
        ([*TRAIN, "--job_name=worker", "--worker_hosts=a"], "'a' must read host:port"),
        ([*TRAIN, "--model_dir=m", "--set=epochs=1"], "did you mean 'epoch'?"),
        ([*TRAIN, "--model_dir=m", "--set=epoch"], "--set 'epoch': must read key="),
        ([*TRAIN, "--model_dir=m", "--set=test_data_start=20250101"], "test_data_end 20240104"),
        (["evaluate", "--model_dir=EXP"], "no trained run (config.json is missing)"),
        (["predict", "--model_dir=EXP", "--output=o"], "no trained run"),
        (["export", "--model_dir=nowhere"], "nowhere (relative to the working directory "),
        (["prepare", "--spec=gone", "--input=i", "--output=o"], "gone (relative to the "),
        (["demo", "--exp=KuaiRand_DiffuMIN"], "there is a demo for Eleme_DiffuMIN and Long_term"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_1(
    exp, capsys, monkeypatch, tmp_path, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert cli.main([argument.replace("EXP", str(exp)) for argument in arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ")
    assert message in printed.err and "Traceback" not in printed.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--exp=x", "--modeldir=y"], "Unknown command line flag"),
        (["train"], "--exp is required"),
        (["train", "--exp=x", "--ps_hosts=p:1"], "--job_name is required"),
        (["train", "--exp=x", "--job_name=boss"], "flag --job_name=boss: value"),
        (["daily", "--exp=x", "--model_dir=m", "--first=1"], "--last is required"),
        (["evaluate", "--split=test"], "--model_dir is required"),
        (["evaluate", "--model_dir=m", "--split=all"], "flag --split=all: value"),
        (["evaluate", "--model_dir=m", "--split=valid", "--expect=e"], "--expect"),
        (["evaluate", "--model_dir=m", "--row=r"], "--row goes with --expect"),
        (["predict", "--model_dir=m"], "--output is required"),
        (["export", "--model_dir=m", "now"], "unexpected argument 'now'"),
        (["demo", "Eleme_DiffuMIN"], "unexpected argument 'Eleme_DiffuMIN'"),
        (["prepare", "--spec=s", "--input=i"], "--output is required"),
        (["prepare", "--spec=s", "--output=o", "--slice=5/4"], "--slice 5/4: must be k/n with k"),
        (["compare", "--study=s"], "--output is required"),
        (["compare", "--output=o"], "give --study, or --exp and --seeds"),
        (["compare", "--output=o", "--exp=e"], "--seeds is required with --exp"),
        (["compare", "--output=o", "--exp=e", "--seeds=1", "--row=r"], "--row goes with --study"),
        (["compare", "--output=o", "--study=s", "--seeds=1"], "--seeds and"),
    ],
)
def test_wrong_usage_is_exit_code_2(capsys, arguments, message):
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith(f"diffumin {arguments[0]}: {message}")


CLUSTER = ["job_name", "task_index", "chief_hosts", "worker_hosts", "ps_hosts"]
FLAGS = {
    "prepare": ["spec", "input", "output", "jobs", "slice", "engine", "master", "memory_limit"]
    + ["print_sql", "join_only"],
    "train": ["exp", "model_dir", "set", *CLUSTER],
    "daily": ["exp", "model_dir", "set", "first", "last", *CLUSTER],
    "evaluate": ["model_dir", "split", "set", "expect", "row"],
    "predict": ["model_dir", "split", "set", "output", "header", "user", "passthrough"],
    "export": ["model_dir", "check", "keep"],
    "compare": ["study", "row", "exp", "seeds", "baseline", "output", "jobs", "keep_runs", "set"],
    "demo": ["exp", "model_dir", "set"],
}


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_its_flags(capsys, command, flag):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, flag])
    printed = capsys.readouterr()
    assert stop.value.code == 0 and printed.err == ""
    first, *lines = printed.out.splitlines()
    assert first == f"diffumin {command}"
    shown = {line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in lines}
    assert set(shown) == {f"--{name}" for name in [*FLAGS[command], "help"]}
    assert all(shown.values())


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["help"], 0), (["--help"], 0)])
def test_without_a_command_the_commands_are_listed(capsys, arguments, code):
    assert cli.main(arguments) == code
    printed = capsys.readouterr().out
    assert all(f"\n  {command} " in printed for command in cli.COMMANDS)


def test_a_run_of_the_program_prints_no_noise(model):
    environment = {n: v for n, v in os.environ.items() if not n.startswith("TF_")}
    command = [sys.executable, "-m", "diffumin_tf.cli", "evaluate", f"--model_dir={model}"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    auc = json.loads((model / "metrics.json").read_text())["test"]["auc"]
    assert done.stdout.startswith(f"test: auc {auc:.4f}")


def test_the_exit_code_of_the_program_is_that_of_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["diffumin", "trian"])
    with pytest.raises(SystemExit) as stop:
        cli.run()
    message = "diffumin: unknown command 'trian'\n\nusage: diffumin COMMAND"
    assert stop.value.code == 2 and capsys.readouterr().err.startswith(message)
