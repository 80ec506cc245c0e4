import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import TwinAttention
from tests.layers.helpers import assert_same, normal, randomise
from tests.layers.layer_oracles import twin_heads

BATCH, LENGTH, FIELD, FIELDS = 5, 9, 4, 3
WIDTH = FIELD * FIELDS


def case(inherent, seed=0):
    mask = np.random.default_rng(seed).random([BATCH, LENGTH]) < 0.7
    mask[1] = False
    mask[2] = np.arange(LENGTH) < 1  # fewer than a head keeps
    candidate = normal(seed + 1, BATCH, FIELD * len(inherent))
    return normal(seed, BATCH, LENGTH, WIDTH), candidate, mask


def layer_of(inherent=(2, 0), heads=2, top_k=3):
    layer = TwinAttention(heads, top_k, FIELD, inherent)
    layer(*case(inherent))
    randomise(layer)
    return layer


@pytest.mark.parametrize("inherent", [(0, 1, 2), (1,)], ids=str)
def test_each_head_chooses_by_its_own_scores(inherent):
    layer, (history, candidate, mask) = layer_of(inherent), case(inherent)
    chosen, found = layer.choose(history, mask, layer.directions_of(candidate))
    for b in range(BATCH):
        expected = twin_heads(layer, history[b], candidate[b], mask[b])[1]
        for head, best in enumerate(expected):
            np.testing.assert_array_equal(chosen[b, head][found[b, head]], best)


def test_cross_features_are_a_bias_that_the_candidate_never_changes():
    layer, (history, candidate, _) = layer_of((2, 0)), case((2, 0))
    directions = layer.directions_of(candidate)
    assert_same(directions[0, :, FIELD : 2 * FIELD], directions[3, :, FIELD : 2 * FIELD])
    unknown = layer.directions_of(np.zeros_like(candidate))
    scores = tf.matmul(unknown, history, transpose_b=True)
    cross = np.copy(history)
    cross[:, :, :FIELD] = cross[:, :, 2 * FIELD :] = 5.0
    assert_same(tf.matmul(unknown, cross, transpose_b=True), scores)


def test_only_what_a_head_keeps_gets_a_gradient():
    layer, (history, candidate, mask) = layer_of(), case((2, 0))
    history = tf.constant(history)
    with tf.GradientTape() as tape:
        tape.watch(history)
        loss = tf.reduce_sum(layer(history, candidate, mask) ** 2)
    moved = np.any(tape.gradient(loss, history) != 0, axis=2)
    indices, found = layer.choose(history, mask, layer.directions_of(candidate))
    for b in range(BATCH):
        kept = set(indices[b].numpy()[found[b].numpy()])
        assert set(np.flatnonzero(moved[b])) == kept and len(kept) < LENGTH
