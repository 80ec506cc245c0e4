"""Batch normalisation: that of the library on one device, that of the global batch on several."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import BatchNorm
from tests import two_devices
from tests.layers.helpers import normal

MOMENTUM, EPSILON = 0.75, 1e-3
SPLITS = [(2, 3), (0, 4), (3, 0), (1, 1)]


def sample(rows, *shape, mean=0.0, deviation=1.0, seed=0):
    return np.float32(mean + deviation * normal(seed, rows, *shape).astype(np.float64))


def oracle(x, axes=(0,)):
    """Mean and variance of float32 values, in float64."""
    x = x.astype(np.float64)
    return x.mean(axis=axes), x.var(axis=axes)


def mirrored_norm(shape, layer=BatchNorm, **arguments):
    with two_devices.mirrored().scope():
        norm = layer(momentum=MOMENTUM, epsilon=EPSILON, **arguments)
        norm.build([None, *shape])
    return norm


def trained(norm, x, sizes, training=True):
    """What both replicas return together."""
    parts = two_devices.parts((x,), sizes)
    return np.concatenate(two_devices.run(lambda part: norm(*part, training=training), parts))


def copies(variable):
    found = two_devices.mirrored().experimental_local_results(variable)
    return [copy.numpy() for copy in found]


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [*((sizes, (4,)) for sizes in SPLITS), ((2, 3), (3, 4)), ((2, 3), (2, 3, 4))],
    ids=str,
)
def test_outputs_and_moving_averages_are_those_of_the_global_batch(sizes, shape):
    x = sample(sum(sizes), *shape, mean=3.0, deviation=2.0)
    norm = mirrored_norm(shape)
    mean, variance = oracle(x, tuple(range(x.ndim - 1)))
    actual = trained(norm, x, sizes)
    np.testing.assert_allclose(actual, (x - mean) / np.sqrt(variance + EPSILON), atol=2e-5)
    averages = [(1 - MOMENTUM) * mean, MOMENTUM + (1 - MOMENTUM) * variance]
    for variable, expected in zip((norm.moving_mean, norm.moving_variance), averages, strict=True):
        first, second = copies(variable)
        np.testing.assert_allclose(first, expected, rtol=1e-5)
        np.testing.assert_array_equal(first, second)
        # So that to save one the processes of several machines need not reduce it together.
        assert variable.aggregation == tf.VariableAggregation.ONLY_FIRST_REPLICA
    inferred = trained(norm, x, sizes, training=False)
    expected = (x - averages[0]) / np.sqrt(averages[1] + EPSILON)
    np.testing.assert_allclose(inferred, expected, atol=1e-5)


def test_a_mean_a_million_times_the_deviation_leaves_the_variance_as_it_is():
    x = sample(256, 3, mean=1e6, deviation=1.0)

    def error(norm):
        trained(norm, x, (100, 156))
        found = (copies(norm.moving_variance)[0] - MOMENTUM) / (1 - MOMENTUM)
        return np.abs(found - oracle(x)[1])

    # float32 has steps of 1/16 there, which is also what one device makes of it.
    assert error(mirrored_norm((3,))).max() < 0.02
    library = mirrored_norm((3,), tf.keras.layers.BatchNormalization, synchronized=True)
    assert error(library).min() > 0.5


def test_masked_rows_do_not_count_on_any_replica():
    x, mask = sample(6, 5, 2, mean=1.0), np.random.default_rng(0).random([6, 5]) < 0.6
    norm = mirrored_norm((5, 2))
    parts = two_devices.parts((x, mask), (2, 4))
    two_devices.run(lambda part: norm(part[0], training=True, mask=part[1]), parts)
    mean, variance = oracle(x[mask])
    np.testing.assert_allclose(norm.moving_mean, (1 - MOMENTUM) * mean, rtol=1e-5)
    expected = MOMENTUM + (1 - MOMENTUM) * variance
    np.testing.assert_allclose(norm.moving_variance, expected, rtol=1e-5)


def test_channels_first_are_normalised_along_their_axis():
    x = sample(5, 3, 4, mean=1.0)
    norm = mirrored_norm((3, 4), axis=1)
    mean, variance = (m[:, np.newaxis] for m in oracle(x, (0, 2)))
    expected = (x - mean) / np.sqrt(variance + EPSILON)
    np.testing.assert_allclose(trained(norm, x, (2, 3)), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(4,), (3, 4)])
@pytest.mark.parametrize("training", [False, True])
def test_on_one_device_it_is_the_librarys_layer_to_the_last_bit(training, shape):
    ours, library = BatchNorm(momentum=0.9), tf.keras.layers.BatchNormalization(momentum=0.9)
    for seed in range(3):
        x = tf.constant(sample(6, *shape, mean=1e3, seed=seed))
        np.testing.assert_array_equal(ours(x, training=training), library(x, training=training))
    for one, other in zip(ours.get_weights(), library.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
