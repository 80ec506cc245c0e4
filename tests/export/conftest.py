"""The export of the trained run in a session, its recorded samples, and a server."""

import pytest

from diffumin_tf.export.inputs import recorded_inputs
from tests.export.stub import Loaded, Stub


@pytest.fixture(scope="session")
def inputs(trained):
    """Samples of the test split."""
    run = trained.run
    return recorded_inputs(run.config, run.schema, run.model.layout, run.file_check)


@pytest.fixture(scope="session")
def loaded(trained):
    return Loaded(str(trained.export))


@pytest.fixture(scope="session")
def stub(loaded):
    with Stub(loaded).running() as stub:
        yield stub
