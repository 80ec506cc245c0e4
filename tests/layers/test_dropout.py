import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import SeededDropout


def test_drops_the_share_and_scales_the_rest():
    dropped = SeededDropout(0.25, seed=1)(tf.ones([100, 100]), training=True).numpy()
    assert np.mean(dropped == 0) == pytest.approx(0.25, abs=0.02)
    np.testing.assert_allclose(dropped[dropped != 0], 1 / 0.75)
