import numpy as np

from diffumin_tf.layers import ActivationUnit
from tests.layers.helpers import OTHER_SHAPE, assert_same, normal

BATCH, LENGTH, WIDTH = 4, 7, 6


def case(seed=0):
    mask = np.random.default_rng(seed).random([BATCH, LENGTH]) < 0.6
    mask[1] = False
    return normal(seed, BATCH, LENGTH, WIDTH), normal(seed + 1, BATCH, WIDTH), mask


def test_weights_are_not_normalised_over_the_history():
    layer, (history, candidate, _) = ActivationUnit(units=[5, 3], activation="prelu"), case()
    once = layer(history, candidate)
    twice = layer(np.concatenate([history, history], axis=1), candidate)
    assert_same(twice, np.concatenate([once, once], axis=1), OTHER_SHAPE)
