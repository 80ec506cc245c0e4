import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import SimHash
from tests.layers.helpers import normal

BATCH, LENGTH, WIDTH, BITS = 3, 6, 5, 16


def test_distances_are_the_numbers_of_bits_that_differ():
    signatures = normal(0, BATCH, LENGTH, BITS) > 0
    signature = normal(1, BATCH, BITS) > 0
    expected = (signatures != signature[:, np.newaxis]).sum(axis=2)
    np.testing.assert_array_equal(SimHash.distances(signatures, signature), expected)


def test_bits_differ_as_often_as_the_angle_says():
    layer, angle = SimHash(20_000, seed=3), 0.7
    vectors = np.float32([[1, 0, 0], [np.cos(angle), np.sin(angle), 0]])
    first, second = layer(vectors).numpy()
    np.testing.assert_allclose((first != second).mean(), angle / np.pi, atol=0.01)


def test_the_seed_alone_decides_the_hyperplanes_and_they_never_train():
    one, same, other = SimHash(BITS, 1), SimHash(BITS, 1), SimHash(BITS, 2)
    for layer in (one, same, other):
        tf.random.set_seed(id(layer) % 1000)
        layer.build([None, WIDTH])
    np.testing.assert_array_equal(one.hyperplanes, same.hyperplanes)
    assert np.abs(one.hyperplanes - other.hyperplanes).max() > 0.1
    assert one.trainable_variables == [] and len(one.weights) == 1


def test_refuses_an_unknown_width():
    with pytest.raises(ValueError, match="`vectors` must have a known width"):
        SimHash(3).build([None, None])
