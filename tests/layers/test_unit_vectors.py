import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers.unit_vectors import unit_vectors
from tests.layers import oracles
from tests.layers.helpers import normal


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_has_length_one_and_the_same_direction(scale):
    vectors = scale * normal(0, 5, 3)
    expected = [oracles.unit(vector) for vector in vectors]
    np.testing.assert_allclose(unit_vectors(vectors), expected, rtol=1e-5)


def test_zero_gives_zero_and_zero_gradient():
    vectors = tf.constant([[0.0, 0.0], [3.0, 4.0]])
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        units = unit_vectors(vectors)
        loss = tf.reduce_sum(units * [[1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(units, [[0, 0], [0.6, 0.8]], rtol=1e-6)
    # d(x/‖v‖)/dv = [y², −x·y] / ‖v‖³
    expected = [[0, 0], [16 / 125, -12 / 125]]
    np.testing.assert_allclose(tape.gradient(loss, vectors), expected, rtol=1e-5)
