import shutil

import pytest

from diffumin_tf.comparison import plots
from tests.small_log import write_experiment


@pytest.fixture(scope="session")
def log(tmp_path_factory):
    """A folder with records and `exp/` beside them; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("compared")
    write_experiment(folder)
    return folder


@pytest.fixture
def no_pictures(monkeypatch):
    """Draws nothing, which takes half the time of a comparison that trains nothing."""
    monkeypatch.setattr(plots, "draw", lambda *arguments: [])


@pytest.fixture
def folder(log, tmp_path):
    """A folder of the test's own with the experiment; its records are shared."""
    shutil.copytree(log / "exp", tmp_path / "exp")
    return tmp_path
