"""The pictures of a comparison; they are looked at by people, and here for what must be in them."""

import pytest

from diffumin_tf.comparison import plots
from tests.comparison.fakes import compare_fakes


@pytest.fixture
def comparison(folder):
    return compare_fakes(folder)


def test_both_pictures_lie_beside_the_table_and_are_shown_in_it(comparison, folder):
    for name in (plots.DIFFERENCES, plots.SLICES):
        assert (folder / "out" / name).read_bytes().startswith(b"\x89PNG")
        assert f"]({name})" in (folder / "out" / "comparison.md").read_text()
    axes = plots.differences(comparison).axes
    assert [axis.get_title().split()[1] for axis in axes] == ["AUC", "GAUC"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["strong"]
    assert len(axes[0].containers) == 3 and len(axes[1].containers) == 2
    rows = [comparison["experiments"][name]["slices"]["history"] for name in ("strong", "weak")]
    rows[0][1]["auc"] = None
    axis = plots.slices(comparison).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["strong"]
    ticks = [label.get_text().split("\n")[0] for label in axis.get_xticklabels()]
    assert ticks == [row["bucket"] for row in rows[0]]
    texts = [text.get_text() for text in axis.texts]
    assert texts[0] == f"{rows[0][0]['auc'] - rows[1][0]['auc']:+.4f}".replace("-", "−")
    assert texts[1] == "–" and len(texts) == len(rows[0])


def test_where_nothing_can_be_drawn_there_is_no_picture(comparison, tmp_path):
    for entry in comparison["experiments"].values():
        entry["difference"] = entry["slices"] = None
    assert plots.draw(comparison, str(tmp_path), print) == []
