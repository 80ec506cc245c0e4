"""The peers of DiffuMIN as units: each trains, scores as it should, and can be served."""

import types

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError
from diffumin_tf.export.saved_model import export
from diffumin_tf.history import Embedded
from diffumin_tf.input.features import FeatureLayout
from diffumin_tf.layers import FieldAlignedProjection, TransformerEncoder
from diffumin_tf.model import features_of
from diffumin_tf.registry import input_unit
from tests.layers.oracles import best_indices
from tests.small_log import CONFIG
from tests.small_model import (
    SCHEMA_OBJECT,
    batch,
    build,
    grouped_batch,
    pctr,
    raw_batch,
    with_unknown_ids,
)

UNITS = ["NoHistory", "MeanPooling", "DIN", "SIM_hard", "SIM_soft", "ETA", "SDIM", "TWIN"]
SEARCHING = {"SIM_hard", "SIM_soft", "ETA", "TWIN"}
# Cheap to trace; searches find fewer behaviours than most histories of the log have.
SMALL = {"deep_layers": [8], "activation": "relu", "subseq_len": 0}
SEARCH = {"search_len": 3, "search_field": "category_list", "hash_bits": 12}
BATCH = 32


def peer(name, **changes):
    return build(input_units=[f"handle_peer_unit:{name}"], **{**SMALL, **SEARCH, **changes})


@pytest.fixture(scope="module", params=UNITS)
def trained(request):
    """A unit's model, and what 15 updates on one batch did."""
    model, path = peer(request.param, batch_norm_momentum=0.5)
    start, data = model.get_weights(), batch(path, size=BATCH)
    update = tf.function(model.update, autograph=False)
    losses = [update(data) for _ in range(15)]
    return types.SimpleNamespace(
        name=request.param, model=model, path=path, start=start, losses=losses
    )


def test_trains(trained):
    losses = np.array([losses["loss"] for losses in trained.losses])
    assert np.isfinite(losses).all() and losses[-1] < 0.9 * losses[0]
    for weight, before in zip(trained.model.weights, trained.start, strict=True):
        if weight.trainable:
            assert np.abs(weight.numpy() - before).max() > 0, weight.name
    # Only the soft search has a loss of its own.
    extra = np.array([losses["total_loss"] - losses["loss"] for losses in trained.losses])
    if trained.name == "SIM_soft":
        assert extra[0] > 0.3 and extra[-1] < 0.9 * extra[0]
    else:
        assert not extra.any()


def test_scores_are_the_same_alone_in_groups_and_however_padded(trained):
    model, path = trained.model, trained.path
    inputs = batch(path, seed=1)
    expected = pctr(model, inputs)
    assert expected.std() > 0.01
    (group,) = inputs.histories
    longer = group._replace(
        rows=tf.pad(group.rows, [[0, 0], [0, 9], [0, 0]]), mask=tf.pad(group.mask, [[0, 0], [0, 9]])
    )
    for other in (inputs._replace(histories=(longer,)), grouped_batch(model, seed=1)):
        np.testing.assert_allclose(pctr(model, other), expected, atol=2e-6)
    raw = raw_batch(seed=1)
    for row in range(3):
        alone = path({name: value[row : row + 1] for name, value in raw.items()})
        np.testing.assert_allclose(pctr(model, alone), expected[row : row + 1], atol=2e-6)


def test_all_but_the_tower_alone_read_the_history(trained):
    inputs = batch(trained.path, seed=1)
    (group,) = inputs.histories
    empty = group._replace(rows=tf.zeros_like(group.rows), mask=tf.zeros_like(group.mask))
    found = pctr(trained.model, inputs._replace(histories=(empty,)))
    assert np.isfinite(found).all()
    changed = np.abs(found - pctr(trained.model, inputs)).max()
    assert changed == 0 if trained.name == "NoHistory" else changed > 1e-3


