import numpy as np
import tensorflow as tf

from diffumin_tf.layers import ChannelShare
from tests.layers.helpers import normal

BATCH, LENGTH, CHANNELS, WIDTH = 6, 9, 3, 8


def inputs(seed=0):
    """Histories, of which one is empty, and candidates; some of both much longer than others."""
    scale = np.float32([4, 0.1, 9])[np.arange(BATCH) % 3]
    history = normal(seed, BATCH, LENGTH, WIDTH)
    valid = np.random.default_rng(seed).random([BATCH, LENGTH]) < 0.7
    valid[2] = False
    channels = np.linalg.qr(normal(seed + 1, BATCH, WIDTH, CHANNELS))[0].transpose(0, 2, 1)
    candidate = scale[:, None] * normal(seed + 2, BATCH, WIDTH)
    candidate[4] = 0.0  # unknown
    return history, valid, np.ascontiguousarray(channels), candidate


def expected_shares(history, valid, channels, candidate):
    history, channels = history.astype(np.float64), channels.astype(np.float64)
    squares = np.einsum("bld,bcd->blc", history, channels) ** 2
    of_candidate = np.einsum("bd,bcd->bc", candidate, channels) ** 2
    counts = np.maximum(valid.sum(axis=1), 1)[:, np.newaxis]
    mean = (squares * valid[:, :, np.newaxis]).sum(axis=1) / counts
    return np.minimum(mean / np.maximum(of_candidate, 1e-6), 4)


def shares(history, valid, channels, candidate):
    products = tf.matmul(channels, history, transpose_b=True)
    return ChannelShare.of(products, valid, channels, candidate)


def test_shares_equal_the_equation():
    found = shares(*map(tf.constant, inputs())).numpy()
    expected = expected_shares(*inputs())
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert (found[2] == 0).all() and (found[4] == 4).all()
    assert ((found > 0) & (found < 4)).sum() > 6


def test_a_share_is_the_part_of_the_history_with_the_value_of_the_candidate():
    values = 0.3 * np.eye(4, dtype=np.float32)
    history = values[[0, 1, 0, 2, 3, 0, 1, 1]][np.newaxis]
    channels = np.eye(4, dtype=np.float32)[np.newaxis, :1]
    valid = np.arange(8)[np.newaxis] < 5
    share = shares(history, valid, channels, values[:1])
    np.testing.assert_allclose(share, [[2 / 5]], rtol=1e-6)


def test_shares_have_no_gradient():
    history, valid, channels, candidate = map(tf.constant, inputs())
    with tf.GradientTape() as tape:
        tape.watch([history, channels, candidate])
        loss = tf.reduce_sum(shares(history, valid, channels, candidate))
    assert tape.gradient(loss, [history, channels, candidate]) == [None, None, None]
