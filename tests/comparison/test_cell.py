"""One cell: what it trains, scores, measures and leaves; and the whole command with real cells."""

import json
import pathlib
import shutil

import pytest

from diffumin_tf import cli
from diffumin_tf.comparison import cell as cell_module
from diffumin_tf.comparison import measures
from diffumin_tf.comparison.cell import run_cell
from diffumin_tf.comparison.cell_folder import CellFolder
from diffumin_tf.comparison.cells import choosing_cells, final_cells
from diffumin_tf.comparison.study import read_study
from diffumin_tf.run import folder as run_folder
from diffumin_tf.run.experiment import Experiment
from tests.comparison.fakes import write_study

PLAIN = {"use_omie": False, "subseq_len": 0, "activation": "relu", "deep_layers": [8]}


class Cut(Exception):
    """What ends a cell in its middle."""


def cut(*arguments):
    raise Cut


def prepared(folder, made, **changes):
    """The folder of the first cell that is made of a study, ready to run."""
    study = read_study(write_study(folder, set=PLAIN, **changes))
    cell = made(study)[0]
    ready = CellFolder(str(folder / "cells" / cell.slug))
    ready.prepare(cell, print)
    return ready


def first_final(study):
    return final_cells(study, {"weak": {}})


@pytest.fixture(scope="module")
def finished(log, tmp_path_factory):
    """A cell that came to its end, and what it told."""
    folder, lines = tmp_path_factory.mktemp("finished"), []
    shutil.copytree(log / "exp", folder / "exp")
    ready = prepared(folder, first_final)
    run_cell(ready.path, lines.append)
    return ready, lines


def test_a_cell_leaves_what_the_table_needs(finished):
    ready, lines = finished
    result = ready.result()
    assert ready.is_finished
    scores = ready.scores()
    assert len(scores.labels) == 160 and scores.users.dtype == "int64"
    assert result["test"] == scores.metrics()
    model = Experiment.open(ready.file("run"))
    assert result["test"] == model.score("test").metrics()
    assert result["valid"] == model.score("valid").metrics()
    assert (result["steps"], result["seed"], result["experiment"]) == (10, 1, "weak")
    assert result["settings"] == model.config.model_dump(mode="json")
    for measured in ("training_samples_per_second", "scoring_samples_per_second", "seconds"):
        assert result[measured] > 0
    # 4 fields of width 4 and 1 dense value, normalised: 17 → 8, normalised → 1.
    dense = 2 + 17 * 8 + 2 * 8 + 8 + 1
    table = {"table_rows": 997, "table_dim": 4, "table": 997 * 4}
    assert result["parameters"] == {"dense": dense, **table}
    assert 100 < result["peak_memory_mb"] < 100_000
    assert any(line.startswith("test: auc 0.") for line in lines)


def test_a_cell_by_which_is_chosen_never_reads_the_test_split(folder, monkeypatch):
    read, score = [], Experiment.score
    monkeypatch.setattr(
        Experiment, "score", lambda self, split: read.append(split) or score(self, split)
    )
    gone = folder / "gone"
    ready = prepared(folder, choosing_cells, choose={"epoch": [1, 2]})
    path = pathlib.Path(ready.file("request.json"))
    request = json.loads(path.read_text())
    assert not any("test" in o and "null" not in o for o in request["overrides"])
    task = folder / "exp" / "task_conf.json"
    task.write_text(json.dumps({**json.loads(task.read_text()), "test_data_path": str(gone)}))
    result = run_cell(ready.path, lambda line: None)
    assert {*read} == {"valid"}
    assert "test" not in result and not pathlib.Path(ready.file("scores.npz")).exists()
    assert 0.0 <= result["valid"]["auc"] <= 1.0


def test_a_cell_scores_what_was_trained_to_choose_by_as_if_it_had_trained(
    folder, finished, monkeypatch
):
    choose, whole = {"epoch": [1, 2]}, finished[0].result()
    chosen_by = prepared(folder, lambda study: choosing_cells(study)[2:], choose=choose)
    before = run_cell(chosen_by.path, lambda line: None)
    ready = prepared(folder, first_final)
    ready.take_run_of(chosen_by)
    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "train", cut)
        result = run_cell(ready.path, lambda line: None)
    assert (result["test"], result["valid"]) == (whole["test"], before["valid"])
    for same in ("training_samples_per_second", "steps", "best_step"):
        assert result[same] == before[same]
    assert result["seconds"] > before["seconds"] and len(result["processes"]) == 2
    ready.take_run_of(chosen_by)  # nothing happens to a cell that is there


