"""What several files of tests start from."""

import pytest
import tensorflow as tf

from tests.run.earlier_runs import new_model, save


@pytest.fixture(scope="module")
def eager():
    """Steps run eagerly: tracing them would take longer than the few there are."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The folder of a run with hashed ids, and its model."""
    model, config = new_model(seed=7)
    return save(tmp_path_factory.mktemp("earlier") / "run", model, config), model
