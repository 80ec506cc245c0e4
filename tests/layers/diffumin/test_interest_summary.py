import numpy as np
import tensorflow as tf

from diffumin_tf.layers import InterestSummary


def test_the_floor_bounds_the_gradient_where_there_is_no_interest():
    layer, x = InterestSummary(floor=0.1), tf.zeros([5, 3, 4])
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, training=True))
    assert np.abs(tape.gradient(loss, x)).max() <= 1 / 0.1 + 1e-3
