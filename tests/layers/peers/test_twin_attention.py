import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import TwinAttention
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
from tests.layers.peer_oracles import twin_attention

BATCH, LENGTH, FIELD, FIELDS = 5, 9, 4, 3
WIDTH = FIELD * FIELDS


def case(inherent, seed=0):
    mask = np.random.default_rng(seed).random([BATCH, LENGTH]) < 0.7
    mask[1] = False
    mask[2] = np.arange(LENGTH) < 1  # fewer than a head keeps
    candidate = normal(seed + 1, BATCH, FIELD * len(inherent))
    return normal(seed, BATCH, LENGTH, WIDTH), candidate, mask


def layer_of(inherent=(2, 0), heads=2, places=3):
    layer = TwinAttention(heads, places, FIELD, inherent)
    layer(*case(inherent))
    randomise(layer)
    return layer


def weights_of(layer):
    weights = {
        "query": layer.query_kernel,
        "key": layer.key_kernel,
        "value": layer.value_kernel,
        "output": layer.output_kernel,
    }
    if layer.cross:
        weights |= {"compression": layer.compression, "importance": layer.importance}
    return {name: weight.numpy().astype(np.float64) for name, weight in weights.items()}


@pytest.mark.parametrize("places", [3, 20])
@pytest.mark.parametrize("inherent", [(0, 1, 2), (2, 0), (1,)], ids=str)
@pytest.mark.parametrize("heads", [1, 3])
def test_both_stages_equal_the_equations(heads, inherent, places):
    layer, (history, candidate, mask) = layer_of(inherent, heads, places), case(inherent)
    found = layer(history, candidate, mask)
    chosen, there = layer.choose(history, mask, layer.directions_of(candidate))
    assert found.shape == (BATCH, WIDTH) and chosen.shape == (BATCH, heads, places)
    for b in range(BATCH):
        expected, best = twin_attention(
            history[b], candidate[b], mask[b], weights_of(layer), inherent, FIELD, heads, places
        )
        np.testing.assert_allclose(found[b], expected, atol=1e-5)
        for head in range(heads):
            kept = chosen[b, head].numpy()[there[b, head].numpy()]
            np.testing.assert_array_equal(kept, best[head])
    assert np.abs(found).max() > 0.1 and not found[1].numpy().any()


def test_cross_features_are_a_bias_that_the_candidate_never_changes():
    layer, (history, candidate, _) = layer_of((2, 0)), case((2, 0))
    directions = layer.directions_of(candidate)
    assert_same(directions[0, :, FIELD : 2 * FIELD], directions[3, :, FIELD : 2 * FIELD])
    unknown = layer.directions_of(np.zeros_like(candidate))
    scores = tf.matmul(unknown, history, transpose_b=True)
    cross = np.copy(history)
    cross[:, :, :FIELD] = cross[:, :, 2 * FIELD :] = 5.0
    assert_same(tf.matmul(unknown, cross, transpose_b=True), scores)


def test_of_equal_scores_the_more_recent_are_kept():
    layer, (history, candidate, _) = layer_of(places=3), case((2, 0))
    same = np.repeat(history[:, :1], LENGTH, axis=1)
    mask = np.arange(LENGTH) % 2 == np.ones([BATCH, 1])
    places, there = layer.choose(same, mask, layer.directions_of(candidate))
    np.testing.assert_array_equal(places, np.tile([1, 3, 5], [BATCH, 2, 1]))
    assert there.numpy().all()


def test_no_mask_means_all_valid():
    layer, (history, candidate, _) = layer_of(), case((2, 0))
    everything = np.ones([BATCH, LENGTH], bool)
    assert_same(layer(history, candidate), layer(history, candidate, everything))


def test_padding_never_changes_an_interest():
    layer, (history, candidate, mask) = layer_of(), case((2, 0))
    longer = np.pad(history, [(0, 0), (0, 6), (0, 0)], constant_values=9)
    longer[:, :LENGTH][~mask] = -7
    found = layer(longer, candidate, np.pad(mask, [(0, 0), (0, 6)]))
    assert_same(found, layer(history, candidate, mask), OTHER_SHAPE)


@pytest.mark.parametrize("length", [0, LENGTH])
def test_empty_histories_give_zero_with_finite_gradients(length):
    layer = layer_of()
    history, candidate = tf.zeros([2, length, WIDTH]), tf.constant(normal(1, 2, 2 * FIELD))
    with tf.GradientTape() as tape:
        tape.watch([history, candidate])
        interest = layer(history, candidate, tf.zeros([2, length], tf.bool))
        loss = tf.reduce_sum(interest)
    assert interest.shape == (2, WIDTH) and not interest.numpy().any()
    assert_finite(tape.gradient(loss, [history, candidate, *layer.trainable_variables]))


def test_only_what_a_head_keeps_gets_a_gradient():
    layer, (history, candidate, mask) = layer_of(), case((2, 0))
    history = tf.constant(history)
    with tf.GradientTape() as tape:
        tape.watch(history)
        loss = tf.reduce_sum(layer(history, candidate, mask) ** 2)
    moved = np.any(tape.gradient(loss, history) != 0, axis=2)
    places, there = layer.choose(history, mask, layer.directions_of(candidate))
    for b in range(BATCH):
        kept = set(places[b].numpy()[there[b].numpy()])
        assert set(np.flatnonzero(moved[b])) == kept and len(kept) < LENGTH


def test_batch_mates_never_change_an_interest():
    assert_batch_mates_never_matter(layer_of(), list(case((2, 0))))


def test_survives_config_and_saving(tmp_path):
    layer, inputs = layer_of(), [tf.constant(x) for x in case((2, 0))]
    assert_same(copy_of(layer, *inputs)(*inputs), layer(*inputs))
    assert_saving_keeps_outputs(layer, inputs, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"places": 0}, "`places` .* received 0"),
        ({"inherent": []}, r"`inherent` .* received \[\]"),
        ({"inherent": [1, 1]}, r"`inherent` .* received \[1, 1\]"),
        ({"inherent": [3]}, r"`inherent` must name fields of width 4 .*12, received \[3\]"),
        ({"field_dim": 5}, "`inherent` must name fields of width 5"),
        ({"num_heads": 5}, "`num_heads` must divide the width 12 .* received 5"),
    ],
)
def test_refuses_what_does_not_fit(changes, message):
    arguments = {"num_heads": 2, "places": 3, "field_dim": FIELD, "inherent": [0], **changes}
    with pytest.raises(ValueError, match=message):
        TwinAttention(**arguments).build(tf.TensorShape([None, None, WIDTH]))
