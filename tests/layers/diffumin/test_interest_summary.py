import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import InterestSummary
from tests.layers.helpers import (
    assert_batch_mates_never_matter,
    assert_finite,
    assert_same,
    assert_saving_keeps_outputs,
    copy_of,
    normal,
    randomise,
)

BATCH, CHANNELS, WIDTH = 7, 3, 4


def interests(seed=0):
    """Interests of very different lengths, some of them zero."""
    lengths = np.float32([3, 0.01, 1e-4])[np.arange(BATCH) % 3, None, None]
    x = lengths * normal(seed, BATCH, CHANNELS, WIDTH)
    x[2, 1] = 0.0
    return x


def log_lengths(x, floor):
    return 0.5 * np.log((x.astype(np.float64) ** 2).sum(-1) + floor**2)


@pytest.mark.parametrize("training", [True, False])
def test_equals_the_equations(training):
    layer, x = InterestSummary(floor=0.2), interests()
    layer(x)
    randomise(layer)
    mean, variance = np.float32([0.5, 0, -1]), np.float32([1, 2, 0.5])
    layer.normalize.moving_mean.assign(mean)
    layer.normalize.moving_variance.assign(variance)
    gamma, beta = layer.normalize.gamma.numpy(), layer.normalize.beta.numpy()
    actual = layer(x, training=training)
    logs = log_lengths(x, 0.2)
    if training:
        mean, variance = logs.mean(axis=0), logs.var(axis=0)
    directions = x / np.exp(logs)[..., None]
    normalised = gamma * (logs - mean) / np.sqrt(variance + 1e-3) + beta
    expected = np.concatenate([directions.reshape(BATCH, -1), normalised], axis=1)
    assert actual.shape == (BATCH, CHANNELS * WIDTH + CHANNELS)
    np.testing.assert_allclose(actual, expected, atol=1e-5, rtol=1e-4)


def test_directions_of_long_interests_have_length_one_and_those_of_none_are_zero():
    x = interests()
    directions = InterestSummary(floor=1e-3)(x)[:, : CHANNELS * WIDTH].numpy()
    lengths = np.linalg.norm(directions.reshape(x.shape), axis=-1)
    np.testing.assert_allclose(lengths[::3], 1.0, atol=1e-5)
    assert lengths[2, 1] == 0 and lengths[2, 0] < 0.5


def test_momentum_is_the_share_of_the_averages_that_a_step_keeps():
    for momentum in (0.0, 0.75, 0.9):
        layer, x = InterestSummary(momentum=momentum), interests()
        layer(x, training=True)
        mean = (1 - momentum) * log_lengths(x, layer.floor).mean(axis=0)
        np.testing.assert_allclose(layer.normalize.moving_mean, mean, rtol=1e-4, atol=1e-5)
        layer(x, training=False)
        np.testing.assert_allclose(layer.normalize.moving_mean, mean, rtol=1e-4, atol=1e-5)


def test_gradients_are_finite_and_bounded_by_the_floor_where_there_is_no_interest():
    layer, x = InterestSummary(floor=0.1), tf.zeros([5, CHANNELS, WIDTH])
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, training=True))
    gradients = tape.gradient(loss, [x, *layer.trainable_variables])
    assert_finite(gradients)
    assert np.abs(gradients[0]).max() <= 1 / 0.1 + 1e-3


def test_batch_mates_never_change_a_summary_at_inference():
    layer, x = InterestSummary(), interests()
    layer(x, training=True)
    assert_batch_mates_never_matter(layer, [x])


def test_survives_config_and_saving(tmp_path):
    x = tf.constant(interests())
    layer = InterestSummary(floor=0.3, momentum=0.5)
    layer(x, training=True)
    assert_same(copy_of(layer, x)(x), layer(x))
    assert_saving_keeps_outputs(layer, [x], tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"floor": 0}, "`floor` .* received 0"),
        ({"momentum": 1}, r"`momentum` .*in \[0, 1\), received 1"),
        ({"momentum": -0.5}, "`momentum` .* received -0.5"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        InterestSummary(**arguments)


def test_refuses_bad_shapes():
    with pytest.raises(ValueError, match=r"`interests` .*\[B, C, d\].* received shape \(2, 3\)"):
        InterestSummary()(tf.zeros([2, 3]))
