import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import SoftSearch
from tests.layers.helpers import normal, randomise
from tests.layers.layer_oracles import relevance
from tests.layers.oracles import best_indices

BATCH, LENGTH, WIDTH, TOP_K = 5, 8, 4, 3


def case(seed=0):
    mask = np.random.default_rng(seed).random([BATCH, LENGTH]) < 0.6
    mask[1] = False
    mask[2] = np.arange(LENGTH) < 2  # fewer than a search keeps
    return normal(seed, BATCH, LENGTH, WIDTH), normal(seed + 1, BATCH, WIDTH), mask


def layer_of(**changes):
    layer = SoftSearch(TOP_K, units=[6], activation="relu", **changes)
    layer(*case())
    randomise(layer)
    return layer


def test_scores_and_the_search_equal_the_equations():
    layer, (history, candidate, mask) = layer_of(), case()
    scores = relevance(layer, history, candidate)
    np.testing.assert_allclose(layer.scores(history, candidate), scores, atol=1e-5)
    indices, found = layer.choose(history, mask, candidate)
    for b in range(BATCH):
        best = best_indices(scores[b], mask[b], TOP_K)
        np.testing.assert_array_equal(indices[b], best + [0] * (TOP_K - len(best)))
        np.testing.assert_array_equal(found[b], np.arange(TOP_K) < len(best))


def test_the_first_search_is_by_the_embeddings_themselves():
    layer, (history, candidate, _) = SoftSearch(TOP_K), case()
    layer(history, candidate)
    products = (history * candidate[:, None]).sum(axis=2)
    np.testing.assert_allclose(layer.scores(history, candidate), products, atol=1e-5)


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_loss_is_the_weighted_cross_entropy_of_its_own_clicks(weight):
    layer, label = layer_of(loss_weight=weight), np.float32([0, 1, 1, 0, 1])
    with tf.GradientTape() as tape:
        p = tf.sigmoid(layer(*case(), label, training=True)).numpy().astype(np.float64)
        (loss,) = layer.losses
    expected = -np.mean(label * np.log(p) + (1 - label) * np.log(1 - p))
    np.testing.assert_allclose(layer.search_loss.result(), expected, rtol=1e-5)
    np.testing.assert_allclose(loss, weight * expected, rtol=1e-5)
    for gradient in tape.gradient(loss, [layer.query_projection, layer.key_projection]):
        assert np.abs(gradient).max() > 1e-4


def test_there_is_no_loss_without_labels_or_outside_of_training():
    layer = layer_of()
    layer(*case(), training=True)
    assert layer.losses == []
    layer(*case(), np.ones(BATCH, np.float32))
    assert layer.losses == []
