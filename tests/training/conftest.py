"""What several files of tests start from."""

import pytest

from tests.training.forks import Forks


@pytest.fixture(scope="session")
def commands():
    """Starts training commands without loading TensorFlow for each."""
    with Forks() as forks:
        yield forks
