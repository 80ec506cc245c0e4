import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import TransformerEncoder
from tests.layers import oracles
from tests.layers.helpers import (
    OTHER_SHAPE,
    assert_batch_mates_never_matter,
    assert_finite,
    assert_same,
    assert_saving_keeps_outputs,
    block_weights,
    copy_of,
    normal,
    random_ops,
    randomise,
)


@pytest.mark.parametrize(("width", "heads", "layers"), [(4, 2, 1), (6, 3, 2), (5, 1, 2)])
def test_equals_the_equations(width, heads, layers):
    encoder = TransformerEncoder(layers, heads, dff_factor=2)
    tokens = normal(0, 3, 6, width)
    mask = np.array([[1] * 6, [1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 1, 0]], bool)
    encoder(tokens, mask)
    randomise(encoder)
    actual = encoder(tokens, mask)
    for b in range(3):
        expected = tokens[b]
        for block in encoder.blocks:
            expected = oracles.transformer_block(expected, mask[b], heads, block_weights(block))
        np.testing.assert_allclose(actual[b], expected, atol=3e-5)


def test_no_mask_means_all_valid():
    encoder, tokens = TransformerEncoder(1, 2, 2), normal(0, 2, 3, 4)
    assert_same(encoder(tokens), encoder(tokens, np.ones([2, 3], bool)))


def test_padding_and_batch_mates_never_change_an_output():
    encoder = TransformerEncoder(2, 2, 2)
    tokens, mask = normal(0, 3, 5, 4), np.arange(5) < np.array([[5], [2], [0]])
    expected = encoder(tokens, mask)
    padded = np.concatenate([tokens, 9 * normal(1, 3, 4, 4)], axis=1)
    padded_mask = np.concatenate([mask, np.zeros([3, 4], bool)], axis=1)
    assert_same(encoder(padded, padded_mask)[:, :5], expected, tolerance=OTHER_SHAPE)
    junk = np.where(mask[:, :, None], tokens, 9 * normal(2, 3, 5, 4))
    assert_same(encoder(junk, mask).numpy()[mask], expected.numpy()[mask])
    assert_batch_mates_never_matter(encoder, [tokens, mask])


def test_gradients_are_finite_when_every_key_is_masked():
    encoder = TransformerEncoder(2, 2, 2)
    tokens = tf.zeros([2, 3, 4])
    with tf.GradientTape() as tape:
        tape.watch(tokens)
        loss = tf.reduce_sum(encoder(tokens, tf.zeros([2, 3], tf.bool)) ** 2)
    assert_finite(tape.gradient(loss, [tokens, *encoder.trainable_variables]))


def test_dropout_only_in_training():
    encoder, tokens = TransformerEncoder(1, 2, 2, dropout_rate=0.5, seed=1), normal(0, 2, 3, 4)
    assert_same(encoder(tokens), encoder(tokens, training=False))
    assert np.abs(encoder(tokens, training=True) - encoder(tokens)).max() > 0.1
    assert random_ops(lambda: encoder(tokens)) == set()


def test_survives_config_and_saving(tmp_path):
    tokens, mask = tf.constant(normal(0, 2, 3, 4)), tf.constant([[True] * 3, [True, False, False]])
    encoder = TransformerEncoder(2, 2, 3, dropout_rate=0.1, seed=7)
    expected = encoder(tokens, mask)
    assert_same(copy_of(encoder, tokens, mask)(tokens, mask), expected)
    assert_saving_keeps_outputs(encoder, [tokens, mask], tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 2, 2), "`n_layers` .* received 0"),
        ((1, 0, 2), "`num_heads` .* received 0"),
        ((1, 2, 1.5), "`dff_factor` .* received 1.5"),
        ((1, 2, 2, 1.0), "`dropout_rate` .* received 1.0"),
        ((1, 2, 2, 0.1, 0.5), "`seed` .* received 0.5"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        TransformerEncoder(*arguments)


def test_refuses_bad_shapes():
    with pytest.raises(ValueError, match=r"`tokens` .*\[B, N, d\].* received shape \(2, 4\)"):
        TransformerEncoder(1, 2, 2)(tf.zeros([2, 4]))
    with pytest.raises(ValueError, match=r"`mask` .* received shape \(2, 4\)"):
        TransformerEncoder(1, 2, 2)(tf.zeros([2, 3, 4]), tf.ones([2, 4], tf.bool))
    with pytest.raises(ValueError, match="`num_heads` must divide the width 4"):
        TransformerEncoder(1, 3, 2)(tf.zeros([2, 3, 4]))


def test_the_last_token_alone_equals_the_last_of_all():
    encoder = TransformerEncoder(n_layers=2, num_heads=2, dff_factor=2)
    tokens, mask = normal(0, 3, 5, 4), np.random.default_rng(1).random([3, 5]) < 0.7
    last = encoder(tokens, mask, last_only=True)  # builds the layer
    randomise(encoder)
    last = encoder(tokens, mask, last_only=True)
    assert last.shape == (3, 1, 4)
    np.testing.assert_allclose(last, encoder(tokens, mask)[:, -1:], atol=OTHER_SHAPE)
