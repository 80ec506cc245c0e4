"""What the tests of reading share: a small schema and the path to model inputs."""

import pytest

from tests.input.part_files import small_path, small_schema


@pytest.fixture(scope="session")
def schema():
    return small_schema()


@pytest.fixture(scope="session")
def path(schema):
    return small_path(schema)
