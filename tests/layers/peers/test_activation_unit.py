import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import ActivationUnit
from tests.layers import oracles
from tests.layers.helpers import (
    OTHER_SHAPE,
    assert_batch_mates_never_matter,
    assert_finite,
    assert_same,
    assert_saving_keeps_outputs,
    copy_of,
    normal,
    randomise,
)
from tests.layers.peer_oracles import activation_weights, dice_by_batch

BATCH, LENGTH, WIDTH = 4, 7, 6


def case(seed=0):
    mask = np.random.default_rng(seed).random([BATCH, LENGTH]) < 0.6
    mask[1] = False
    return normal(seed, BATCH, LENGTH, WIDTH), normal(seed + 1, BATCH, WIDTH), mask


def layer_of(**changes):
    layer = ActivationUnit(units=[5, 3], **changes)
    layer(*case())
    randomise(layer)
    return layer


def expected_of(layer, history, candidate, mask, activate):
    layers = [dense.get_weights() for dense in layer.dense]
    output = layer.weight.get_weights()
    return activation_weights(history, candidate, mask, layers, output, activate)


def test_equals_the_equations_with_the_statistics_of_the_valid_behaviours():
    layer, inputs = layer_of(), case()
    alphas = [dice.alpha.numpy() for dice in layer.activations]
    expected = expected_of(layer, *inputs, dice_by_batch(alphas, layer.activations[0].epsilon))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(layer(*inputs, training=True), expected, atol=1e-5)


def test_equals_the_equations_with_the_averages_at_inference():
    layer, inputs = layer_of(momentum=0.5), case()
    layer(*inputs, training=True)

    def activate(x, depth):
        dice = layer.activations[depth]
        averages = dice.normalize.moving_mean.numpy(), dice.normalize.moving_variance.numpy()
        return oracles.dice(x, *averages, dice.alpha.numpy(), dice.epsilon)

    expected = expected_of(layer, *inputs, activate)
    np.testing.assert_allclose(layer(*inputs), expected, atol=1e-5)


def test_equals_the_equations_with_prelu():
    layer, inputs = layer_of(activation="prelu"), case()
    slopes = [prelu.alpha.numpy() for prelu in layer.activations]
    expected = expected_of(layer, *inputs, lambda x, d: np.where(x > 0, x, slopes[d] * x))
    for training in (True, False):
        np.testing.assert_allclose(layer(*inputs, training=training), expected, atol=1e-5)


def test_weights_are_not_normalised_over_the_history():
    layer, (history, candidate, _) = layer_of(activation="prelu"), case()
    once = layer(history, candidate)
    twice = layer(np.concatenate([history, history], axis=1), candidate)
    assert_same(twice, np.concatenate([once, once], axis=1), OTHER_SHAPE)


def test_padding_changes_neither_weights_nor_statistics():
    history, candidate, mask = case()
    longer = np.pad(history, [(0, 0), (0, 4), (0, 0)], constant_values=9)
    longer[:, :LENGTH][~mask] = -7
    layer, other = layer_of(momentum=0.5), layer_of(momentum=0.5)
    for training in (True, False):
        expected = layer(history, candidate, mask, training=training)
        found = other(longer, candidate, np.pad(mask, [(0, 0), (0, 4)]), training=training)
        assert_same(found[:, :LENGTH], expected)
        assert not found[:, LENGTH:].numpy().any()
    assert_same(other.get_weights(), layer.get_weights())


@pytest.mark.parametrize("length", [0, LENGTH])
def test_histories_that_are_all_empty_keep_everything_finite(length):
    layer = layer_of()
    history, candidate = tf.zeros([2, length, WIDTH]), tf.constant(normal(1, 2, WIDTH))
    with tf.GradientTape() as tape:
        tape.watch(candidate)
        weights = layer(history, candidate, tf.zeros([2, length], tf.bool), training=True)
        loss = tf.reduce_sum(weights)
    assert weights.shape == (2, length) and not weights.numpy().any()
    assert_finite(tape.gradient(loss, [candidate, *layer.trainable_variables]))
    assert_finite([tf.constant(weight) for weight in layer.get_weights()])


def test_batch_mates_never_change_a_weight_at_inference():
    assert_batch_mates_never_matter(layer_of(), list(case()))


def test_survives_config_and_saving(tmp_path):
    layer, inputs = layer_of(momentum=0.5), [tf.constant(x) for x in case()]
    layer(*inputs, training=True)
    assert_same(copy_of(layer, *inputs)(*inputs), layer(*inputs))
    assert_saving_keeps_outputs(layer, inputs, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": []}, r"`units` .* received \[\]"),
        ({"units": [3, 0]}, "`units` .* received 0"),
        ({"activation": "tanh"}, "`activation` .* received 'tanh'"),
        ({"momentum": 1}, "`momentum` .* received 1"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ActivationUnit(**arguments)


def test_refuses_bad_shapes():
    with pytest.raises(ValueError, match=r"`candidate` .*\[B, d\].* received shape \(4, 5\)"):
        layer_of()(normal(0, 4, 3, WIDTH), normal(0, 4, 5))
