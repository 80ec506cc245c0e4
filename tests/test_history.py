"""Histories in groups: which samples are padded together never matters."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.history import History
from diffumin_tf.input.batch import HistoryGroup, Windows
from diffumin_tf.layers import DiffusionMultiInterestGenerator, IdEmbedding
from diffumin_tf.model import compiled_for_any_batch
from tests.layers.helpers import normal
from tests.small_model import LEAN, batch, build, grouped_batch, pctr

LENGTHS = [3, 0, 7, 1, 5, 7, 0, 2, 4]
SAMPLES, LONGEST, FIELDS, WIDTH, TABLE_ROWS = len(LENGTHS), 7, 3, 2, 60
MASK = np.arange(LONGEST) < np.array(LENGTHS)[:, np.newaxis]
# Some ids are unknown, so that row 0 also stands where a behaviour is.
ROWS = np.random.default_rng(0).integers(0, TABLE_ROWS, [SAMPLES, LONGEST, FIELDS])
ROWS[np.random.default_rng(1).random(ROWS.shape) < 0.2] = 0
ROWS *= MASK[:, :, np.newaxis]
# Group of every sample, and the length of every group; some hold no sample.
GROUPINGS = {
    "one": ([0] * SAMPLES, [7]),
    "one, padded": ([0] * SAMPLES, [11]),
    "by length": ([1, 0, 2, 0, 2, 2, 0, 1, 2], [1, 3, 7]),
    "shuffled, some empty": ([4, 1, 2, 4, 2, 4, 2, 1, 2], [9, 2, 7, 1, 8]),
    "last one longest and empty": ([0, 1, 0, 1, 0, 0, 1, 0, 0], [7, 2, 12]),
}
# The histories of its samples one after the other, with something between them, in each tile.
TILES = {
    "windows": [[[5, 1, 2], [4, 7], [0, 8, 3], [6]]],
    "windows and groups": [[[8, 2]], [[0, 3, 5], [1, 4, 6, 7]], []],
}


@pytest.fixture(scope="module")
def embedding():
    layer = IdEmbedding(TABLE_ROWS, WIDTH)
    layer(tf.constant([0]))
    layer.table.assign(normal(2, TABLE_ROWS, WIDTH))  # row 0 too
    return layer


@pytest.fixture(params=[*GROUPINGS, *TILES])
def history(request, embedding):
    return History(grouped(request.param, ROWS), embedding)


def grouped(grouping, rows):
    if grouping in TILES:
        return [windows(rows, tiles) for tiles in TILES[grouping]]
    return groups(rows, MASK, *GROUPINGS[grouping])


def groups(rows, mask, group_of, lengths):
    def padded_to(length, values):
        room = max(length - values.shape[1], 0)
        return np.pad(values[:, :length], [(0, 0), (0, room)] + [(0, 0)] * (values.ndim - 2))

    made = []
    for group, length in enumerate(lengths):
        samples = np.flatnonzero(np.array(group_of) == group)
        assert not mask[samples, length:].any()
        padded = [padded_to(length, x[samples]) for x in (rows.astype(np.int32), mask)]
        made.append(HistoryGroup(*map(tf.constant, [*padded, samples.astype(np.int32)])))
    return made


def windows(rows, tiles):
    """A group of stored histories, each of which begins to be seen where that of a sample does."""
    samples = sorted({sample for tile in tiles for sample in tile})
    width = max([len(tile) for tile in tiles], default=1) + 1  # the last places are free
    at, place = np.zeros([len(tiles), width], np.int32), np.zeros(len(samples), np.int32)
    first, stop = np.zeros([2, len(samples)], np.int32)
    stored = np.full([len(tiles), 3 * (LONGEST + 1), FIELDS], 7, np.int32)
    mask = np.ones(stored.shape[:2], bool)
    for number, tile in enumerate(tiles):
        begin = 1
        for in_tile, sample in enumerate(tile):
            index, length = samples.index(sample), LENGTHS[sample]
            at[number, in_tile], place[index] = index, number * width + in_tile
            first[index], stop[index] = begin, begin + length
            stored[number, begin : begin + length] = rows[sample, :length]
            begin += length + 1
    made = Windows(*map(tf.constant, [at, place, first, stop]))
    return HistoryGroup(*map(tf.constant, [stored, mask, np.int32(samples)]), made)


def embedded(embedding, rows):
    """The behaviours of one sample, [L, F·e], from the table."""
    table = embedding.table.numpy() * (np.arange(TABLE_ROWS) > 0)[:, np.newaxis]
    return table[rows].reshape([len(rows), rows.shape[1] * WIDTH])


def total(products, valid, factor):
    """The sum of the valid products of each query, times a factor of each sample."""
    return factor[:, tf.newaxis] * tf.reduce_sum(
        tf.where(valid[:, tf.newaxis], products, 0), axis=2
    )


def test_a_choice_and_a_look_are_those_of_every_sample_alone(history, embedding):
    queries, factor = normal(3, SAMPLES, 2, FIELDS * WIDTH), normal(4, SAMPLES)
    rows, found = history.choose(tf.constant(queries), 3)
    seen = history.look(total, tf.constant(queries), tf.constant(factor))
    assert rows.shape == (SAMPLES, 2, 3, FIELDS) and seen.shape == (SAMPLES, 2)
    for sample, length in enumerate(LENGTHS):
        scores = queries[sample] @ embedded(embedding, ROWS[sample, :length]).T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :3]
        present = min(length, 3)
        np.testing.assert_array_equal(rows[sample, :, :present], ROWS[sample][best])
        assert not rows[sample, :, present:].numpy().any()
        np.testing.assert_array_equal(found[sample], [np.arange(3) < present] * 2)
        np.testing.assert_allclose(seen[sample], factor[sample] * scores.sum(axis=1), atol=1e-5)


def test_queries_are_compared_with_the_keys_that_are_made_of_embeddings(history, embedding):
    queries = tf.constant(normal(3, SAMPLES, 2, FIELDS * WIDTH))
    ones = tf.ones(SAMPLES)
    for keys, of_queries in [(lambda x: -2 * x, -2 * queries), (lambda x: x[..., :3], queries)]:
        width = keys(queries).shape[2]
        found = history.choose(queries[..., :width], 2, keys=keys)
        plain = tf.concat([of_queries[..., :width], 0 * queries[..., width:]], axis=2)
        for one, expected in zip(found, history.choose(plain, 2), strict=True):
            np.testing.assert_array_equal(one, expected)
        looked = history.look(total, queries[..., :width], ones, keys=keys)
        np.testing.assert_allclose(looked, history.look(total, plain, ones), atol=1e-5)


def test_a_choice_is_made_without_gradient_and_embedded_with_one(history, embedding):
    queries = tf.Variable(normal(3, SAMPLES, 1, FIELDS * WIDTH))
    with tf.GradientTape(persistent=True) as tape:
        seen = history.look(total, queries, tf.ones(SAMPLES))
        rows, _ = history.choose(queries, 2)
        chosen = history.embed(rows)
    assert np.abs(seen).max() > 0.1
    assert tape.gradient(seen, [embedding.table, queries]) == [None, None]
    gradient = tape.gradient(chosen, embedding.table)
    np.testing.assert_array_equal(gradient.indices, tf.reshape(rows, [-1]))
    for sample in range(SAMPLES):
        np.testing.assert_array_equal(chosen[sample, 0], embedded(embedding, rows[sample, 0]))


@pytest.mark.parametrize("count", [1, 3, 7, 13])
def test_the_recent_behaviours_are_padded_where_there_are_fewer(history, count):
    rows, mask = history.recent(count)
    assert rows.shape == (SAMPLES, count, FIELDS) and mask.shape == (SAMPLES, count)
    for sample, length in enumerate(LENGTHS):
        present = min(length, count)
        np.testing.assert_array_equal(rows[sample, :present], ROWS[sample, :present])
        assert not rows[sample, present:].numpy().any()
        np.testing.assert_array_equal(mask[sample], np.arange(count) < present)


@pytest.mark.parametrize("count", [1, 2, 13])
@pytest.mark.parametrize("grouping", [*GROUPINGS, *TILES])
def test_the_most_recent_behaviours_of_a_given_row_are_found(grouping, count, embedding):
    few = ROWS % 3  # so that rows come again and again
    wanted = 1 + np.arange(SAMPLES) % 2
    wanted[5] = 0  # an unknown id, as there are in that history
    assert (few[5, :, 0] == 0).any()
    history = History(grouped(grouping, few), embedding)
    rows, mask = history.matching(0, tf.constant(wanted, tf.int32), count)
    found = []
    for sample, length in enumerate(LENGTHS):
        valid = few[sample, :length]
        expected = valid[(valid[:, 0] == wanted[sample]) & (wanted[sample] > 0)][:count]
        np.testing.assert_array_equal(rows[sample, : len(expected)], expected)
        assert not rows[sample, len(expected) :].numpy().any()
        np.testing.assert_array_equal(mask[sample], np.arange(count) < len(expected))
        found.append(len(expected))
    assert max(found) == min(count, 2) and found[5] == 0


def test_the_whole_of_it_is_there_with_gradients(history, embedding):
    with tf.GradientTape() as tape:
        behaviours, mask = history.whole()
        total = tf.reduce_sum(tf.where(mask[:, :, tf.newaxis], behaviours, 0.0))
    for sample, length in enumerate(LENGTHS):
        expected = embedded(embedding, ROWS[sample, :length])
        np.testing.assert_array_equal(behaviours[sample, :length], expected)
        np.testing.assert_array_equal(mask[sample], np.arange(mask.shape[1]) < length)
    seen = np.bincount(ROWS[MASK].ravel(), minlength=TABLE_ROWS)
    seen[0] = 0
    gradient = tf.convert_to_tensor(tape.gradient(total, embedding.table))
    np.testing.assert_allclose(gradient, np.repeat(seen[:, np.newaxis], WIDTH, axis=1))
    np.testing.assert_array_equal(history.lengths(), np.float32(LENGTHS))


def test_picked_fields_come_in_the_order_asked_for(history, embedding):
    picked = history.pick([2, 0])
    behaviours, mask = picked.whole()
    rows, _ = picked.recent(LONGEST)
    np.testing.assert_array_equal(rows, ROWS[:, :, [2, 0]])
    for sample, length in enumerate(LENGTHS):
        expected = embedded(embedding, ROWS[sample, :length][:, [2, 0]])
        np.testing.assert_array_equal(behaviours[sample, :length], expected)
    np.testing.assert_array_equal(history.pick([0, 1, 2]).recent(LONGEST)[0], ROWS)
    np.testing.assert_array_equal(mask, history.whole()[1])


def any_grouping(inputs):
    """The inputs with their one group in five, some of them empty."""
    (group,) = inputs.histories
    rows, mask = group.rows.numpy(), group.mask.numpy()
    longest = mask.shape[1]
    group_of = np.random.default_rng(5).choice([1, 2, 4], len(mask))
    group_of[mask.sum(axis=1) <= 2] = 0
    lengths = [2, longest, longest + 5, 1, longest]
    return inputs._replace(histories=tuple(groups(rows, mask, group_of, lengths)))


def test_groups_never_change_a_score(scoring):
    model, path = scoring
    inputs = batch(path)
    expected = pctr(model, inputs)
    assert expected.std() > 0.01
    for other in (any_grouping(inputs), grouped_batch(model)):
        np.testing.assert_allclose(pctr(model, other), expected, atol=1e-6)


def test_a_graph_that_was_traced_for_groups_takes_other_groups():
    model, path = build(**LEAN)
    score = compiled_for_any_batch(lambda inputs: model.predict_click(inputs)["pctr"])
    for seed, size in [(0, 16), (1, 5), (2, 30)]:
        expected = pctr(model, batch(path, seed, size))
        found = score(grouped_batch(model, seed, size))
        np.testing.assert_allclose(found, expected, atol=1e-6)


def losses_and_gradients(model, inputs):
    for module in model.submodules:
        if isinstance(module, DiffusionMultiInterestGenerator):
            module.random.draws.assign(0)
    with tf.GradientTape() as tape:
        losses = [model.compute_loss(inputs, training=True), *model.losses]
        total = tf.add_n(losses)
    gradients = tape.gradient(total, model.trainable_variables)
    return np.array(losses), [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]


def test_groups_never_change_a_loss_or_a_gradient():
    model, path = build(**LEAN, lamda1=1.0, lamda2=1.0)
    inputs = batch(path)
    losses, gradients = losses_and_gradients(model, inputs)
    assert len(losses) == 3 and (losses > 0.01).all()
    for other in (any_grouping(inputs), grouped_batch(model)):
        found, other_gradients = losses_and_gradients(model, other)
        np.testing.assert_allclose(found, losses, rtol=1e-5)
        for one, expected in zip(other_gradients, gradients, strict=True):
            np.testing.assert_allclose(one, expected, rtol=1e-3, atol=1e-6)


def shared_and_repeated(embedding, length, count=4):
    """One history for all samples, and the same one in each of them."""
    rows, mask = ROWS[5:6, :length], MASK[5:6, :length]
    samples = tf.range(count)
    windows = Windows(samples[tf.newaxis], samples, 0 * samples, length + 0 * samples)
    one = HistoryGroup(tf.constant(rows, tf.int32), tf.constant(mask), samples, windows)
    every = groups(rows.repeat(count, 0), mask.repeat(count, 0), [0] * count, [length])
    return History([one], embedding), History(every, embedding)


@pytest.mark.parametrize("fields", [[0, 1, 2], [2, 0]])
@pytest.mark.parametrize("length", [7, 2])
def test_a_shared_history_is_that_of_every_sample(embedding, fields, length):
    shared, repeated = (h.pick(fields) for h in shared_and_repeated(embedding, length))
    queries = tf.constant(normal(3, 4, 2, len(fields) * WIDTH))
    looks = [
        lambda h: h.choose(queries, 2),
        lambda h: (h.look(total, queries, tf.ones(4)),),
        lambda h: h.matching(0, tf.constant(ROWS[5, :4, fields[0]], tf.int32), 3),
        lambda h: h.recent(3),
        lambda h: (h.lengths(),),
        lambda h: h.whole(),
    ]
    for look in looks:
        for found, expected in zip(look(shared), look(repeated), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)
