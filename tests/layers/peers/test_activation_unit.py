import numpy as np

from diffumin_tf.layers import ActivationUnit
from tests.layers import contract
from tests.layers.helpers import OTHER_SHAPE, assert_same


def test_weights_are_not_normalised_over_the_history():
    layer = ActivationUnit(units=[5, 3], activation="prelu")
    history, candidate, _ = contract.history(4).values()
    once = layer(history, candidate)
    twice = layer(np.concatenate([history, history], axis=1), candidate)
    assert_same(twice, np.concatenate([once, once], axis=1), OTHER_SHAPE)
