"""`diffumin compare` with made-up runs: what is run, what is not run again, what is told."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from diffumin_tf import cli
from diffumin_tf.comparison import command, plots
from diffumin_tf.comparison.cell_folder import CellFolder
from diffumin_tf.comparison.study import read_study
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.run.lock import run_lock
from tests.comparison.fakes import FakeStart, write_study

FINAL = ["strong__seed1", "weak__seed1", "strong__seed2", "weak__seed2"]


class Compared:
    """A folder in which a study runs, and what was told."""

    def __init__(self, folder):
        self.folder, self.output, self.lines = folder, folder / "out", []

    def run(self, start=None, jobs=1, keep_runs=False, overrides=(), **changes):
        self.lines.clear()
        self.start = start or FakeStart()
        study = read_study(write_study(self.folder, **changes), overrides)
        return command.compare(
            study, str(self.output), jobs, keep_runs, "asked", self.lines.append, self.start
        )

    @property
    def json(self):
        return json.loads((self.output / "comparison.json").read_text())

    @property
    def markdown(self):
        return (self.output / "comparison.md").read_text()

    def cell(self, slug):
        return self.output / "cells" / slug


@pytest.fixture
def compared(folder):
    return Compared(folder)


def test_every_cell_runs_once_and_is_summed_up(compared):
    found = compared.run()
    assert compared.start.started == FINAL
    assert found == compared.json
    assert found["experiments"]["strong"]["seeds"] == [1, 2]
    assert found["experiments"]["strong"]["difference"]["auc"]["mean"] > 0.02
    assert found["experiments"]["weak"]["difference"] is None
    assert (found["command"], found["popularity_feature"]) == ("asked", "item")
    auc = found["experiments"]["strong"]["test"]["auc"]["values"][0]
    told = ["running strong__seed1", f"[1/4] strong__seed1: test auc {auc:.4f}, 2.0 minutes"]
    assert compared.lines[:2] == told
    assert compared.lines[-1] == f"wrote {compared.output}/comparison.md"


def test_finished_cells_are_not_run_again(compared):
    before = compared.run()
    assert compared.run() == before
    assert compared.start.started == []
    assert "4 of 4 runs were finished before" in compared.lines


def test_a_study_that_grew_runs_what_is_new(compared):
    compared.run()
    compared.run(seeds=[2, 3])
    assert compared.start.started == ["strong__seed3", "weak__seed3"]
    assert compared.json["experiments"]["weak"]["seeds"] == [2, 3]


def test_a_cell_whose_settings_differ_is_run_anew_and_told(compared):
    compared.run()
    (compared.cell("strong__seed1") / "of-before").touch()
    task = compared.folder / "exp" / "task_conf.json"
    task.write_text(json.dumps({**json.loads(task.read_text()), "top_p": 31.0}))
    mine = {"strong": {"exp": "exp"}, "weak": {"exp": "exp", "set": {"top_p": 30.0}}}
    mine["weak"]["set"] |= {"use_omie": False, "subseq_len": 0}
    compared.run(experiments=mine)
    assert compared.start.started == ["strong__seed1", "strong__seed2"]
    told = "holds a run with other settings (top_p 30.0, now 31.0); kept as strong__seed1.before-1"
    assert f"{compared.cell('strong__seed1')}: {told}, run anew" in compared.lines
    assert not (compared.cell("strong__seed1") / "of-before").exists()
    assert (compared.cell("strong__seed1.before-1") / "of-before").exists()
    compared.run(overrides=["epoch=2"])
    for number in (1, 2):
        assert (compared.cell(f"strong__seed1.before-{number}") / "cell.json").exists()


def test_a_key_that_came_into_being_since_then_had_its_default(compared):
    compared.run()
    path = compared.cell("strong__seed1") / "request.json"
    request = json.loads(path.read_text())
    del request["settings"]["parallel_parts"], request["settings"]["embedding"]["initial_stddev"]
    path.write_text(json.dumps(request))
    compared.run()
    assert compared.start.started == []
    compared.run(overrides=["parallel_parts=1"])
    assert compared.start.started == FINAL


def test_a_cell_that_was_cut_goes_on_in_its_folder(compared):
    compared.run(keep_runs=True)
    (compared.cell("weak__seed1") / "cell.json").unlink()
    (compared.cell("weak__seed1") / "run" / "checkpoint").touch()
    compared.run(keep_runs=True)
    assert compared.start.started == ["weak__seed1"]
    assert (compared.cell("weak__seed1") / "run" / "checkpoint").exists()


def test_runs_are_removed_unless_they_are_to_be_kept(compared):
    compared.run(seeds=[1])
    compared.run(seeds=[1, 2], keep_runs=True)
    kept = [slug for slug in FINAL if (compared.cell(slug) / "run").exists()]
    assert kept == ["strong__seed2", "weak__seed2"]
    assert (compared.cell("weak__seed1") / "log.txt").exists()


def test_settings_are_chosen_by_validation_for_every_experiment_by_itself(compared):
    def valid_auc(request):
        rate = request["settings"]["lazyAdam_learning_rate"]
        return 0.5 + (rate if request["experiment"] == "strong" else -rate)

    rates = [0.01, 0.02, 0.03]
    found = compared.run(
        FakeStart(valid_auc=valid_auc), choose={"lazyAdam_learning_rate": rates}, choose_seeds=[7]
    )
    requests = compared.start.requests
    assert [r["scored"] for r in requests] == [None] * 6 + ["test"] * 4
    for request in requests[:6]:
        assert request["seed"] == 7
        assert (
            request["settings"]["test_data_start"] is request["settings"]["test_data_end"] is None
        )
    rate_of = {(r["experiment"], r["settings"]["lazyAdam_learning_rate"]) for r in requests[6:]}
    assert rate_of == {("strong", 0.03), ("weak", 0.01)}
    assert found["experiments"]["strong"]["chosen"] == {"lazyAdam_learning_rate": 0.03}
    assert "| strong | lazyAdam_learning_rate=0.03 | chosen | 0.5300 |" in compared.markdown
    assert "| weak | lazyAdam_learning_rate=0.03 |  | 0.4700 |" in compared.markdown


@pytest.mark.parametrize("keep_runs", [False, True])
def test_what_was_trained_to_choose_by_is_not_trained_again(compared, keep_runs):
    better = FakeStart(valid_auc=lambda request: 0.1 * request["settings"]["epoch"])
    compared.run(better, keep_runs=keep_runs, choose={"epoch": [1, 2]}, choose_seeds=[2, 3])
    assert better.trained_before == ["strong__seed2", "weak__seed2"]
    kept = {path.parent.name for path in compared.output.glob("cells/*/run")}
    assert kept == (set(better.started) if keep_runs else set())


def test_another_choice_runs_the_final_cells_anew(compared):
    def by_epoch(sign):
        return lambda request: 0.5 + sign * 0.1 * request["settings"]["epoch"]

    compared.run(FakeStart(valid_auc=by_epoch(1)), choose={"epoch": [1, 2]})
    compared.run(FakeStart(valid_auc=by_epoch(1)), choose={"epoch": [1, 2, 3]})
    assert compared.start.started[:2] == [f"{n}__choose_epoch=3__seed1" for n in ("strong", "weak")]
    assert compared.start.started[2:] == FINAL
    assert any("(epoch 2, now 3); kept as " in line for line in compared.lines)


def test_after_a_failing_cell_the_others_run_and_the_log_is_named(compared):
    with pytest.raises(command.CellsFailed) as error:
        compared.run(FakeStart(failing=["strong__seed2"]))
    log = compared.cell("strong__seed2") / "log.txt"
    assert str(error.value) == f"1 runs failed:\n  strong__seed2: see {log}"
    assert log.read_text() == "strong__seed2 was here\n"
    assert compared.start.started == FINAL
    found = compared.json["experiments"]
    assert (found["strong"]["seeds"], found["weak"]["seeds"]) == ([1], [1, 2])
    assert found["strong"]["difference"]["seeds"] == [1]
    assert f"* strong__seed2: see {log}" in compared.markdown
    compared.run()
    assert compared.start.started == ["strong__seed2"]
    assert "failed" not in compared.markdown


def test_without_the_baseline_there_are_no_differences_but_all_else(compared):
    with pytest.raises(command.CellsFailed):
        compared.run(FakeStart(failing=["weak__seed1", "weak__seed2"]))
    assert list(compared.json["experiments"]) == ["strong"]
    assert "Not here: strong, scored on other samples than the baseline, or" in (compared.markdown)


def test_an_experiment_whose_choice_failed_is_left_out(compared):
    with pytest.raises(command.CellsFailed, match="strong__choose_epoch=1__seed1: see"):
        compared.run(FakeStart(failing=["strong__choose_epoch=1__seed1"]), choose={"epoch": [1, 2]})
    assert list(compared.json["experiments"]) == ["weak"]


def test_a_choice_without_a_validation_auc_is_told(compared):
    def undefined(request):
        return None if request["experiment"] == "strong" else 0.5

    with pytest.raises(command.CellsFailed) as error:
        compared.run(FakeStart(valid_auc=undefined), choose={"epoch": [1, 2]})
    why = "no validation AUC: the labels of that split are all alike"
    assert f"  strong__choose_epoch=1__seed1: {why}\n" in str(error.value)
    assert f"* strong__choose_epoch=2__seed1: {why}" in compared.markdown
    assert list(compared.json["experiments"]) == ["weak"]


def test_two_commands_in_one_folder_are_refused(compared):
    with run_lock(str(compared.output)):
        with pytest.raises(ConfigError, match="another run works here .*choose another --output"):
            compared.run()
    assert compared.start.started == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"popularity_feature": "itme"}, "cat_feature has no column 'itme'; did you mean 'item'"),
        ({"jobs": 0}, "--jobs 0: give 1 or more"),
        ({"set": {"train_data_path": None}}, "train_data_path is not set"),
        ({"set": {"test_data_path": "gone"}}, "gone"),
    ],
)
def test_mistakes_are_found_before_anything_runs(compared, changes, told):
    with pytest.raises((ConfigError, DataError), match=told):
        compared.run(**changes)
    assert compared.start.started == [] and not compared.output.exists()


def test_speeds_beside_other_runs_are_marked(compared):
    compared.run(seeds=[1], jobs=2)
    assert compared.json["experiments"]["weak"]["jobs"] == [2]
    told = "**Up to 2 runs shared the machine, each"
    assert told in compared.markdown
    compared.run()  # which finds half of them finished
    assert compared.json["experiments"]["weak"]["jobs"] == [2, 1]
    assert told in compared.markdown
    (compared.cell("weak__seed1") / "cell.json").unlink()
    compared.run()
    assert "**Up to 2 runs shared the machine (strong), each" in compared.markdown
    compared.run(seeds=[2])
    assert "shared the machine" not in compared.markdown


def test_a_study_of_the_validation_split_has_no_test_split_at_all(compared):
    found = compared.run(split="valid", set={"test_data_path": "gone"}, choose={"epoch": [1, 2]})
    for request in compared.start.requests:
        settings = request["settings"]
        assert {settings[f"test_data_{what}"] for what in ("path", "start", "end")} == {None}
    assert [r["scored"] for r in compared.start.requests] == [None] * 4 + ["valid"] * 4
    entry = found["experiments"]["strong"]
    assert (found["split"], entry["valid"]["examples"], entry["test"]["auc"]) == (
        "valid",
        160,
        None,
    )
    assert entry["difference"]["auc"]["mean"] > 0.02
    assert sum(row["samples"] for row in entry["slices"]["history"]) == 160
    auc = entry["valid"]["auc"]["values"][0]
    assert f"[1/4] strong__seed1: valid auc {auc:.4f}, 2.0 minutes" in compared.lines
    assert "## Validation split" in compared.markdown
    assert "On the validation split of 160 samples: mean" in compared.markdown
    assert "No run had a test split" in compared.markdown
    assert "test samples" not in compared.markdown and "Test split" not in compared.markdown


def test_a_split_of_one_class_has_no_auc_and_is_told_so(compared):
    class OneClass(FakeStart):
        def __call__(self, path, jobs):
            process = super().__call__(path, jobs)
            cell = CellFolder(path)
            scores = cell.scores()
            scores = dataclasses.replace(scores, labels=np.zeros_like(scores.labels))
            cell.write_scores(scores)
            cell.write("cell.json", {**cell.result(), "test": scores.metrics(), "seconds": None})
            return process

    found = compared.run(OneClass())
    assert "[1/4] strong__seed1: test auc –, – minutes" in compared.lines
    assert found["experiments"]["strong"]["test"]["auc"] is None
    assert "| strong | 2 | – | – |" in compared.markdown


def test_runs_of_different_commits_are_told(compared):
    compared.run()
    assert "same code" not in compared.markdown
    path = compared.cell("weak__seed1") / "cell.json"
    later = {"version": "0.1.0", "commit": "def"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "code": later}))
    found = compared.run()["experiments"]
    assert [code["commit"] for code in found["weak"]["code"]] == ["def", "abc"]
    assert [code["commit"] for code in found["strong"]["code"]] == ["abc"]
    assert "**Not all runs are of the same code" in compared.markdown
    assert "* weak: diffumin_tf 0.1.0, commit def; diffumin_tf 0.1.0, commit abc" in (
        compared.markdown
    )


def test_the_gpu_is_left_to_the_runs(compared, monkeypatch):
    hidden = []
    monkeypatch.setattr(
        command.tf.config, "set_visible_devices", lambda *arguments: hidden.append(arguments)
    )
    compared.run(seeds=[1])
    assert hidden == [([], "GPU")]

    def too_late(*arguments):
        raise RuntimeError

    monkeypatch.setattr(command.tf.config, "set_visible_devices", too_late)
    compared.run(seeds=[1])
    assert "has taken the GPU already" in compared.lines[0]


def test_without_matplotlib_one_line_says_how_to_get_plots(compared, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    compared.run(seeds=[1])
    told = [line for line in compared.lines if "plots" in line]
    assert told == ["no plots, because matplotlib is missing: pip install '.[bench]'"]
    assert not (compared.output / plots.DIFFERENCES).exists()


def test_the_command_line_hands_over_what_was_asked_for(folder, monkeypatch, capsys):
    handed = []
    monkeypatch.setattr(command, "compare", lambda *arguments: handed.append(arguments))
    path = write_study(folder)
    assert cli.main(["compare", f"--study={path}", "--output", "o o", "--jobs=3"]) == 0
    exp = str(folder / "exp")
    short = ["compare", "--exp", exp, "--seeds=1,2", "--output=o", "--keep_runs", "--set=epoch=2"]
    assert cli.main(short) == 0
    (study, *rest), (by_flags, *others) = handed
    assert rest == ["o o", 3, False, f"diffumin compare --study={path} --output 'o o' --jobs=3"]
    assert list(study.experiments) == ["strong", "weak"]
    assert others[:3] == ["o", 1, True]
    assert (by_flags.seeds, by_flags.baseline, by_flags.set) == ([1, 2], "exp", {"epoch": 2})
    pathlib.Path(path).write_text("{}")
    assert cli.main(["compare", f"--study={path}", "--output=o"]) == 1
    assert f"error: {path}: experiments: Field required" in capsys.readouterr().err
