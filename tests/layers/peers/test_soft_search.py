import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import SoftSearch
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
from tests.layers.peer_oracles import best_places, soft_search_scores

BATCH, LENGTH, WIDTH, PLACES = 5, 8, 4, 3


def case(seed=0):
    mask = np.random.default_rng(seed).random([BATCH, LENGTH]) < 0.6
    mask[1] = False
    mask[2] = np.arange(LENGTH) < 2  # fewer than a search keeps
    return normal(seed, BATCH, LENGTH, WIDTH), normal(seed + 1, BATCH, WIDTH), mask


def layer_of(**changes):
    layer = SoftSearch(PLACES, units=[6], activation="relu", **changes)
    layer(*case())
    randomise(layer)
    return layer


def scores_of(layer, history, candidate):
    of_query, of_key = layer.query_projection.numpy(), layer.key_projection.numpy()
    pairs = zip(history, candidate, strict=True)
    return np.array([soft_search_scores(h, c, of_query, of_key) for h, c in pairs])


def test_scores_and_the_search_equal_the_equations():
    layer, (history, candidate, mask) = layer_of(), case()
    scores = scores_of(layer, history, candidate)
    np.testing.assert_allclose(layer.scores(history, candidate), scores, atol=1e-5)
    places, there = layer.choose(history, mask, candidate)
    for b in range(BATCH):
        best = best_places(scores[b], mask[b], PLACES)
        np.testing.assert_array_equal(places[b], best + [0] * (PLACES - len(best)))
        np.testing.assert_array_equal(there[b], np.arange(PLACES) < len(best))


def test_the_first_search_is_by_the_embeddings_themselves():
    layer, (history, candidate, _) = SoftSearch(PLACES), case()
    layer(history, candidate)
    products = (history * candidate[:, None]).sum(axis=2)
    np.testing.assert_allclose(layer.scores(history, candidate), products, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_click_model_equals_the_equations(training):
    layer, (history, candidate, mask) = layer_of(), case()
    scores = np.where(mask, scores_of(layer, history, candidate), 0)
    interest = np.einsum("bl,bld->bd", scores, history.astype(np.float64))
    mean, variance = np.zeros(WIDTH), np.ones(WIDTH)
    if training:
        mean, variance = interest.mean(axis=0), interest.var(axis=0)
    gamma, beta = layer.normalize.gamma.numpy(), layer.normalize.beta.numpy()
    interest = gamma * (interest - mean) / np.sqrt(variance + 1e-3) + beta
    both = np.concatenate([candidate, interest], axis=1).astype(np.float32)
    expected = layer.tower(both, training=training)
    found = layer(history, candidate, mask, training=training)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_loss_is_the_weighted_cross_entropy_of_its_own_clicks(weight):
    layer, label = layer_of(loss_weight=weight), np.float32([0, 1, 1, 0, 1])
    p = tf.sigmoid(layer(*case(), label, training=True)).numpy().astype(np.float64)
    (loss,) = layer.losses
    expected = -np.mean(label * np.log(p) + (1 - label) * np.log(1 - p))
    np.testing.assert_allclose(layer.search_loss.result(), expected, rtol=1e-5)
    np.testing.assert_allclose(loss, weight * expected, rtol=1e-5)


def test_there_is_no_loss_without_labels_or_outside_of_training():
    layer = layer_of()
    layer(*case(), training=True)
    assert layer.losses == []
    layer(*case(), np.ones(BATCH, np.float32))
    assert layer.losses == []


def test_the_loss_trains_the_search():
    layer, label = layer_of(), np.float32([0, 1, 1, 0, 1])
    with tf.GradientTape() as tape:
        layer(*case(), label, training=True)
        (loss,) = layer.losses
    for gradient in tape.gradient(loss, [layer.query_projection, layer.key_projection]):
        assert np.abs(gradient).max() > 1e-4


def test_padding_changes_neither_the_search_nor_the_loss():
    layer, (history, candidate, mask) = layer_of(), case()
    longer = np.pad(history, [(0, 0), (0, 5), (0, 0)])
    longer[:, LENGTH:] = 9 * candidate[:, None]
    padded = np.pad(mask, [(0, 0), (0, 5)])
    for one, other in zip(
        layer.choose(longer, padded, candidate), layer.choose(history, mask, candidate), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    found = layer(longer, candidate, padded, training=True)
    assert_same(found, layer(history, candidate, mask, training=True), OTHER_SHAPE)


@pytest.mark.parametrize("length", [0, LENGTH])
def test_empty_histories_keep_everything_finite(length):
    layer, label = layer_of(), np.float32([0, 1])
    history, candidate = tf.zeros([2, length, WIDTH]), tf.constant(normal(1, 2, WIDTH))
    nothing = tf.zeros([2, length], tf.bool)
    with tf.GradientTape() as tape:
        tape.watch([history, candidate])
        layer(history, candidate, nothing, label, training=True)
        (loss,) = layer.losses
    assert_finite(tape.gradient(loss, [history, candidate, *layer.trainable_variables]))
    assert not layer.choose(history, nothing, candidate)[1].numpy().any()


def test_batch_mates_never_change_a_search():
    layer = layer_of()
    history, candidate, mask = case()
    assert_batch_mates_never_matter(layer.choose, [history, mask, candidate])


def test_survives_config_and_saving(tmp_path):
    layer, inputs = layer_of(momentum=0.5, loss_weight=0.5), [tf.constant(x) for x in case()]
    layer(*inputs, training=True)
    assert_same(copy_of(layer, *inputs)(*inputs), layer(*inputs))
    assert_saving_keeps_outputs(layer, inputs, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"places": 0}, "`places` .* received 0"),
        ({"places": 3, "loss_weight": -1}, "`loss_weight` .* received -1"),
        ({"places": 3, "activation": "tanh"}, "`activation` .* received 'tanh'"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SoftSearch(**arguments)
