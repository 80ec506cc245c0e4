"""Tables on disk for the tests of `prepare`."""

import pytest

from tests.prepare.small_tables import FILES, SPEC, write_spec


@pytest.fixture
def tables(tmp_path):
    """A folder of tables with a spec; returns (spec path, input folder, output folder)."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return write_spec(tmp_path, SPEC), str(folder), str(tmp_path / "out")