def test_a_cell_that_was_cut_after_training_scores_what_it_trained(finished, tmp_path, monkeypatch):
    whole, again = finished[0].result(), CellFolder(str(tmp_path))
    again.write("request.json", finished[0].request())

    with monkeypatch.context() as patch:
        patch.setattr(cell_module, "_score", cut)
        with pytest.raises(Cut):
            run_cell(again.path, lambda line: None)
    assert not again.is_finished
    speed = run_folder.finished(again.file("run"))["samples_per_second"]
    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "train", cut)
        result = run_cell(again.path, lambda line: None)
    assert result["test"] == whole["test"]
    assert result["training_samples_per_second"] == speed
    first, second = result["processes"]
    assert result["seconds"] == first["seconds"] + second["seconds"] > second["seconds"] > 0
    assert result["peak_memory_mb"] == max(p["peak_memory_mb"] for p in (first, second))


def test_what_a_killed_process_took_is_not_known(tmp_path, monkeypatch):
    cell = CellFolder(str(tmp_path))
    monkeypatch.setenv("DIFFUMIN_CELL_JOBS", "3")
    killed = cell_module._noted(cell)
    killed.__enter__()  # and no exit
    with cell_module._noted(cell):
        pass
    spent = cell_module._spent(cell.processes())
    assert spent["seconds"] is spent["peak_memory_mb"] is None
    assert [p["jobs"] for p in spent["processes"]] == [3, 3]
    assert spent["processes"][1]["seconds"] >= 0


def test_a_cell_of_the_validation_split_is_scored_on_it(finished, tmp_path):
    """The weights are those of the finished cell: nothing is trained here."""
    again = CellFolder(str(tmp_path))
    shutil.copytree(finished[0].path, tmp_path, dirs_exist_ok=True)
    pathlib.Path(again.file("cell.json")).unlink()
    again.write("request.json", {**again.request(), "scored": "valid"})
    result = run_cell(again.path, lambda line: None)
    assert result["valid"] == again.scores().metrics() == finished[0].result()["valid"]
    assert "test" not in result and result["scoring_samples_per_second"] > 0


def test_the_program_names_its_error_and_fails(folder, capsys):
    ready = prepared(folder, first_final)
    request = {**ready.request(), "overrides": ["train_data_path=gone"]}
    ready.write("request.json", request)
    assert cell_module.main([ready.path]) == 1
    assert "error: " in capsys.readouterr().out
    assert not ready.is_finished


def test_a_commit_is_told_of_a_checkout_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(measures, "_ROOT", tmp_path)
    assert measures.code()["commit"] is None
    assert set(measures.machine()) == {"processor", "cpus", "gpu", "tensorflow"}


def test_the_command_compares_two_experiments_with_two_seeds(folder, capsys, monkeypatch):
    """With real processes; the same figures as a run of `train` has."""
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parents[2]))
    mine = {"narrow": {"exp": "exp", "set": {"deep_layers": [4]}}, "wide": {"exp": "exp"}}
    study = write_study(folder, experiments=mine, baseline="narrow", set=PLAIN)
    output = folder / "out"
    command = ["compare", f"--study={study}", f"--output={output}", "--jobs=2"]
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert printed.count(": test auc 0.") == 4 and f"wrote {output}/comparison.md" in printed
    found = json.loads((output / "comparison.json").read_text())
    assert [e["seeds"] for e in found["experiments"].values()] == [[1, 2], [1, 2]]
    difference = found["experiments"]["wide"]["difference"]
    assert {len(difference[m]["values"]) for m in ("auc", "auc_by_users", "gauc")} == {2}
    assert not (output / "cells" / "wide__seed2" / "run").exists()

    assert cli.main(command) == 0
    assert "4 of 4 runs were finished before" in capsys.readouterr().out
