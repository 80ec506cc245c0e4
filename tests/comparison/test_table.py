"""The Markdown of a comparison: every figure is where it belongs."""

import json

import pytest

from diffumin_tf.comparison import command, markdown, table
from diffumin_tf.comparison.study import read_study
from tests.comparison.fakes import FakeStart, write_study


@pytest.fixture
def comparison(folder):
    path = write_study(folder, choose={"epoch": [1, 2]})
    study = read_study(path)
    return command.compare(study, str(folder / "out"), report=lambda _: None, start=FakeStart())


def rows_of(text, title):
    """Cells of the table under a heading."""
    part = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_metrics_are_means_over_seeds(comparison):
    header, _, strong, weak = rows_of(table.markdown(comparison), "Test split")
    test = comparison["experiments"]["strong"]["test"]
    mean, sd = test["auc"]["mean"], test["auc"]["sd"]
    assert header[:3] == ["experiment", "seeds", "AUC"]
    assert strong[:3] == ["strong", "2", f"{mean:.4f} ± {sd:.4f}"]
    assert strong[6] == "0.5000 ± 0.0000" and weak[0] == "weak"
    assert strong[4].startswith(f"{test['logloss']['mean']:.4f} ± ")
    assert "On the test split of 160 samples" in table.markdown(comparison)


def test_a_difference_stands_with_both_of_its_uncertainties(comparison):
    text = table.markdown(comparison)
    header, _, *rows = rows_of(text, "Difference to weak")
    assert [row[:3] for row in rows] == [
        ["strong", "AUC", "samples"],
        ["strong", "AUC", "users"],
        ["strong", "GAUC", "users"],
    ]
    found = comparison["experiments"]["strong"]["difference"]["auc"]
    drawn, seeds = found["resampled"], found["between_seeds"]
    assert rows[0][3:] == [
        markdown.signed(found["mean"]),
        markdown.interval(drawn["low"], drawn["high"]),
        f"{drawn['standard_error']:.4f}",
        markdown.interval(seeds["low"], seeds["high"]),
        f"{seeds['standard_error']:.4f}",
        "2",
    ]
    assert header[4:8] == [
        "95 % resampled",
        "s.e. resampled",
        "95 % between seeds",
        "s.e. between seeds",
    ]
    assert "drawn 1,000 times" in text and "Student's t" in text


def test_costs_and_slices(comparison):
    text = table.markdown(comparison)
    _, _, strong, _ = rows_of(text, "Costs")
    assert strong == ["strong", "1,002 ± 1", "5,000 ± 0", "1,234", "3,988 (997 × 4)", "800 ± 0"] + [
        "10 ± 0",
        "2.0 ± 0.0",
    ]
    header, _, *rows = rows_of(text, "AUC by length of the history")
    assert header == ["behaviours in the record", "0", "1–10", "11–50"]
    assert [row[0] for row in rows] == ["samples", "clicks", "strong", "weak"]
    assert sum(map(int, rows[0][1:])) == 160
    first = comparison["experiments"]["strong"]["slices"]["history"][0]["auc"]
    assert rows[2][1] == f"{first:.4f}"
    assert "sightings in the training split (`item`)" in text


def test_what_was_chosen_and_set(comparison):
    text = table.markdown(comparison)
    assert rows_of(text, "Settings that were chosen")[2:4] == [
        ["strong", "epoch=1", "chosen", "0.5000"],
        ["strong", "epoch=2", "", "0.5000"],
    ]
    own = rows_of(text, "Settings of the experiments")[2:]
    assert own == [["weak", "use_omie=False, subseq_len=0"]]


def test_a_gpu_has_a_column_and_what_is_missing_a_dash(comparison):
    entry = comparison["experiments"]["strong"]
    entry["peak_gpu_memory_mb"] = {"mean": 2048.0, "sd": None}
    entry["test"]["gauc"], entry["training_samples_per_second"] = None, None
    entry["slices"]["history"][0]["auc"] = None
    comparison["machines"][0] = {**comparison["machines"][0], "gpu": "Card"}
    text = table.markdown(comparison, ["differences.png"])
    header, _, strong, weak = rows_of(text, "Costs")
    place = header.index("of the GPU, MB")
    assert (strong[place], weak[place], strong[1]) == ("2,048", "–", "–")
    assert rows_of(text, "Test split")[2][3] == "–"
    assert rows_of(text, "AUC by length of the history")[4][1] == "–"
    assert "abacus, 2 CPUs, Card, TensorFlow 2.21.0; diffumin_tf 0.1.0, commit abc." in text
    assert text.rstrip().endswith("![differences](differences.png)")


def test_one_seed_says_nothing_about_others(folder):
    study = read_study(write_study(folder, seeds=[1]))
    made = command.compare(study, str(folder / "out"), report=lambda _: None, start=FakeStart())
    (row, *_) = rows_of(table.markdown(made), "Difference to weak")[2:]
    assert row[6:] == ["–", "–", "1"]


def test_other_test_samples_are_not_subtracted(folder):
    class Other(FakeStart):
        def __call__(self, path, jobs):
            self.samples = 160 if "weak" in path else 150
            return super().__call__(path, jobs)

    study = read_study(write_study(folder))
    made = command.compare(study, str(folder / "out"), report=lambda _: None, start=Other())
    text = table.markdown(made)
    assert made["experiments"]["strong"]["difference"] is None
    assert "Not here: strong, scored on other samples" in text
    assert "On the test split, but for the last column" in text
    assert [row[0] for row in rows_of(text, "AUC by length of the history")[4:]] == ["weak"]


def test_everything_is_json_that_reads_back(comparison, folder):
    text = (folder / "out" / "comparison.json").read_text()
    assert json.loads(text) == comparison and "NaN" not in text


def test_cells_cannot_break_a_table():
    made = markdown.table(["a", "b"], [["x|y", "1"]], texts=1)
    assert made == "| a | b |\n|---|---:|\n| x\\|y | 1 |"
    assert markdown.signed(-0.00123) == "−0.0012"
    assert markdown.settings({"a": 0.001, "b": [1, 2]}) == "a=0.001, b=[1, 2]"
