"""The Markdown of a comparison: every figure is where it belongs."""

import copy
import shutil

import pytest

from diffumin_tf.comparison import table
from tests.comparison.fakes import FakeRuns, compare_fakes, made_up_scores


@pytest.fixture(scope="module")
def made(log, tmp_path_factory):
    """Two runs each of `strong` and `weak`, after a choice."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(log / "exp", folder / "exp")
    return compare_fakes(folder, choose={"epoch": [1, 2]})


@pytest.fixture
def comparison(made):
    return copy.deepcopy(made)


def rows_of(text, title):
    """Cells of the table under a heading, without the line of dashes."""
    part = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line
    ]


def test_metrics_are_means_over_seeds(comparison):
    text = table.markdown(comparison)
    header, strong, weak = rows_of(text, "Test split")
    test = comparison["experiments"]["strong"]["test"]
    assert header[:3] == ["experiment", "seeds", "AUC"]
    assert strong[:3] == ["strong", "2", f"{test['auc']['mean']:.4f} ± {test['auc']['sd']:.4f}"]
    assert strong[6] == "0.5000 ± 0.0000" and weak[0] == "weak"
    assert strong[4].startswith(f"{test['logloss']['mean']:.4f} ± ")
    assert "On the test split of 160 samples" in text


def test_a_difference_stands_with_both_of_its_uncertainties(comparison):
    text = table.markdown(comparison)
    header, *rows = rows_of(text, "Difference to weak")
    kinds = [["AUC", "samples"], ["AUC", "users"], ["GAUC", "users"]]
    assert [row[:3] for row in rows] == [["strong", *kind] for kind in kinds]
    sources = ("resampled", "between seeds")
    assert header[4:8] == [f"{kind} {source}" for source in sources for kind in ("95 %", "s.e.")]
    found = comparison["experiments"]["strong"]["difference"]["auc"]
    assert rows[0][3] == table.signed(found["mean"])
    for column, kind in ((4, "resampled"), (6, "between_seeds")):
        low, high = (table.signed(found[kind][end]) for end in ("low", "high"))
        error = f"{found[kind]['standard_error']:.4f}"
        assert rows[0][column : column + 2] == [f"[{low}, {high}]", error]
    assert rows[0][8] == "2"
    assert "drawn 1,000 times" in text and "Student's t" in text


def test_costs_slices_and_settings(comparison):
    text = table.markdown(comparison)
    _, strong, _ = rows_of(text, "Costs")
    sizes = ["1,234", "3,988 (997 × 4)", "800 ± 0", "10 ± 0", "2.0 ± 0.0"]
    assert strong == ["strong", "1,002 ± 1", "5,000 ± 0", *sizes]
    header, *rows = rows_of(text, "AUC by length of the history")
    assert header == ["behaviours in the record", "0", "1–10", "11–50"]
    assert [row[0] for row in rows] == ["samples", "clicks", "strong", "weak"]
    assert sum(map(int, rows[0][1:])) == 160
    first = comparison["experiments"]["strong"]["slices"]["history"][0]["auc"]
    assert rows[2][1] == f"{first:.4f}"
    assert "sightings in the training split (`item`)" in text
    assert rows_of(text, "Settings that were chosen")[1:3] == [
        ["strong", "epoch=1", "chosen", "0.5000"],
        ["strong", "epoch=2", "", "0.5000"],
    ]
    settings = rows_of(text, "Settings of the experiments")[1:]
    assert settings == [["weak", "use_omie=False, subseq_len=0"]]


def test_a_gpu_has_a_column_and_what_is_missing_a_dash(comparison):
    entry = comparison["experiments"]["strong"]
    entry["peak_gpu_memory_mb"] = {"mean": 2048.0, "sd": None}
    entry["test"]["gauc"] = entry["training_samples_per_second"] = None
    entry["slices"]["history"][0]["auc"] = None
    text = table.markdown(comparison, ["differences.png"])
    header, strong, weak = rows_of(text, "Costs")
    index = header.index("of the GPU, MB")
    assert (strong[index], weak[index], strong[1]) == ("2,048", "–", "–")
    assert rows_of(text, "Test split")[1][3] == "–"
    assert rows_of(text, "AUC by length of the history")[3][1] == "–"
    assert "abacus, 2 CPUs, TensorFlow 2.21.0; diffumin_tf 0.1.0, commit abc." in text
    assert text.rstrip().endswith("![differences](differences.png)")


def test_one_seed_says_nothing_about_others(folder):
    (_, row, *_) = rows_of(table.markdown(compare_fakes(folder, seeds=[1])), "Difference to weak")
    assert row[6:] == ["–", "–", "1"]


def test_other_test_samples_are_not_subtracted(folder):
    runs, of = FakeRuns(), {"weak": made_up_scores("", 1), "strong": made_up_scores("", 1, 150)}
    runs.scores = lambda request: of[request["experiment"]]
    found = compare_fakes(folder, runs)
    text = table.markdown(found)
    assert found["experiments"]["strong"]["difference"] is None
    assert "Not here: strong, scored on other samples" in text
    assert "On the test split, but for the last column" in text
    assert [row[0] for row in rows_of(text, "AUC by length of the history")[3:]] == ["weak"]


def test_cells_cannot_break_a_table():
    made = table.table([{"a": "x|y", "b": "1"}])
    assert made == "| a | b |\n|---|---:|\n| x\\|y | 1 |"
    assert table.signed(-0.00123) == "−0.0012"
    assert table.settings({"a": 0.001, "b": [1, 2]}) == "a=0.001, b=[1, 2]"
