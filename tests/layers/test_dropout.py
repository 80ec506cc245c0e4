import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import SeededDropout
from tests.layers.helpers import random_ops


def test_drops_the_share_and_scales_the_rest():
    dropped = SeededDropout(0.25, seed=1)(tf.ones([100, 100]), training=True).numpy()
    assert np.mean(dropped == 0) == pytest.approx(0.25, abs=0.02)
    np.testing.assert_allclose(dropped[dropped != 0], 1 / 0.75)


def test_inference_passes_the_input_through_without_random_ops():
    dropout, inputs = SeededDropout(0.5), tf.ones([2, 3])
    np.testing.assert_array_equal(dropout(inputs), inputs)
    assert random_ops(lambda: dropout(inputs, training=False)) == set()
    assert random_ops(lambda: dropout(inputs, training=True)) != set()


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


def test_survives_config():
    dropout = SeededDropout.from_config(SeededDropout(0.3, seed=4, name="d").get_config())
    assert (dropout.rate, dropout.seed, dropout.name) == (0.3, 4, "d")


@pytest.mark.parametrize("rate", [-0.1, 1, "half", None, float("nan")])
def test_refuses_bad_rates(rate):
    with pytest.raises(ValueError, match=r"`rate` must be a number in \[0, 1\), received"):
        SeededDropout(rate)
