"""The pictures of a comparison; they are looked at by people, and here for what must be in them."""

import pytest

from diffumin_tf.comparison import command, plots, slice_plots
from diffumin_tf.comparison.study import read_study
from tests.comparison.fakes import FakeStart, write_study

pytest.importorskip("matplotlib")


@pytest.fixture
def comparison(folder):
    study = read_study(write_study(folder))
    return command.compare(study, str(folder / "out"), report=lambda _: None, start=FakeStart())


def test_both_pictures_lie_beside_the_table_and_are_shown_in_it(comparison, folder):
    for name in (plots.DIFFERENCES, plots.SLICES):
        assert (folder / "out" / name).read_bytes().startswith(b"\x89PNG")
        assert f"]({name})" in (folder / "out" / "comparison.md").read_text()


def test_the_forest_has_a_panel_a_metric_and_a_row_an_experiment(comparison):
    axes = plots._differences(comparison).axes
    assert [axis.get_title().split()[1] for axis in axes] == ["AUC", "GAUC"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["strong"]
    assert len(axes[0].containers) == 3 and len(axes[1].containers) == 2


def test_slices_have_a_line_an_experiment(comparison):
    axes = slice_plots.picture(comparison).axes
    for axis, kind in zip(axes, ("history", "popularity"), strict=True):
        rows = comparison["experiments"]["weak"]["slices"][kind]
        ticks = [label.get_text().split("\n")[0] for label in axis.get_xticklabels()]
        assert ticks == [row["bucket"] for row in rows]
        assert len(axis.containers) == 2


def test_more_experiments_than_lines_can_show_are_a_map_of_differences(comparison, monkeypatch):
    monkeypatch.setattr(slice_plots, "_AS_LINES", 1)
    rows = [comparison["experiments"][name]["slices"]["history"] for name in ("strong", "weak")]
    rows[0][1]["auc"] = None
    axis = slice_plots.picture(comparison).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["strong"]
    moved = [text.get_text() for text in axis.texts]
    assert moved[0] == f"{rows[0][0]['auc'] - rows[1][0]['auc']:+.4f}".replace("-", "−")
    assert moved[1] == "–" and len(moved) == len(rows[0])


def test_where_nothing_can_be_drawn_there_is_no_picture(comparison, tmp_path):
    for entry in comparison["experiments"].values():
        entry["difference"] = entry["slices"] = None
    assert plots.draw(comparison, str(tmp_path), print) == []
