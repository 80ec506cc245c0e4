import numpy as np
import tensorflow as tf

from diffumin_tf.layers import Dice
from tests.layers.helpers import normal


def test_alpha_starts_at_zero_and_trains():
    layer, x = Dice(), normal(0, 8, 3)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, training=True) ** 2)
    np.testing.assert_array_equal(layer.alpha, np.zeros(3))
    assert len(layer.trainable_variables) == 1
    assert (tape.gradient(loss, layer.alpha).numpy() != 0).all()
