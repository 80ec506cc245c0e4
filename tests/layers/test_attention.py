import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import MultiHeadAttention, TransformerBlock
from diffumin_tf.layers.attention import attend, attend_to_few
from tests.layers import oracles
from tests.layers.helpers import (
    OTHER_SHAPE,
    assert_finite,
    assert_same,
    assert_saving_keeps_outputs,
    block_weights,
    copy_of,
    normal,
    randomise,
)


@pytest.mark.parametrize("conditioned", [False, True])
def test_block_equals_the_equations(conditioned):
    block = TransformerBlock(num_heads=3, dff_factor=2, conditioned=conditioned)
    tokens, condition = normal(0, 4, 5, 6), normal(1, 4, 1, 6)
    mask = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 1]], bool)
    call = {"key_mask": mask, "condition": condition if conditioned else None}
    block(tokens, tokens, **call)
    randomise(block)
    actual = block(tokens, tokens, **call)
    for n in range(4):
        given = condition[n, 0] if conditioned else None
        expected = oracles.transformer_block(tokens[n], mask[n], 3, block_weights(block), given)
        np.testing.assert_allclose(actual[n], expected, atol=2e-5)


def test_fewer_queries_than_keys_give_the_same_answers():
    block = TransformerBlock(num_heads=2, dff_factor=2)
    tokens = normal(0, 3, 5, 4)
    expected = block(tokens, tokens)[:, 1:3]
    assert_same(block(tokens[:, 1:3], tokens), expected, tolerance=OTHER_SHAPE)


@pytest.mark.parametrize("queries", [1, 3])
def test_a_query_without_keys_receives_zero(queries):
    attention = MultiHeadAttention(num_heads=2)
    tokens = normal(0, 2, 3, 4)
    mask = np.array([[False] * 3, [True] * 3])
    attended = attention(tokens[:, :queries], tokens, mask).numpy()
    np.testing.assert_array_equal(attended[0], np.zeros([queries, 4]))
    assert (attended[1] != 0).all()


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("queries", [1, 5])
def test_attention_to_few_keys_equals_attention(heads, queries):
    mask = np.random.default_rng(0).random([50, 3]) < 0.5
    mask[:, 1] |= ~mask.any(axis=1)
    assert len(np.unique(mask, axis=0)) == 7
    query, keys, values = normal(0, 50, queries, 8), normal(1, 50, 3, 8), normal(2, 50, 3, 8)
    inputs = [tf.constant(x) for x in (3 * query, keys, values)]
    results = []
    for function in (attend, attend_to_few):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            attended = function(*inputs, mask, heads)
            loss = tf.reduce_sum(attended * normal(3, 50, queries, 8))
        results.append([attended, *tape.gradient(loss, inputs)])
    assert_same(results[1], results[0], tolerance=OTHER_SHAPE)
    _, _, to_keys, to_values = results[1]
    for gradient in (to_keys, to_values):
        assert not gradient[~mask].numpy().any() and (gradient[mask].numpy() != 0).any()


@pytest.mark.parametrize("logit", [1e3, 1e30])
def test_attention_to_few_keys_stays_finite_for_large_logits(logit):
    keys = tf.constant([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    query = tf.constant([[[logit, 0.0]]])
    with tf.GradientTape() as tape:
        tape.watch([query, keys])
        attended = attend_to_few(query, keys, keys, tf.constant([[True, True, False]]), 1)
        loss = tf.reduce_sum(attended)
    np.testing.assert_array_equal(attended, [[[1.0, 0.0]]])
    assert_finite(tape.gradient(loss, [query, keys]))


def test_survives_config_and_saving(tmp_path):
    tokens = tf.constant(normal(0, 2, 3, 4))
    attention = MultiHeadAttention(num_heads=2)
    expected = attention(tokens, tokens)
    assert_same(copy_of(attention, tokens, tokens)(tokens, tokens), expected)
    block = TransformerBlock(2, 3, 0.1, conditioned=True, seed=4)
    inputs = [tokens, tokens, tf.ones([2, 3], tf.bool), tokens[:, :1]]
    expected = block(*inputs)
    assert_same(copy_of(block, *inputs)(*inputs), expected)
    assert_saving_keeps_outputs(block, inputs, tmp_path)


def test_refuses_what_does_not_fit():
    tokens = tf.zeros([2, 3, 6])
    with pytest.raises(ValueError, match="`num_heads` must divide the width 6 .* received 4"):
        MultiHeadAttention(num_heads=4)(tokens, tokens)
    with pytest.raises(ValueError, match=r"`keys` .* received shape \(2, 3, 5\)"):
        MultiHeadAttention(num_heads=2)(tokens, tf.zeros([2, 3, 5]))
    with pytest.raises(ValueError, match=r"`key_mask` .* received shape \(2, 4\)"):
        MultiHeadAttention(num_heads=2)(tokens, tokens, tf.ones([2, 4], tf.bool))
    with pytest.raises(ValueError, match="`condition` .* conditioned=True"):
        TransformerBlock(2, 2, conditioned=True)(tokens, tokens)
    with pytest.raises(ValueError, match="`dff_factor` .* received 0"):
        TransformerBlock(2, 0)


def test_a_single_query_needs_no_batched_matrix_product():
    """Which crashed with as many keys as a head is wide; see `attend`."""

    @tf.function
    def gradient(tokens):
        with tf.GradientTape() as tape:
            tape.watch(tokens)
            loss = tf.reduce_sum(attend(tokens[:, :1], tokens, tokens, None, 2) ** 2)
        return tape.gradient(loss, tokens)

    graph = gradient.get_concrete_function(tf.TensorSpec([None, 4, 8])).graph
    operations = {operation.type for operation in graph.get_operations()}
    assert "Mul" in operations
    assert not {name for name in operations if "MatMul" in name or "Einsum" in name}
