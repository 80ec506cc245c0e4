import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import SeededDropout


def test_drops_the_share_and_scales_the_rest():
    dropped = SeededDropout(0.25, seed=1)(tf.ones([100, 100]), training=True).numpy()
    assert np.mean(dropped == 0) == pytest.approx(0.25, abs=0.02)
    np.testing.assert_allclose(dropped[dropped != 0], 1 / 0.75)


def test_a_checkpoint_resumes_the_random_numbers(tmp_path):
    inputs = tf.ones([4, 16])
    dropout = SeededDropout(0.5, seed=1)
    dropout(inputs, training=True)
    path = tf.train.Checkpoint(layer=dropout).write(str(tmp_path / "checkpoint"))
    expected = dropout(inputs, training=True)
    resumed = SeededDropout(0.5, seed=1)
    assert np.any(resumed(inputs, training=True) != expected)
    tf.train.Checkpoint(layer=resumed).read(path).assert_consumed()
    np.testing.assert_array_equal(resumed(inputs, training=True), expected)
