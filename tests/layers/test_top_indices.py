import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers.top_indices import top_indices
from tests.layers.helpers import normal
from tests.layers.oracles import best_indices

BATCH, HEADS = 5, 2


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("length", [0, 1, 3, 9])
def test_names_the_best_valid_indices_and_pads_where_there_are_fewer(length, static):
    scores = np.round(normal(0, BATCH, HEADS, length))  # rounded, so that some are equal
    valid = np.random.default_rng(1).random([BATCH, length]) < 0.6
    valid[1] = False
    function = top_indices
    if not static:
        specs = [tf.TensorSpec([None, HEADS, None]), tf.TensorSpec([None, 1, None], tf.bool)]
        function = tf.function(lambda s, v: top_indices(s, v, 4), input_signature=specs)
        assert function.get_concrete_function().output_shapes[0].as_list() == [None, HEADS, 4]
        indices, found = function(scores, valid[:, None])
    else:
        indices, found = function(tf.constant(scores), valid[:, None], 4)
    assert indices.shape == found.shape == (BATCH, HEADS, 4) and indices.dtype == tf.int64
    for b in range(BATCH):
        for head in range(HEADS):
            best = best_indices(scores[b, head], valid[b], 4)
            np.testing.assert_array_equal(indices[b, head], best + [0] * (4 - len(best)))
            np.testing.assert_array_equal(found[b, head], np.arange(4) < len(best))


@pytest.mark.parametrize("masked", [None, 0], ids=["all valid", "one is not"])
def test_looks_first_if_all_are_valid_and_finds_the_same(masked):
    scores = tf.constant(np.round(normal(0, BATCH, HEADS, 9)))
    valid = np.arange(9) != masked
    expected = top_indices(scores, valid, 4)
    for found, right in zip(top_indices(scores, valid, 4, branches=True), expected, strict=True):
        np.testing.assert_array_equal(found, right)


def test_has_no_gradient():
    scores = tf.constant(normal(0, 2, 5))
    with tf.GradientTape() as tape:
        tape.watch(scores)
        indices, found = top_indices(scores, tf.ones([2, 5], tf.bool), 3)
        total = tf.reduce_sum(tf.cast(indices, tf.float32) + tf.cast(found, tf.float32))
    assert tape.gradient(total, scores) is None
