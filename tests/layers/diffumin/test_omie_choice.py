"""The two halves of OMIE: what a channel chooses, and what becomes of it."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import OrthogonalMultiInterestExtractor as Extractor
from tests.layers import oracles
from tests.layers.helpers import assert_same, normal

BATCH, WIDTH, CHANNELS = 5, 6, 3


def case(length, seed=0):
    mask = np.random.default_rng(seed).random([BATCH, length]) < 0.6
    mask[1] = False
    return normal(seed, BATCH, length, WIDTH), normal(seed + 1, BATCH, WIDTH), mask


def extractor(**changes):
    layer = Extractor(CHANNELS, channel_init="random", seed=2, **changes)
    layer.build([None, None, WIDTH])
    return layer


def halves(layer, history, mask, channels):
    places, there = layer.choose(history, mask, channels)
    picked = tf.gather(history, places, batch_dims=1)
    count = tf.constant(mask.sum(axis=1), tf.float32)
    return places, there, *layer.aggregate(picked, there, channels, count)


@pytest.mark.parametrize("aggregation", ["mean", "sum", "softmax"])
@pytest.mark.parametrize(("length", "top_p", "k"), [(30, 10, 4), (40, 100, 40), (3, 20, 8)])
def test_both_halves_together_equal_the_equations_and_a_call(length, top_p, k, aggregation):
    history, candidate, mask = case(length)
    layer = extractor(top_p=top_p, seq_len=40, aggregation=aggregation)
    channels = layer.channels_of(candidate)
    places, there, interests, kept = halves(layer, history, mask, channels)
    assert places.shape == there.shape == kept.shape == (BATCH, CHANNELS, k)
    assert places.dtype == tf.int32 and not (kept & ~there).numpy().any()
    called = layer(history, candidate, mask)
    assert_same([interests, channels], called[:2])
    weights = layer.projection.get_weights()
    for b in range(BATCH):
        expected, _, marked = oracles.extract_interests(
            history[b], candidate[b], mask[b], *weights, CHANNELS, k, aggregation
        )
        np.testing.assert_allclose(interests[b], expected, atol=2e-5, rtol=1e-4)
        np.testing.assert_array_equal(called.kept[b], marked)
        for c in range(CHANNELS):
            chosen = places[b, c].numpy()[kept[b, c].numpy()]
            np.testing.assert_array_equal(np.sort(chosen), np.flatnonzero(marked[:, c]))


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("length", [1, 4, 20])
def test_a_choice_names_the_best_valid_places_and_pads_where_there_are_fewer(length, static):
    history, candidate, mask = case(length, seed=3)
    layer = extractor(top_p=50, seq_len=10)
    channels = layer.channels_of(candidate)
    choose = layer.choose
    if not static:
        specs = [[None, None, WIDTH], [None, None], [None, CHANNELS, WIDTH]]
        dtypes = [tf.float32, tf.bool, tf.float32]
        choose = tf.function(choose, input_signature=list(map(tf.TensorSpec, specs, dtypes)))
        assert choose.get_concrete_function().output_shapes[0].as_list() == [None, CHANNELS, 5]
    places, there = choose(history, mask, channels)
    for b in range(BATCH):
        scores = history[b] @ channels[b].numpy().T
        for c in range(CHANNELS):
            best = sorted(np.flatnonzero(mask[b]), key=lambda j: -scores[j, c])[:5]  # noqa: B023
            np.testing.assert_array_equal(places[b, c], best + [0] * (5 - len(best)))
            np.testing.assert_array_equal(there[b, c], np.arange(5) < len(best))


def test_a_choice_has_no_gradient():
    history, candidate, mask = case(9)
    layer, history = extractor(), tf.constant(history)
    with tf.GradientTape() as tape:
        tape.watch(history)
        channels = layer.channels_of(candidate)
        places, there = layer.choose(history, mask, channels)
        total = tf.reduce_sum(tf.cast(places, tf.float32) + tf.cast(there, tf.float32))
    assert tape.gradient(total, [history, *layer.trainable_variables]) == [None] * 3


def test_what_is_masked_is_never_chosen_however_high_its_score():
    history, candidate, mask = case(12)
    layer = extractor(top_p=100)
    channels = layer.channels_of(candidate)
    loud = 100 * np.sum(channels, axis=1, keepdims=True)
    history = np.where(mask[:, :, None], history, loud)
    places, there, interests, _ = halves(layer, history, mask, channels)
    for b in range(BATCH):
        assert mask[b, places[b].numpy()[there[b].numpy()]].all()
    quiet = np.where(mask[:, :, None], history, 0).astype(np.float32)
    assert_same(interests, halves(layer, quiet, mask, channels)[2])
    assert not interests[1].numpy().any()


def test_a_behaviour_of_zeros_that_is_valid_goes_to_the_first_channel():
    layer = extractor(top_p=30)
    channels = layer.channels_of(normal(1, BATCH, WIDTH))
    history, mask = np.zeros([BATCH, 10, WIDTH], np.float32), np.ones([BATCH, 10], bool)
    mask[:, 0] = False
    places, there, interests, kept = halves(layer, history, mask, channels)
    assert there.numpy().all() and not interests.numpy().any()
    np.testing.assert_array_equal(kept, np.tile([[True], [False], [False]], [BATCH, 1, 3]))
    np.testing.assert_array_equal(places, np.tile([1, 2, 3], [BATCH, CHANNELS, 1]))


def test_of_equal_behaviours_the_more_recent_are_kept():
    layer = extractor(top_p=30)
    channels = layer.channels_of(normal(1, BATCH, WIDTH))
    # One behaviour again and again, with a better one and two worse ones between.
    history = np.repeat(np.array(channels[:, :1]), 20, axis=1)
    history[:, 11] *= 2
    history[:, [0, 2]] *= -1
    places, _, _, kept = halves(layer, history, np.ones([BATCH, 20], bool), channels)
    np.testing.assert_array_equal(places[:, 0], np.tile([11, 1, 3, 4, 5, 6], [BATCH, 1]))
    assert kept[:, 0].numpy().all()


def test_a_history_without_any_place_gives_no_interest():
    extractor = Extractor(channels=2, seq_len=10)
    found = extractor(tf.zeros([3, 0, 4]), normal(0, 3, 4))
    assert found.interests.shape == (3, 2, 4) and not found.interests.numpy().any()
    assert found.kept.shape == (3, 0, 2) and not found.live.numpy().any()
