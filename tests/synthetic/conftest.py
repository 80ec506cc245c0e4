"""Small logs that several tests read."""

import pytest

from diffumin_tf.synthetic.log import LogSpec, SyntheticLog, generate

SMALL = LogSpec(samples_per_day={"20240228": 401, "20240301": 150}, users=200, items=400, seed=5)


@pytest.fixture(scope="package")
def small_log() -> SyntheticLog:
    return generate(SMALL)