def test_unknown_ids_and_histories_that_are_all_empty_train_to_finite_numbers(trained):
    model = trained.model
    inputs = batch(trained.path, seed=2, size=6)
    group = inputs.histories[0]
    empty = (group._replace(rows=0 * group.rows, mask=tf.zeros_like(group.mask)),)
    for other in (with_unknown_ids(inputs), inputs._replace(histories=empty)):
        with tf.GradientTape() as tape:
            logit = model(other, training=True)
            total = tf.add_n([model.click_loss(other.label, logit), *model.losses])
        gradients = tape.gradient(total, model.trainable_variables)
        assert isinstance(gradients[0], tf.IndexedSlices)
        for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
            assert gradient is None or np.isfinite(tf.convert_to_tensor(gradient)).all(), variable
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_the_gradient_of_the_table_is_sparse_and_a_search_spares_what_it_drops(trained):
    model = trained.model
    inputs = batch(trained.path, size=BATCH)
    with tf.GradientTape() as tape:
        loss = model.click_loss(inputs.label, model(inputs, training=True))
    gradient = tape.gradient(loss, model.embedding.table)
    assert isinstance(gradient, tf.IndexedSlices)
    # Per sample 4 fields and of each behaviour 2: 3 behaviours of each search, or the 10 of all.
    heads = model.units[0].config.num_heads if trained.name == "TWIN" else 1
    behaviours = {"NoHistory": 0}.get(trained.name, 3 * heads if trained.name in SEARCHING else 10)
    assert gradient.indices.shape[0] == BATCH * (4 + 2 * behaviours)


def test_a_label_never_changes_a_score(trained):
    inputs = batch(trained.path)
    expected = pctr(trained.model, inputs._replace(label=()))
    for label in (inputs.label, 1.0 - inputs.label):
        np.testing.assert_array_equal(pctr(trained.model, inputs._replace(label=label)), expected)


def test_one_model_of_all_of_them_scores_after_export_as_before(tmp_path):
    # One, because to trace eight exports would take long.
    model, path = build(**SMALL, **SEARCH, input_units=[f"handle_peer_unit:{n}" for n in UNITS])
    loaded = tf.saved_model.load(export(model, SCHEMA_OBJECT, path, str(tmp_path)))
    served = loaded.signatures["serving_default"]
    raw = raw_batch(seed=3, size=5)
    expected = pctr(model, path(raw))
    assert expected.std() > 0.01 and [unit.name for unit in model.units] == UNITS
    np.testing.assert_allclose(served(**raw)["pctr"], expected, atol=1e-6)
    graph = served.graph.as_graph_def()
    ops = {node.op for f in graph.library.function for node in f.node_def}
    assert not {op for op in ops if "PyFunc" in op or "Random" in op or "Xla" in op}


def embedded(name, seed=0):
    """A unit, its inputs for one group, and its candidates and behaviours as arrays."""
    model, path = peer(name)
    inputs = model.embed(batch(path, seed))
    (unit,) = model.units
    candidate = unit.select(inputs, "candidate")
    return unit, inputs, candidate, *(x.numpy() for x in inputs.history.whole())


def interest(unit, inputs):
    queries = unit.queries(inputs)
    found = unit.find(queries, inputs, False).embedded(inputs.history)
    return unit.interest(queries, found, inputs, False)


