import numpy as np
import tensorflow as tf

from diffumin_tf.layers.diffumin.gram_schmidt import orthonormalise
from tests.layers.helpers import assert_finite, normal


def test_almost_dependent_vectors_are_orthonormalised():
    base = normal(0, 4, 1, 16)
    vectors = np.concatenate([base, base + 1e-3 * normal(1, 4, 3, 16)], axis=1)
    channels = orthonormalise(tf.constant(vectors))
    gram = tf.matmul(channels, channels, transpose_b=True)
    np.testing.assert_allclose(gram, np.tile(np.eye(4), [4, 1, 1]), atol=2e-6)


def test_dependent_and_zero_vectors_give_zero_and_finite_gradients():
    vector = normal(0, 1, 1, 4)
    vectors = tf.constant(np.concatenate([vector, 2 * vector, np.zeros([1, 1, 4])], axis=1))
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        channels = orthonormalise(vectors)
        loss = tf.reduce_sum(channels * normal(1, 1, 3, 4))
    np.testing.assert_array_equal(channels[0, 1:], np.zeros([2, 4]))
    gradient = tape.gradient(loss, vectors)
    assert_finite(gradient)
    np.testing.assert_array_equal(gradient[0, 1:], np.zeros([2, 4]))
