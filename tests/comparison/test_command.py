"""`diffumin compare`: what is run, what is not run again, what is reported."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import threading
import time
from unittest import mock

import numpy as np
import pytest

from diffumin_tf import cli
from diffumin_tf.comparison import command
from diffumin_tf.comparison.study import read_study
from diffumin_tf.config.task import REMOVED_KEYS
from diffumin_tf.errors import ConfigError, DataError, Preempted
from diffumin_tf.files import read_json, write_json
from diffumin_tf.run.lock import run_lock
from tests.comparison.fakes import FakeRuns, made_up_scores, write_study

ROOT = pathlib.Path(__file__).parents[2]
FINAL = ["strong__seed1", "weak__seed1", "strong__seed2", "weak__seed2"]


class Compared:
    """A folder in which a study runs, what was started last and what was reported."""

    def __init__(self, folder):
        self.folder, self.output, self.lines = folder, folder / "out", []

    def run(self, runs=None, jobs=1, keep_runs=False, overrides=(), **changes):
        self.lines.clear()
        self.runs = runs or FakeRuns()
        study, output = read_study(write_study(self.folder, **changes), overrides), str(self.output)
        report = self.lines.append
        return command.compare(study, output, jobs, keep_runs, "asked", report, self.runs)

    @property
    def started(self):
        return self.runs.started

    @property
    def json(self):
        return read_json(f"{self.output}/comparison.json")

    @property
    def markdown(self):
        return (self.output / "comparison.md").read_text()

    def cell(self, slug):
        return self.output / "cells" / slug


@pytest.fixture
def compared(folder, no_pictures):
    return Compared(folder)


def test_every_cell_runs_once_and_is_summed_up(compared):
    found = compared.run()
    assert compared.started == FINAL
    assert found == compared.json and "NaN" not in json.dumps(found)
    assert found["experiments"]["strong"]["seeds"] == [1, 2]
    assert found["experiments"]["strong"]["difference"]["auc"]["mean"] > 0.02
    assert found["experiments"]["weak"]["difference"] is None
    assert (found["command"], found["popularity_feature"]) == ("asked", "item")
    auc = found["experiments"]["strong"]["test"]["auc"]["values"][0]
    assert "running strong__seed1" in compared.lines
    assert f"[1/4] strong__seed1: test auc {auc:.4f}, 2.0 minutes" in compared.lines
    assert compared.lines[-1] == f"wrote {compared.output}/comparison.md"
    # Again, nothing is left to run; with another seed, its runs are.
    assert compared.run() == found and compared.started == []
    assert "4 of 4 runs were finished before" in compared.lines
    compared.run(seeds=[2, 3])
    assert compared.started == ["strong__seed3", "weak__seed3"]
    assert compared.json["experiments"]["weak"]["seeds"] == [2, 3]


def test_a_cell_whose_settings_differ_is_run_anew_and_the_old_one_kept(compared):
    compared.run()
    (compared.cell("strong__seed1") / "of-before").touch()
    task = compared.folder / "exp" / "task_conf.json"
    task.write_text(json.dumps({**json.loads(task.read_text()), "top_p": 31.0}))
    fixed = {"use_omie": False, "subseq_len": 0, "top_p": 30.0}
    rows = {"strong": {"exp": "exp"}, "weak": {"exp": "exp", "set": fixed}}
    compared.run(experiments=rows)
    assert compared.started == ["strong__seed1", "strong__seed2"]
    why = "(top_p 30.0, now 31.0); kept as strong__seed1.before-1, run anew"
    assert any(line.endswith(why) for line in compared.lines)
    assert not (compared.cell("strong__seed1") / "of-before").exists()
    assert (compared.cell("strong__seed1.before-1") / "of-before").exists()
    compared.run(overrides=["epoch=2"])
    for number in (1, 2):
        assert (compared.cell(f"strong__seed1.before-{number}") / "cell.json").exists()


def test_cells_of_another_version_have_the_same_settings_if_they_mean_the_same(compared):
    compared.run()
    path = str(compared.cell("strong__seed1") / "request.json")
    request = read_json(path)
    del request["settings"]["parallel_parts"], request["settings"]["embedding"]["initial_stddev"]
    # And of another device: what is left open now was settled there.
    request["settings"] |= {**REMOVED_KEYS, "jit_compile": True, "length_buckets": [10]}
    write_json(path, request)
    compared.run()
    assert compared.started == []
    compared.run(overrides=["parallel_parts=1"])
    assert compared.started == FINAL


def test_a_cell_that_was_cut_goes_on_in_its_folder(compared):
    compared.run(seeds=[2], keep_runs=True)
    (compared.cell("weak__seed2") / "cell.json").unlink()
    (compared.cell("weak__seed2") / "run" / "checkpoint").touch()
    compared.run(seeds=[2], keep_runs=True)
    assert compared.started == ["weak__seed2"]
    assert (compared.cell("weak__seed2") / "run" / "checkpoint").exists()


def test_settings_are_chosen_by_validation_for_every_experiment_by_itself(compared):
    def valid_auc(request):
        rate = request["settings"]["lazyAdam_learning_rate"]
        return 0.5 + (rate if request["experiment"] == "strong" else -rate)

    choose = {"lazyAdam_learning_rate": [0.01, 0.02, 0.03]}
    compared.run(FakeRuns(valid_auc=valid_auc), choose=choose, choose_seeds=[7])
    requests = list(compared.runs.requests.values())
    assert [r["scored"] for r in requests] == [None] * 6 + ["test"] * 4
    assert {request["seed"] for request in requests[:6]} == {7}
    rate_of = {(r["experiment"], r["settings"]["lazyAdam_learning_rate"]) for r in requests[6:]}
    assert rate_of == {("strong", 0.03), ("weak", 0.01)}
    assert compared.json["experiments"]["strong"]["chosen"] == {"lazyAdam_learning_rate": 0.03}
    assert "| strong | lazyAdam_learning_rate=0.03 | chosen | 0.5300 |" in compared.markdown
    assert "| weak | lazyAdam_learning_rate=0.03 |  | 0.4700 |" in compared.markdown


@pytest.mark.parametrize("keep_runs", [False, True])
def test_what_was_trained_to_choose_by_is_not_trained_again(compared, keep_runs):
    better = FakeRuns(valid_auc=lambda request: 0.1 * request["settings"]["epoch"])
    choose = {"choose": {"epoch": [1, 2]}, "choose_seeds": [2, 3]}
    compared.run(better, keep_runs=keep_runs, **choose)
    assert better.trained_before == ["strong__seed2", "weak__seed2"]
    kept = {path.parent.name for path in compared.output.glob("cells/*/run")}
    assert kept == (set(better.started) if keep_runs else set())
    assert (compared.cell("weak__seed2") / "log.txt").exists()
    # Another choice runs the final cells anew.
    worse = FakeRuns(valid_auc=lambda request: 0.1 * request["settings"]["epoch"])
    compared.run(worse, **{**choose, "choose": {"epoch": [1, 2, 3]}})
    assert worse.started[:2] == [f"{name}__choose_epoch=3__seed2" for name in ("strong", "weak")]
    assert worse.started[4:] == FINAL
    assert any("(epoch 2, now 3); kept as " in line for line in compared.lines)


def test_after_a_failing_cell_the_others_run_and_the_log_is_named(compared):
    with pytest.raises(command.CellsFailed) as error:
        compared.run(FakeRuns(failing=["strong__seed2"]))
    log = compared.cell("strong__seed2") / "log.txt"
    assert str(error.value) == f"1 runs failed:\n  strong__seed2: see {log}"
    assert log.read_text() == "strong__seed2 was here\n"
    assert compared.started == FINAL
    found = compared.json["experiments"]
    assert (found["strong"]["seeds"], found["weak"]["seeds"]) == ([1], [1, 2])
    assert found["strong"]["difference"]["seeds"] == [1]
    assert f"* strong__seed2: see {log}" in compared.markdown
    compared.run()
    assert compared.started == ["strong__seed2"]
    assert "failed" not in compared.markdown
    # Without the baseline there are no differences, but all else.
    with pytest.raises(command.CellsFailed):
        compared.run(FakeRuns(failing=["weak__seed4"]), seeds=[4])
    assert list(compared.json["experiments"]) == ["strong"]
    assert "Not here: strong" in compared.markdown


@pytest.mark.parametrize("is_failing", [True, False], ids=["failed", "without a validation AUC"])
def test_an_experiment_whose_choice_failed_is_left_out(compared, is_failing):
    slug, why = "strong__choose_epoch=1__seed1", "see "
    runs = FakeRuns(failing=[slug])
    if not is_failing:
        why = "no validation AUC: the labels of that split are all alike"
        runs = FakeRuns(valid_auc=lambda r: None if r["experiment"] == "strong" else 0.5)
    with pytest.raises(command.CellsFailed, match=f"  {slug}: {why}"):
        compared.run(runs, choose={"epoch": [1, 2]})
    assert f"* {slug}: {why}" in compared.markdown
    assert list(compared.json["experiments"]) == ["weak"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"popularity_feature": "itme"}, "cat_feature has no column 'itme'; did you mean 'item'"),
        ({"jobs": 0}, "--jobs 0"),
        ({"set": {"train_data_path": None}}, "train_data_path is not set"),
        ({"set": {"test_data_path": "gone"}}, "gone"),
    ],
)
def test_mistakes_are_found_before_anything_runs(compared, changes, message):
    with pytest.raises((ConfigError, DataError), match=message):
        compared.run(**changes)
    assert compared.started == [] and not compared.output.exists()


def test_two_commands_in_one_folder_are_refused(compared):
    with run_lock(str(compared.output)):
        with pytest.raises(ConfigError, match="another run works here .*choose another --output"):
            compared.run()
    assert compared.started == []


def test_speeds_beside_other_runs_are_marked(compared):
    compared.run(seeds=[1], jobs=2)
    assert "**Up to 2 runs shared the machine, each" in compared.markdown
    (compared.cell("weak__seed1") / "cell.json").unlink()
    compared.run()  # the other one was finished before
    assert compared.json["experiments"]["strong"]["jobs"] == [2, 1]
    assert "**Up to 2 runs shared the machine (strong), each" in compared.markdown
    compared.run(seeds=[2])
    assert "shared the machine" not in compared.markdown


def test_a_study_of_the_validation_split_has_no_test_split_at_all(compared):
    found = compared.run(split="valid", set={"test_data_path": "gone"}, choose={"epoch": [1, 2]})
    requests = compared.runs.requests.values()
    assert [request["scored"] for request in requests] == [None] * 4 + ["valid"] * 4
    assert {request["settings"]["test_data_path"] for request in requests} == {None}
    entry = found["experiments"]["strong"]
    assert (entry["valid"]["examples"], entry["test"]["auc"]) == (160, None)
    assert entry["difference"]["auc"]["mean"] > 0.02
    assert sum(row["samples"] for row in entry["slices"]["history"]) == 160
    assert "On the validation split of 160 samples: mean" in compared.markdown
    assert "No run had a test split" in compared.markdown and "Test split" not in compared.markdown


def test_a_split_of_one_class_has_no_auc(compared):
    runs, scores = FakeRuns(), made_up_scores("strong", 1)
    runs.scores = lambda request: dataclasses.replace(scores, labels=np.zeros(160))
    found = compared.run(runs)
    assert "[1/4] strong__seed1: test auc –, 2.0 minutes" in compared.lines
    assert found["experiments"]["strong"]["test"]["auc"] is None
    assert "| strong | 2 | – | – |" in compared.markdown


def test_runs_of_different_commits_are_listed(compared):
    compared.run()
    assert "same code" not in compared.markdown
    path = compared.cell("weak__seed1") / "cell.json"
    path.write_text(path.read_text().replace('"abc"', '"def"'))
    found = compared.run()["experiments"]
    assert [code["commit"] for code in found["weak"]["code"]] == ["def", "abc"]
    assert [code["commit"] for code in found["strong"]["code"]] == ["abc"]
    assert "**Not all runs are of the same code" in compared.markdown


def test_the_gpu_is_left_to_the_runs(monkeypatch):
    hidden, lines = [], []
    monkeypatch.setattr(command.tf.config, "set_visible_devices", lambda *a: hidden.append(a))
    command.leave_gpu_to_runs(lines.append)
    assert hidden == [([], "GPU")] and not lines

    too_late = mock.Mock(side_effect=RuntimeError)
    monkeypatch.setattr(command.tf.config, "set_visible_devices", too_late)
    command.leave_gpu_to_runs(lines.append)
    assert "has taken the GPU already" in lines[0]


def test_the_command_line_hands_over_what_was_asked_for(folder, monkeypatch, capsys):
    handed = []
    monkeypatch.setattr(command, "compare", lambda *arguments: handed.append(arguments))
    path = write_study(folder)
    assert cli.main(["compare", f"--study={path}", "--output", "o o", "--jobs=3"]) == 0
    assert cli.main(["compare", f"--study={path}", "--output=o", "--row=strong"]) == 0
    exp = str(folder / "exp")
    short = ["compare", "--exp", exp, "--seeds=1,2", "--output=o", "--keep_runs", "--set=epoch=2"]
    assert cli.main(short) == 0
    (study, *rest), (alone, *_), (by_flags, *others) = handed
    assert rest == ["o o", 3, False, f"diffumin compare --study={path} --output 'o o' --jobs=3"]
    assert list(study.experiments) == ["strong", "weak"]
    assert list(alone.experiments) == ["strong"]
    assert others[:3] == ["o", 1, True]
    assert (by_flags.seeds, by_flags.baseline, by_flags.set) == ([1, 2], "exp", {"epoch": 2})
    pathlib.Path(path).write_text("{}")
    assert cli.main(["compare", f"--study={path}", "--output=o"]) == 1
    assert f"error: {path}: experiments: Field required" in capsys.readouterr().err


def test_a_process_is_started_with_the_number_of_jobs(monkeypatch, tmp_path):
    asked = []

    def run(arguments, **settings):
        asked.append(settings)
        assert arguments[1:-1] == ["-m", "diffumin_tf.comparison.cell", str(tmp_path)]
        return subprocess.CompletedProcess(arguments, int(arguments[-1]))

    monkeypatch.setattr(command.subprocess, "run", run)
    for jobs in (1, 3):
        assert command._run_in_process(str(tmp_path), jobs, 7) == jobs
    assert ["TF_FORCE_GPU_ALLOW_GROWTH" in settings["env"] for settings in asked] == [False, True]
    assert asked[0]["start_new_session"] and asked[0]["stdin"] == 7
    assert asked[0]["stdout"].name == str(tmp_path / "log.txt")


def test_an_interrupted_comparison_ends_its_processes_and_goes_on(folder, monkeypatch):
    """With real processes."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # 200 steps: the first process does not finish before it is asked to end.
    plain = {"use_omie": False, "subseq_len": 0, "deep_layers": [8], "epoch": 5, "batch_size": 8}
    plain["save_checkpoints_steps"] = 40
    rows = {"a": {"exp": "exp"}}
    study = read_study(write_study(folder, experiments=rows, baseline="a", set=plain, seeds=[1]))
    output, lines = folder / "out", []
    cell = output / "cells" / "a__seed1"

    def interrupt_once_something_is_saved():
        until = time.monotonic() + 120
        while not list(cell.glob("run/checkpoints/*")) and time.monotonic() < until:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt_once_something_is_saved, daemon=True).start()
    with pytest.raises(Preempted):
        command.compare(study, str(output), report=lines.append)
    assert lines == ["running a__seed1"] and not (cell / "cell.json").exists()
    assert "start the same command again" in (cell / "log.txt").read_text()
    found = command.compare(study, str(output), report=lines.append)["experiments"]["a"]
    assert (found["steps"]["mean"], found["seconds"]) == (200, None)
    assert 0 < found["test"]["auc"]["mean"] < 1 and found["training_samples_per_second"]
    assert lines[-1] == f"wrote {output}/comparison.md" and not (cell / "run").exists()