def test_mean_pooling_is_the_mean_of_the_valid_behaviours():
    unit, inputs, candidate, behaviours, mask = embedded("MeanPooling")
    found = interest(unit, inputs)
    sums = (behaviours * mask[:, :, None]).sum(axis=1)
    expected = sums / np.maximum(mask.sum(axis=1), 1)[:, None]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_din_is_the_weighted_sum_of_the_behaviours():
    unit, inputs, candidate, behaviours, mask = embedded("DIN")
    found = interest(unit, inputs)
    weights = unit._weigh(behaviours, candidate, mask).numpy()
    assert np.abs(weights[mask]).max() > 0.1
    expected = (weights[:, :, None] * behaviours).sum(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_eta_finds_the_behaviours_of_the_nearest_signatures():
    unit, inputs, candidate, behaviours, mask = embedded("ETA")
    rows, found = unit.find(unit.queries(inputs), inputs, False).behaviours["chosen"]
    hyperplanes = unit._hash.hyperplanes.numpy()
    every, _ = inputs.history.recent(10)
    for b in range(len(mask)):
        differ = (behaviours[b] @ hyperplanes > 0) != (candidate[b].numpy() @ hyperplanes > 0)
        best = best_indices(-differ.sum(axis=1), mask[b], 3)
        np.testing.assert_array_equal(rows[b][found[b]], every.numpy()[b, best])


def test_twin_is_its_attention_to_the_whole_history():
    unit, inputs, candidate, behaviours, mask = embedded("TWIN", seed=5)
    assert {0, 2, mask.shape[1]} < set(mask.sum(axis=1))  # empty, shorter than a search, full
    found = interest(unit, inputs)
    expected = unit._attention(behaviours, unit._inherent(inputs), mask)
    assert np.abs(found).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_hard_search_sees_the_behaviours_of_the_candidates_category_alone():
    model, path = peer("SIM_hard", search_len=10)
    inputs = batch(path)
    (group,) = inputs.histories
    expected = pctr(model, inputs)
    category = inputs.fields[:, model.layout.fields.index("category")]
    same = group.rows[:, :, model.layout.behaviours.index("category_list")] == category[:, None]
    item = model.layout.behaviours.index("item_list")
    other_items = group.rows.numpy()
    other_items[:, :, item] = np.where(group.mask, (other_items[:, :, item] + 1) % 997, 0)

    def scores_with_other_items(where):
        rows = tf.where(where[:, :, None], other_items, group.rows)
        return pctr(model, inputs._replace(histories=(group._replace(rows=rows),)))

    np.testing.assert_allclose(scores_with_other_items(~same), expected, atol=1e-6)
    found = np.any(same & group.mask, axis=1)
    changed = np.abs(scores_with_other_items(same) - expected) > 1e-5
    assert found.sum() > 3 and (changed == found).all()


@pytest.mark.parametrize("name", UNITS)
def test_all_share_features_and_short_term_encoder(name):
    unit = unit_of(name)
    encoders = [m for m in unit.submodules if isinstance(m, TransformerEncoder)]
    assert len(encoders) == (name != "NoHistory")
    assert features_of(config_of(name)) == config_of(name).features


def config_of(name, **changes):
    units = {"input_units": [f"handle_peer_unit:{name}"]}
    return TaskConfig.model_validate({**CONFIG, **units, **SEARCH, **changes})


def layout_of(config):
    return FeatureLayout.of(features_of(config), SCHEMA_OBJECT)


def unit_of(name, **changes):
    config = config_of(name, **changes)
    return input_unit(config.input_units[0])(config, layout_of(config))


def test_twin_takes_its_inherent_features_from_the_fields_and_not_from_a_projection():
    features = {**CONFIG["features"], "candidate": ["hour", "category"]}
    unit = unit_of("TWIN", features=features, subseq_len=0)
    assert not [m for m in unit.submodules if isinstance(m, FieldAlignedProjection)]
    assert unit._attention.inherent == [1] and unit._attention.cross == [0]
    fields = tf.reshape(tf.range(16.0), [1, 4, 4])
    index = layout_of(unit.config).fields.index("category")
    inherent = unit._inherent(Embedded(fields, None, None, None))
    np.testing.assert_array_equal(inherent, fields[:, index])


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "SIM_hard",
            {"search_field": None},
            "search_field is None but SIM_hard searches .* as one value: item_list, category_list",
        ),
        ("SIM_hard", {"search_field": "hour"}, "search_field is 'hour' .* item_list, category"),
        (
            "TWIN",
            {"features": {"candidate": ["hour"], "behaviours": ["item_list"]}},
            "features: TWIN compares .* but .'hour'. and .'item_list'. share none",
        ),
        ("SDIM", {"hash_width": 5}, "hash_width is 5 but must divide hash_bits 12"),
        ("ETA", {"num_heads": 3}, "num_heads is 3 but must divide 8"),
        ("SIM_soft", {"num_heads": 3}, "num_heads is 3 but must divide 8"),
        ("TWIN", {"num_heads": 3}, "num_heads is 3 but must divide 8"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_key_and_what_would(name, changes, message):
    with pytest.raises(ConfigError, match=message):
        unit_of(name, **changes)


def test_a_search_keeps_no_more_behaviours_than_a_history_has():
    unit = unit_of("ETA", search_len=5000, seed=5)
    assert (unit.top_k, unit._hash.seed) == (10, 5)
