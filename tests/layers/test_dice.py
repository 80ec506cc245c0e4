import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import Dice
from tests.layers import oracles
from tests.layers.helpers import (
    assert_batch_mates_never_matter,
    assert_finite,
    assert_same,
    assert_saving_keeps_outputs,
    copy_of,
    normal,
)


@pytest.mark.parametrize("training", [True, False])
def test_equals_the_equations(training):
    layer, x = Dice(epsilon=1e-3), 3 * normal(0, 16, 4) + 1
    layer(x)
    layer.alpha.assign([0.0, 0.5, -1.0, 2.0])
    mean, variance = np.float32([1, 0, -1, 2]), np.float32([1, 4, 9, 0.5])
    layer.normalize.moving_mean.assign(mean)
    layer.normalize.moving_variance.assign(variance)
    alpha = layer.alpha.numpy()
    actual = layer(x, training=training)
    if training:
        mean, variance = x.mean(axis=0), x.var(axis=0)
    expected = oracles.dice(x, mean, variance, alpha, 1e-3)
    np.testing.assert_allclose(actual, expected, atol=1e-5, rtol=1e-4)


def test_training_moves_the_statistics_by_the_momentum():
    layer, x = Dice(momentum=0.75), normal(0, 64, 3) + 4
    layer(x, training=True)
    np.testing.assert_allclose(layer.normalize.moving_mean, 0.25 * x.mean(axis=0), rtol=1e-5)
    layer(x, training=False)
    np.testing.assert_allclose(layer.normalize.moving_mean, 0.25 * x.mean(axis=0), rtol=1e-5)


def test_alpha_starts_at_zero_and_trains():
    layer, x = Dice(), normal(0, 8, 3)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, training=True) ** 2)
    np.testing.assert_array_equal(layer.alpha, np.zeros(3))
    assert len(layer.trainable_variables) == 1
    assert (tape.gradient(loss, layer.alpha).numpy() != 0).all()


def test_a_constant_batch_gives_finite_gradients():
    layer, x = Dice(), tf.ones([4, 3])
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, training=True))
    assert_finite(tape.gradient(loss, [x, layer.alpha]))


def test_batch_mates_never_change_an_output_at_inference():
    layer, x = Dice(), normal(0, 5, 3)
    layer(x, training=True)
    assert_batch_mates_never_matter(layer, [x])


def test_survives_config_and_saving(tmp_path):
    x = tf.constant(normal(0, 5, 3))
    layer = Dice(epsilon=1e-4, momentum=0.5)
    layer(x, training=True)
    layer.alpha.assign([1.0, 2.0, 3.0])
    assert_same(copy_of(layer, x)(x), layer(x))
    assert_saving_keeps_outputs(layer, [x], tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 0}, "`epsilon` .* received 0"),
        ({"momentum": 1.0}, "`momentum` .* received 1.0"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Dice(**arguments)
