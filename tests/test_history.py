"""Histories in groups: which samples are padded together never matters."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.history import History, SharedHistory
from diffumin_tf.input.batch import HistoryGroup
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


@pytest.fixture(scope="module")
def embedding():
    layer = IdEmbedding(TABLE_ROWS, WIDTH)
    layer(tf.constant([0]))
    layer.table.assign(normal(2, TABLE_ROWS, WIDTH))  # row 0 too
    return layer


@pytest.fixture(params=GROUPINGS)
def history(request, embedding):
    group_of, lengths = GROUPINGS[request.param]
    return History(groups(ROWS, MASK, group_of, lengths), embedding)


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


def embedded(embedding, rows):
    """The behaviours of one sample, [L, F·e], from the table."""
    table = embedding.table.numpy() * (np.arange(TABLE_ROWS) > 0)[:, np.newaxis]
    return table[rows].reshape([len(rows), rows.shape[1] * WIDTH])


def total(behaviours, mask, query):
    scores = tf.linalg.matvec(behaviours, query)
    return tf.reduce_sum(tf.where(mask, scores, 0.0), axis=1)


def best_and_worst(behaviours, mask, query):
    scores = tf.linalg.matvec(behaviours, query)
    highest = tf.argmax(tf.where(mask, scores, -np.inf), axis=1, output_type=tf.int32)
    lowest = tf.argmin(tf.where(mask, scores, np.inf), axis=1, output_type=tf.int32)
    return tf.stack([highest, lowest], axis=1), tf.reduce_any(mask, axis=1, keepdims=True)


def test_a_choice_and_a_look_are_those_of_every_sample_alone(history, embedding):
    query = normal(3, SAMPLES, FIELDS * WIDTH)
    rows, found = history.choose(best_and_worst, tf.constant(query))
    seen = history.look(total, tf.constant(query))
    assert rows.shape == (SAMPLES, 2, FIELDS) and seen.shape == (SAMPLES,)
    for sample, length in enumerate(LENGTHS):
        scores = embedded(embedding, ROWS[sample, :length]) @ query[sample]
        expected = [scores.argmax(), scores.argmin()] if length else [0, 0]
        np.testing.assert_array_equal(rows[sample], ROWS[sample, expected])
        np.testing.assert_allclose(seen[sample], scores.sum(), atol=1e-5)
        assert found[sample] == (length > 0)


def test_a_choice_is_made_without_gradient_and_embedded_with_one(history, embedding):
    with tf.GradientTape(persistent=True) as tape:
        seen = history.look(lambda behaviours, mask: tf.reduce_sum(behaviours, axis=1))
        rows, _ = history.choose(
            lambda _, mask: (tf.zeros_like(mask[:, :1], tf.int32), mask[:, :1])
        )
        chosen = history.embed(rows)
    assert np.abs(seen).max() > 0.1 and tape.gradient(seen, embedding.table) is None
    gradient = tape.gradient(chosen, embedding.table)
    np.testing.assert_array_equal(gradient.indices, ROWS[:, 0].ravel())
    for sample in range(SAMPLES):
        np.testing.assert_array_equal(chosen[sample], embedded(embedding, ROWS[sample, :1]))


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
@pytest.mark.parametrize("grouping", GROUPINGS)
def test_the_most_recent_behaviours_of_a_given_row_are_found(grouping, count, embedding):
    few = ROWS % 3  # so that rows come again and again
    wanted = 1 + np.arange(SAMPLES) % 2
    wanted[5] = 0  # an unknown id, as there are in that history
    assert (few[5, :, 0] == 0).any()
    history = History(groups(few, MASK, *GROUPINGS[grouping]), embedding)
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
    one = HistoryGroup(tf.constant(rows, tf.int32), tf.constant(mask), tf.constant([0]))
    every = groups(rows.repeat(count, 0), mask.repeat(count, 0), [0] * count, [length])
    return SharedHistory(one, embedding, tf.constant(count)), History(every, embedding)


def nearest(behaviours, mask, wanted):
    """The two best behaviours by inner products."""
    best = tf.math.top_k(tf.where(mask, tf.linalg.matvec(behaviours, wanted), -1e9), 2)
    return best.indices, best.values > 0


@pytest.mark.parametrize("fields", [[0, 1, 2], [2, 0]])
@pytest.mark.parametrize("length", [7, 2])
def test_a_shared_history_is_that_of_every_sample(embedding, fields, length):
    shared, repeated = (h.pick(fields) for h in shared_and_repeated(embedding, length))
    wanted = tf.constant(normal(3, 4, len(fields) * WIDTH))
    looks = [
        lambda h: h.choose(nearest, wanted),
        lambda h: (h.look(total, wanted),),
        lambda h: h.matching(0, tf.constant(ROWS[5, :4, fields[0]], tf.int32), 3),
        lambda h: h.recent(3),
        lambda h: h.embed_recent(3),
        lambda h: (h.lengths(),),
        lambda h: h.whole(),
    ]
    for look in looks:
        for found, expected in zip(look(shared), look(repeated), strict=True):
            np.testing.assert_array_equal(found, expected)
