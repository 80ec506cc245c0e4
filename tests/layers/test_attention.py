import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import MultiHeadAttention, TransformerBlock
from diffumin_tf.layers.attention import attend
from tests.layers.helpers import OTHER_SHAPE, assert_same, normal


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


def test_a_condition_and_a_conditioned_block_come_together():
    tokens = tf.zeros([2, 3, 6])
    for conditioned, condition in ((True, None), (False, tokens[:, :1])):
        with pytest.raises(ValueError, match="`condition` must be given exactly if"):
            TransformerBlock(2, 2, conditioned=conditioned)(tokens, tokens, condition=condition)


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


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("masked", [np.nan, np.inf, 3e38])
def test_nothing_of_a_masked_key_is_left_whatever_it_holds(queries, masked):
    attention, mask = MultiHeadAttention(num_heads=2), np.array([[True, False, True]] * 2)
    query, keys = normal(0, 2, queries, 4), normal(1, 2, 3, 4)
    results = []
    for content in (0.0, masked):
        tensor = tf.constant(np.where(mask[..., np.newaxis], keys, np.float32(content)))
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            attended = attention(query, tensor, mask)
        results.append([attended, *tape.gradient(attended, [tensor, *attention.weights])])
    assert_same(*results, tolerance=0)
