import math

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import OrthogonalMultiInterestExtractor as Extractor
from tests.layers import oracles
from tests.layers.helpers import assert_same, normal, randomise


def case(seed, batch, length, width, lengths=None):
    """History, candidate and mask; without lengths, the mask has holes and an empty row."""
    if lengths is None:
        mask = np.random.default_rng(seed).random([batch, length]) < 0.6
        mask[1] = False
    else:
        mask = np.arange(length) < np.array(lengths)[:, None]
    return normal(seed, batch, length, width), normal(seed + 1, batch, width), mask


def marks(extracted, length):
    """Which behaviours each channel keeps, [B, L, C]."""
    indices, kept = np.asarray(extracted.indices), np.asarray(extracted.kept)
    marked = np.zeros([len(kept), length, kept.shape[1]], bool)
    for b, c, k in np.argwhere(kept):
        marked[b, indices[b, c, k], c] = True
    return marked


@pytest.mark.parametrize("aggregation", ["mean", "sum", "softmax"])
@pytest.mark.parametrize(
    ("width", "channels", "top_p", "seq_len", "lengths", "parts"),
    [
        (6, 3, 20, 20, [20, 0, 1, 3, 9], {}),
        (8, 4, 30, 12, [12, 7, 0, 2], {}),
        (5, 5, 100, 9, [9, 4], {}),
        (7, 1, 10, 9, [9, 0, 2], {}),
        (4, 2, 20, 10, [0, 0], {}),
        (12, 2, 50, 100, [10, 30], {}),
        (6, 3, 10, 40, None, {}),
        (6, 3, 20, 20, [20, 1, 9], {"orthogonal": False}),
        (6, 3, 20, 20, [20, 1, 9], {"routing": False}),
    ],
)
def test_equals_the_equations(width, channels, top_p, seq_len, lengths, parts, aggregation):
    batch, longest = (len(lengths), max(lengths)) if lengths else (4, 30)
    history, candidate, mask = case(width, batch, longest, width, lengths)
    layer = Extractor(
        channels, top_p, seq_len, None, "random", aggregation=aggregation, seed=1, **parts
    )
    extracted = layer(history, candidate, mask)
    k = math.ceil(top_p * seq_len / 100)
    assert extracted.indices.shape == extracted.kept.shape == (batch, channels, k)
    marked = marks(extracted, longest)
    for b in range(batch):
        interests, orthonormal, kept = oracles.extract_interests(
            history[b],
            candidate[b],
            mask[b],
            *layer.projection.get_weights(),
            channels,
            k,
            aggregation,
            **parts,
        )
        np.testing.assert_allclose(extracted.interests[b], interests, atol=2e-5, rtol=1e-4)
        np.testing.assert_allclose(extracted.channels[b], orthonormal, atol=2e-5)
        np.testing.assert_array_equal(marked[b], kept)
        np.testing.assert_array_equal(extracted.live[b], kept.any(axis=0))


def test_gradients_are_those_of_the_formula_over_the_whole_history():
    """Of a call, and of its three steps with a lookup between them, as a model makes them."""
    history, candidate, mask = map(tf.constant, case(1, 4, 20, 6))
    layer = Extractor(3, top_p=20, seq_len=20, seed=0)
    layer(history, candidate, mask)
    randomise(layer)
    sources = [history, candidate, *layer.trainable_variables]
    kept = marks(layer(history, candidate, mask), 20)
    lengths = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)

    def formula():
        scores = tf.matmul(history, layer.channels_of(candidate), transpose_b=True)
        interests = tf.einsum("blc,bld->bcd", tf.where(kept, scores, 0.0), history)
        return interests / tf.maximum(lengths, 1)[:, None, None]

    def steps():
        channels = layer.channels_of(candidate)
        indices, found = layer.choose(history, mask, channels)
        looked_up = tf.gather(history, indices, batch_dims=1)
        return layer.aggregate(looked_up, found, channels, lengths)[0]

    results = []
    for extract in (formula, lambda: layer(history, candidate, mask).interests, steps):
        with tf.GradientTape() as tape:
            tape.watch(sources[:2])
            interests = extract()
            loss = tf.reduce_sum(interests * normal(0, 4, 3, 6))
        gradients = map(tf.convert_to_tensor, tape.gradient(loss, sources))
        results.append([interests, *gradients])
    for found in results[1:]:
        assert_same(found, results[0], tolerance=1e-5)
    np.testing.assert_array_equal(np.any(results[1][1] != 0, axis=-1), kept.any(axis=2))


@pytest.mark.parametrize("channel_init", ["field_aligned", "random"])
def test_channels_are_orthonormal(channel_init):
    layer = Extractor(8, channel_init=channel_init, field_dim=4, seed=0)
    candidate = np.concatenate([normal(0, 16, 32), 1e-3 * normal(1, 16, 32), np.zeros([1, 32])])
    channels = layer(np.zeros([33, 2, 32], np.float32), candidate).channels
    gram = tf.matmul(channels, channels, transpose_b=True)
    np.testing.assert_allclose(gram, np.tile(np.eye(8), [33, 1, 1]), atol=2e-6)


def test_field_aligned_channels_start_as_the_fields_of_the_candidate():
    layer = Extractor(2, init_noise=0.0, aligned_fields=[1, 0])
    layer.build([None, None, 4])
    channels = layer.channels_of(tf.constant([[3.0, 4.0, 0.0, 5.0]]))
    np.testing.assert_allclose(channels[0], [[0, 0, 0, 1], [0.6, 0.8, 0, 0]], atol=1e-3)


def test_ties_go_to_the_first_channel_and_the_most_recent_behaviours():
    layer = Extractor(2, top_p=20, init_noise=0.0, field_dim=2)
    candidate = np.array([[1.0, 0.0, 1.0, 0.0]], np.float32)
    history = np.tile(np.float32([1, 0, 0, 0]), [1, 10, 1])
    mask = np.arange(10)[None] > 0
    layer.build([None, None, 4])
    layer.projection.bias.assign(tf.zeros([8]))
    kept = marks(layer(history, candidate, mask), 10)
    np.testing.assert_array_equal(np.argwhere(kept[0]), [[1, 0], [2, 0]])
    both = layer(np.tile(np.float32([1, 0, 1, 0]), [1, 10, 1]), candidate)
    np.testing.assert_array_equal(np.sum(both.kept, axis=2), [[2, 0]])


@pytest.mark.parametrize(
    ("top_p", "seq_len", "length", "expected"),
    [
        (20, 10, 10, 2),
        (21, 10, 10, 3),
        (0.1, 10, 10, 1),
        (100, 40, 8, 8),
        (16.1, 1000, 200, 161),
        (1.1, None, 1000, 11),
    ],
)
def test_a_channel_keeps_at_most_top_p_percent(top_p, seq_len, length, expected):
    layer = Extractor(1, top_p=top_p, seq_len=seq_len)
    history, candidate = np.ones([1, length, 4], np.float32), np.ones([1, 4], np.float32)
    spec = [tf.TensorSpec([None, None, 4]), tf.TensorSpec([None, 4])]
    for extract in (layer, tf.function(lambda h, c: layer(h, c), input_signature=spec)):
        assert np.sum(extract(history, candidate).kept) == expected


@pytest.mark.parametrize(
    ("channels", "message"),
    [(7, "`channels` must be at most the width 6"), (4, "`field_dim` must be given, or `channel")],
)
def test_channels_that_do_not_fit_the_width_are_refused(channels, message):
    with pytest.raises(ValueError, match=message):
        Extractor(channels)(tf.zeros([2, 5, 6]), tf.zeros([2, 6]))
