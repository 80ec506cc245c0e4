import numpy as np
import tensorflow as tf

from diffumin_tf.layers import InterestSummary
from tests.layers.helpers import normal

BATCH, CHANNELS, WIDTH = 7, 3, 4


def interests(seed=0):
    """Interests of very different lengths, some of them zero."""
    lengths = np.float32([3, 0.01, 1e-4])[np.arange(BATCH) % 3, None, None]
    x = lengths * normal(seed, BATCH, CHANNELS, WIDTH)
    x[2, 1] = 0.0
    return x


def test_directions_of_long_interests_have_length_one_and_those_of_none_are_zero():
    x = interests()
    directions = InterestSummary(floor=1e-3)(x)[:, : CHANNELS * WIDTH].numpy()
    lengths = np.linalg.norm(directions.reshape(x.shape), axis=-1)
    np.testing.assert_allclose(lengths[::3], 1.0, atol=1e-5)
    assert lengths[2, 1] == 0 and lengths[2, 0] < 0.5


def test_the_floor_bounds_the_gradient_where_there_is_no_interest():
    layer, x = InterestSummary(floor=0.1), tf.zeros([5, CHANNELS, WIDTH])
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, training=True))
    assert np.abs(tape.gradient(loss, x)).max() <= 1 / 0.1 + 1e-3
