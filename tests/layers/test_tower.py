import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import Tower
from tests.layers import oracles
from tests.layers.helpers import (
    assert_batch_mates_never_matter,
    assert_finite,
    assert_same,
    assert_saving_keeps_outputs,
    copy_of,
    normal,
    random_ops,
    randomise,
)


def expected_logits(tower, x):
    """The tower from its weights, one layer after the other, at inference."""
    hidden = x.astype(np.float64)
    for layer in tower.hidden:
        weights, kind = layer.get_weights(), layer.name.rsplit("_", 1)[0]
        if kind == "dense":
            hidden = hidden @ weights[0] + (weights[1] if len(weights) > 1 else 0)
        elif kind == "batch_norm":
            gamma, beta, mean, variance = weights
            hidden = gamma * (hidden - mean) / np.sqrt(variance + 1e-3) + beta
        elif kind == "dice":
            alpha, mean, variance = weights
            hidden = oracles.dice(hidden, mean, variance, alpha, 1e-6)
        elif kind == "prelu":
            hidden = np.where(hidden > 0, hidden, weights[0] * hidden)
        elif kind == "relu":
            hidden = np.maximum(hidden, 0)
    kernel, bias = tower.logit.get_weights()
    return (hidden @ kernel + bias)[:, 0]


@pytest.mark.parametrize("activation", ["dice", "prelu", "relu"])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("units", [[8, 4], [3], []])
def test_equals_the_equations(activation, batch_norm, units):
    tower, x = Tower(units, activation, batch_norm), normal(0, 16, 5)
    tower(x)
    randomise(tower)
    tower(3 * x + 1, training=True)
    logits = tower(x)
    assert logits.shape == (16,)
    np.testing.assert_allclose(logits, expected_logits(tower, x), atol=1e-4, rtol=1e-4)


def test_normalises_before_the_activation():
    kinds = [layer.name.rsplit("_", 1)[0] for layer in Tower([4]).hidden]
    assert kinds == ["dense", "batch_norm", "dice", "dropout"]
    kinds = [layer.name.rsplit("_", 1)[0] for layer in Tower([4], "relu", False).hidden]
    assert kinds == ["dense", "relu", "dropout"]


def test_a_hidden_layer_has_one_shift():
    for batch_norm in (True, False):
        tower = Tower([4], "relu", batch_norm)
        tower(tf.zeros([2, 3]))
        assert tower.hidden[0].use_bias is not batch_norm


def test_dropout_only_in_training():
    tower, x = Tower([8], batch_norm=False, activation="relu", dropout_rate=0.5), normal(0, 4, 5)
    assert_same(tower(x), tower(x, training=False))
    assert np.abs(tower(x, training=True) - tower(x)).max() > 1e-3
    assert random_ops(lambda: tower(x)) == set()
    assert random_ops(lambda: tower(x, training=True)) != set()


def test_momentum_is_the_share_of_the_averages_that_a_step_keeps():
    x = normal(0, 64, 5) + 2
    for momentum in (0.0, 0.75):
        tower = Tower([4], "dice", momentum=momentum)
        tower(x, training=True)
        dense, batch_norm, dice, _ = tower.hidden
        mean = (x @ dense.kernel.numpy()).mean(axis=0)
        np.testing.assert_allclose(batch_norm.moving_mean, (1 - momentum) * mean, rtol=1e-4)
        assert dice.momentum == dice.normalize.momentum == momentum


def test_batch_mates_never_change_a_logit_at_inference():
    tower, x = Tower([8, 4]), normal(0, 6, 5)
    tower(x, training=True)
    assert_batch_mates_never_matter(tower, [x])


def test_gradients_are_finite_for_zero_input():
    tower, x = Tower([8, 4]), tf.zeros([4, 5])
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(tower(x, training=True) ** 2)
    assert_finite(tape.gradient(loss, [x, *tower.trainable_variables]))


@pytest.mark.parametrize("activation", ["dice", "prelu", "relu"])
def test_survives_config_and_saving(activation, tmp_path):
    x = tf.constant(normal(0, 5, 3))
    tower = Tower((4, 2), activation, dropout_rate=0.1, seed=3)
    tower(x, training=True)
    assert_same(copy_of(tower, x)(x), tower(x))
    assert_saving_keeps_outputs(tower, [x], tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 8}, "`units` must be a list of integers, received 8"),
        ({"units": [8, 0]}, "`units` .* received 0"),
        ({"units": [8], "activation": "gelu"}, "`activation` .*'prelu'.* received 'gelu'"),
        ({"units": [8], "dropout_rate": 1}, "`dropout_rate` .* received 1"),
        ({"units": [8], "momentum": 1.0}, "`momentum` .* received 1.0"),
        ({"units": [8], "seed": "a"}, "`seed` .* received 'a'"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tower(**arguments)


def test_refuses_bad_shapes():
    with pytest.raises(ValueError, match=r"`inputs` .*\[B, n\].* received shape \(2, 3, 4\)"):
        Tower([4])(tf.zeros([2, 3, 4]))
