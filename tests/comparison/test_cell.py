"""One cell: what it trains, scores, measures and leaves."""

import dataclasses
import os
import shutil
import signal
import threading

import pytest
import tensorflow as tf

from diffumin_tf.comparison import cell as cell_module
from diffumin_tf.comparison.cell import end_with_parent, run_cell
from diffumin_tf.comparison.cells import choosing_cells, final_cells
from diffumin_tf.comparison.study import read_study
from diffumin_tf.files import read_json, write_json
from diffumin_tf.run.open import Run, open_run
from tests.comparison.fakes import write_study

PLAIN = {"use_omie": False, "subseq_len": 0, "activation": "relu", "deep_layers": [8]}


class Cut(Exception):
    """What ends a cell in its middle."""


def cut(*arguments):
    raise Cut


def first_final(study, output):
    return final_cells(study, output, {"weak": {}})[0]


def prepared(folder, cell_of=first_final, **changes):
    """A cell of a study, ready to run."""
    cell = cell_of(read_study(write_study(folder, set=PLAIN, **changes)), str(folder))
    cell.prepare(print)
    return cell


def change_request(cell, **changes):
    path = cell.file("request.json")
    write_json(path, {**read_json(path), **changes})


@pytest.fixture(scope="module")
def finished(log, tmp_path_factory):
    """A cell that came to its end, and what it reported."""
    folder, lines = tmp_path_factory.mktemp("finished"), []
    shutil.copytree(log / "exp", folder / "exp")
    ready = prepared(folder)
    run_cell(ready.path, report=lines.append)
    return ready, lines


def test_a_cell_leaves_what_the_table_needs(finished):
    cell, lines = finished
    result, scores = cell.result, cell.scores
    assert len(scores.labels) == 160 and scores.users.dtype == "int64"
    assert result["test"] == scores.metrics()
    run = open_run(cell.file("run"))
    assert result["test"] == run.score("test").metrics()
    assert result["valid"] == run.score("valid").metrics()
    assert (result["steps"], result["seed"], result["experiment"]) == (10, 1, "weak")
    assert result["settings"] == run.config.model_dump(mode="json")
    for measured in ("training_samples_per_second", "scoring_samples_per_second", "seconds"):
        assert result[measured] > 0
    # 4 fields of width 4 and 1 dense value, normalised: 17 → 8, normalised → 1.
    dense = 2 + 17 * 8 + 2 * 8 + 8 + 1
    table = {"table_rows": 997, "table_dim": 4, "table": 997 * 4}
    assert result["parameters"] == {"dense": dense, **table}
    assert 100 < result["peak_memory_mb"] < 100_000
    assert result["machine"].endswith(f"{os.cpu_count()} CPUs, TensorFlow {tf.__version__}")
    assert result["jobs"] == 1 and result["code"]["version"]
    assert any(line.startswith("test: auc 0.") for line in lines)


def test_a_cell_to_choose_by_never_reads_the_test_split(folder, finished, monkeypatch):
    """What it trained becomes a final cell, which scores the test split as if it had trained."""
    read, score = [], Run.score
    monkeypatch.setattr(Run, "score", lambda self, split: read.append(split) or score(self, split))
    choose = {"epoch": [1, 2]}
    chosen_by = prepared(folder, lambda *where: choosing_cells(*where)[2], choose=choose)
    run_cell(chosen_by.path)
    before = chosen_by.result
    assert {*read} == {"valid"}
    assert "test" not in before and not os.path.exists(chosen_by.file("scores.npz"))
    final = prepared(folder)
    final.take_run_of(chosen_by)
    monkeypatch.setattr("diffumin_tf.comparison.cell.train_run", cut)
    run_cell(final.path)
    result = final.result
    assert (result["test"], result["valid"]) == (finished[0].result["test"], before["valid"])
    for same in ("training_samples_per_second", "steps", "best_step", "seconds"):
        assert result[same] == before[same]
    final.take_run_of(chosen_by)  # nothing happens to a cell that has begun


def test_a_cell_that_was_cut_after_training_scores_what_it_trained(finished, tmp_path, monkeypatch):
    whole = finished[0]
    again = dataclasses.replace(whole, output=str(tmp_path))
    shutil.copytree(whole.path, again.path)
    os.remove(again.file("cell.json"))
    monkeypatch.setattr("diffumin_tf.comparison.cell.train_run", cut)
    run_cell(again.path)
    result = again.result
    for same in ("test", "training_samples_per_second", "seconds", "peak_memory_mb"):
        assert result[same] == whole.result[same]
    # On the validation split, where that is asked for.
    os.remove(again.file("cell.json"))
    change_request(again, scored="valid")
    run_cell(again.path)
    result = again.result
    assert result["valid"] == again.scores.metrics() == whole.result["valid"]
    assert "test" not in result and result["scoring_samples_per_second"] > 0


def test_the_program_has_its_share_of_the_cores_and_names_its_error(folder, capsys, monkeypatch):
    tied, threads = [], []
    monkeypatch.setattr(cell_module, "end_with_parent", tied.append)
    monkeypatch.setattr(cell_module.os, "cpu_count", lambda: 8)
    for kind in ("intra", "inter"):
        setter = f"set_{kind}_op_parallelism_threads"
        monkeypatch.setattr(cell_module.tf.config.threading, setter, threads.append)
    cell = prepared(folder)
    change_request(cell, overrides=["train_data_path=gone"])
    assert cell_module.main([cell.path, "1"]) == 1 and not threads
    assert "error: " in capsys.readouterr().err and not cell.is_finished
    assert cell_module.main([cell.path, "3"]) == 1
    assert (threads, tied) == ([2, 2], [0, 0])


def test_the_commit_is_that_of_a_checkout_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(cell_module, "_ROOT", tmp_path)
    assert cell_module._commit() is None


def test_a_cell_ends_with_the_process_that_started_it(monkeypatch):
    """It is asked to end, and saves where it is; one that does not listen is killed."""
    signals, sent = [], threading.Semaphore(0)

    def kill(process, number):
        assert process == os.getpid()
        signals.append(number)
        sent.release()

    monkeypatch.setattr(cell_module, "_GRACE_SECONDS", 0.01)
    monkeypatch.setattr(cell_module.os, "kill", kill)
    ours, theirs = os.pipe()
    end_with_parent(ours)
    assert not sent.acquire(timeout=0.1)
    os.close(theirs)  # as the system does when that process ends, however it does
    assert sent.acquire(timeout=10) and sent.acquire(timeout=10)
    assert signals == [signal.SIGTERM, signal.SIGKILL]
    os.close(ours)
