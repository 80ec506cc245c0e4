"""Predictions to text and back, and the tool that measures them."""

import json

import numpy as np
import pytest

from diffumin_tf.errors import DataError
from diffumin_tf.evaluation import report
from diffumin_tf.evaluation.scoring import Scores
from tests import tools

tool = tools.tool("cal_auc")


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    pctr = rng.random(50).astype(np.float32)
    return Scores(rng.integers(0, 2, 50).astype(np.float32), pctr, rng.integers(0, 9, 50) + 2**62)


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("user", [False, True])
def test_predictions_read_back_exactly(tmp_path, monkeypatch, scores, header, user):
    monkeypatch.setattr(report, "_LINES_PER_PART", 20)
    folder = str(tmp_path / "predictions")
    table = report.prediction_table(scores, user)
    tables = [table[:19], table[19:23], table[23:]]
    assert report.write_predictions(tables, folder, header) == (50, 3)
    first = (tmp_path / "predictions" / "part-00000").read_text().splitlines()[0]
    assert first.startswith("label\tprediction") == header
    back = report.read_predictions(folder)
    np.testing.assert_array_equal(back.labels, scores.labels)
    np.testing.assert_array_equal(back.pctr, scores.pctr)
    assert (back.users is None) != user
    if user:
        np.testing.assert_array_equal(back.users, scores.users)


def test_the_tool_prints_the_exact_metrics(tmp_path, scores, capsys):
    report.write_predictions([report.prediction_table(scores, True)], str(tmp_path / "p"))
    assert tool.main([str(tmp_path / "p")]) == 0
    assert json.loads(capsys.readouterr().out) == pytest.approx(scores.metrics())


def test_further_columns_are_told_apart_by_the_header(tmp_path, scores):
    table = report.prediction_table(scores, further={"item": ["7"] * 50, "x": ["a"] * 50})
    report.write_predictions([table], str(tmp_path / "p"), header=True)
    back = report.read_predictions(str(tmp_path / "p"))
    np.testing.assert_array_equal(back.labels, scores.labels)
    assert back.users is None


def test_predictions_without_labels_are_not_measured(tmp_path, scores):
    table = report.prediction_table(Scores(None, scores.pctr, scores.users), user=True)
    for header, message in ((True, "has no label"), (False, "line 1: must be label<TAB>pred")):
        report.write_predictions([table], str(tmp_path / f"{header}"), header)
        with pytest.raises(DataError, match=f"part-00000: {message}"):
            report.read_predictions(str(tmp_path / f"{header}"))


@pytest.mark.parametrize("line", ["1", "2\t0.5", "1\t1.5", "1\tx", "1\t0.5\tu", "1\t.5\t3\t4"])
def test_a_malformed_line_is_named(tmp_path, capsys, line):
    path = tmp_path / "part-00000"
    path.write_text(f"0\t0.5\n{line}\n")
    with pytest.raises(DataError, match=f"{path}: line 2: must be label<TAB>prediction"):
        report.read_predictions(str(path))
    assert tool.main([str(path)]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and "line 2" in printed.err and not printed.out


def test_a_folder_that_exists_is_not_overwritten(tmp_path, scores):
    with pytest.raises(DataError, match="exists already"):
        report.write_predictions([report.prediction_table(scores)], str(tmp_path))
    with pytest.raises(DataError, match="no file matches"):
        report.read_predictions(str(tmp_path))
