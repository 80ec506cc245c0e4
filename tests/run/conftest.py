"""What several files of tests start from."""

import pytest

from tests.run.earlier_runs import new_model, save


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The folder of a run with hashed ids, and its model."""
    model, config = new_model(seed=7)
    return save(tmp_path_factory.mktemp("earlier") / "run", model, config), model
