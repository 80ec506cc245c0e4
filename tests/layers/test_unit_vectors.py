import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers.unit_vectors import softened_unit_vectors, unit_vectors
from tests.layers import oracles
from tests.layers.helpers import assert_same, normal


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


def test_softened_vectors_are_short_where_a_vector_is_and_their_gradient_is_bounded():
    vectors = tf.constant([[0.0, 0.0], [3e-4, 4e-4], [3.0, 4.0]])
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        softened = softened_unit_vectors(vectors, 0.1)
        loss = tf.reduce_sum(softened[:, 0])
    lengths = np.sqrt(np.sum(np.square(vectors), axis=1) + 0.01)
    np.testing.assert_allclose(softened, vectors / lengths[:, None], rtol=1e-6)
    # d(x/n)/dv = [1/n − x²/n³, −x·y/n³],  n = √(‖v‖² + floor²)
    x, y = vectors.numpy().T
    expected = np.stack([1 / lengths - x**2 / lengths**3, -x * y / lengths**3], axis=1)
    np.testing.assert_allclose(tape.gradient(loss, vectors), expected, rtol=1e-5)
    assert_same(softened_unit_vectors(vectors, 0.0), unit_vectors(vectors))
