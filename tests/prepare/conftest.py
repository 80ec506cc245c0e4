"""Tables on disk for the tests of `prepare`."""

import pytest

from diffumin_tf.prepare.report import plots
from tests.prepare.small_tables import FILES, SPEC, write_spec

WITH_PLOTS = {"test_partitions", "test_screen"}


@pytest.fixture(autouse=True)
def no_plots(request, monkeypatch):
    """Leaves the plots out of the page: they take longer than all the rest."""
    if request.module.__name__.rpartition(".")[2] not in WITH_PLOTS:
        monkeypatch.setattr(plots, "draw", lambda facts: {})


@pytest.fixture
def tables(tmp_path):
    """A folder of tables with a spec; returns (spec path, input folder, output folder)."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return write_spec(tmp_path, SPEC), str(folder), str(tmp_path / "out")
