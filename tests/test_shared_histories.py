"""Samples that share histories: whatever the model computes is what it computes of each alone."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.history import History
from diffumin_tf.layers import DiffusionMultiInterestGenerator, IdEmbedding
from diffumin_tf.model import compiled_for_any_batch
from diffumin_tf.training.optimizers import RowAdagrad
from tests import two_devices
from tests.layers.helpers import normal
from tests.small_model import BUCKETS, LEAN, ROWS, build, pctr, shared_batches

PEERS = "NoHistory MeanPooling DIN SIM_hard SIM_soft ETA SDIM TWIN".split()
DIFFUMIN = {**LEAN, "lamda1": 1.0, "lamda2": 1.0, "channel_share": True}
SEARCH = {"search_len": 3, "search_field": "category_list", "hash_bits": 12}
MODELS = {
    "DiffuMIN": DIFFUMIN,
    "softmax, no routing": {**DIFFUMIN, "aggregation": "softmax", "use_routing": False},
    **{
        name: {**LEAN, **SEARCH, "input_units": [f"handle_peer_unit:{name}"], "subseq_len": k}
        for k, name in enumerate(PEERS)
    },
}
# Of histories: none shared, one that all have, none but empty ones, and no sample at all.
OTHERS = {
    "one each": [(length, [length // 3]) for length in range(0, 30, 2)],
    "one of all": [(30, list(range(31)))],
    "empty": [(0, [0, 0]), (5, [5]), (0, [0])],
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return build(**MODELS[request.param])[0]


def losses_and_gradients(model, inputs):
    """Click loss, total loss, and of each variable its gradient, the table's as a dense one."""
    for module in model.submodules:
        if isinstance(module, DiffusionMultiInterestGenerator):
            module.random.draws.assign(0)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(inputs, training=True)
        total = tf.add_n([loss, *model.losses])
    variables = model.trainable_variables
    gradients = tape.gradient(total, variables, unconnected_gradients="zero")
    assert isinstance(gradients[0], tf.IndexedSlices)
    return [loss, total, *map(tf.convert_to_tensor, gradients)]


def assert_same_training(model, shared, alone):
    found, expected = (losses_and_gradients(model, inputs) for inputs in (shared, alone))
    np.testing.assert_allclose(found[:2], expected[:2], rtol=1e-5)
    for one, other, variable in zip(
        found[2:], expected[2:], model.trainable_variables, strict=True
    ):
        tolerance = 1e-4 * np.abs(other).max() + 1e-6
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance, err_msg=variable.name)


@pytest.mark.parametrize("buckets", [BUCKETS, (10,)], ids=str)
def test_losses_gradients_and_scores_are_those_of_a_history_for_each_sample(model, buckets):
    shared, alone = shared_batches(model, buckets)
    tiles = [group.windows.at.shape[0] for group in shared.histories]
    assert sum(tiles) > 6 and all(tiles)  # the longest history stands in several
    assert_same_training(model, shared, alone)
    scores = pctr(model, alone)
    assert scores.std() > 0.01
    np.testing.assert_allclose(pctr(model, shared), scores, atol=2e-6)


@pytest.mark.parametrize("histories", OTHERS.values(), ids=OTHERS)
def test_so_they_are_however_many_samples_a_history_has(model, histories):
    assert_same_training(model, *shared_batches(model, histories=histories))


def test_one_compiled_graph_updates_on_shared_histories_of_any_shape():
    compiled, plain = (build(**DIFFUMIN, jit_compile=jit)[0] for jit in (True, False))
    update = compiled_for_any_batch(compiled.update)
    # As many samples in each, for which alone it would compile anew.
    same_size = [OTHERS["one each"], [(30, list(range(15)))], [(0, [0, 0]), (12, list(range(13)))]]
    for seed, histories in enumerate(same_size):
        shared, alone = shared_batches(plain, histories=histories, seed=seed)
        found, expected = update(shared), plain.update(alone)
        for name, loss in expected.items():
            np.testing.assert_allclose(found[name], loss, rtol=1e-4, err_msg=name)


def test_replicas_with_parts_of_shared_histories_compute_what_one_device_does():
    models = []
    for strategy in (tf.distribute.get_strategy(), two_devices.mirrored()):
        with strategy.scope():
            made, _ = build(**DIFFUMIN)
            made.compile(tf.keras.optimizers.SGD(1.0), RowAdagrad(0.05))
        models.append(made)
    alone, mirrored = models
    cut = 8  # in the middle of a history
    parts = [shared_batches(alone, rows=rows)[0] for rows in (slice(cut), slice(cut, None))]
    expected = alone.update(shared_batches(alone)[1])
    for losses in two_devices.run(mirrored.update, parts):
        for name, loss in losses.items():
            np.testing.assert_allclose(loss, expected[name], rtol=1e-5, err_msg=name)
    for one, other in zip(mirrored.trainable_variables, alone.trainable_variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=5e-5, err_msg=other.name)


def test_of_equal_scores_the_most_recent_that_the_sample_sees_win():
    embedding = IdEmbedding(ROWS, 2)
    embedding(tf.constant([0]))
    embedding.table.assign(tf.ones([ROWS, 2]))  # so that all behaviours score the same
    model, _ = build(**LEAN)
    shared, alone = (History(b.histories, embedding) for b in shared_batches(model))
    queries = tf.constant(normal(0, len(shared.lengths()), 2, 4))
    rows, found = shared.choose(queries, 4)
    recent, mask = shared.recent(4)
    for query in range(2):
        np.testing.assert_array_equal(rows[:, query], recent)
        np.testing.assert_array_equal(found[:, query], mask)
    for one, other in zip(shared.choose(queries, 4), alone.choose(queries, 4), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_a_sample_does_not_see_never_changes_a_score():
    model, _ = build(**DIFFUMIN)
    shared, alone = shared_batches(model, histories=[(30, [0, 12, 20])])
    (*_, group) = shared.histories
    _, second, third = group.windows.first.numpy()
    stop = group.windows.stop.numpy()[0]
    assert stop <= second  # nobody sees what lies between these
    position = np.arange(group.rows.shape[1])[:, np.newaxis]
    unseen = (position >= stop) & (position < second)
    assert unseen.any() and third < 30
    other = group._replace(rows=tf.where(unseen, ROWS - 1 - group.rows, group.rows))
    changed = shared._replace(histories=(*shared.histories[:-1], other))
    np.testing.assert_array_equal(pctr(model, changed), pctr(model, shared))
