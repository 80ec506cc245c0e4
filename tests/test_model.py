"""The ranking model: its lookups, its losses and its updates."""

import types

import numpy as np
import pytest
import tensorflow as tf

from tests.small_model import (
    BATCH,
    LEAN,
    ROWS,
    batch,
    build,
    compile_model,
    grouped_batch,
    pctr,
    raw_batch,
    undone,
    with_unknown_ids,
)


@pytest.fixture(scope="module")
def step():
    """A model, its path, and its traced training step."""
    model, path = build(**LEAN)
    function = tf.function(model.train_step).get_concrete_function(batch(path))
    return types.SimpleNamespace(model=model, path=path, function=function)


@pytest.fixture(params=["one group", "groups"])
def any_batch(request):
    """A function from a model and its path to a batch."""
    if request.param == "one group":
        return lambda model, path: batch(path)
    return lambda model, path: grouped_batch(model)


def readers(function, variable):
    """The ops that take the handle of a variable in a graph."""
    (inner,) = (i for outer, i in function.graph.captures if outer is variable.handle)
    return inner.consumers()


FIELDS, WIDTH, BEHAVIOUR_FIELDS = 4, 4, 2  # of small_log
KEPT, RECENT = [2, 3], [3]  # channels of ⌈30 % of 10⌉ behaviours, and subseq_len


def test_the_table_is_read_once_for_fields_once_a_group_and_once_for_each_part_that_trains(
    step, any_batch
):
    model, inputs = step.model, any_batch(step.model, step.path)
    forward = tf.function(lambda inputs: model(inputs)).get_concrete_function(inputs)
    lookups = readers(forward, model.embedding.table)
    assert {lookup.type for lookup in lookups} == {"ResourceGather", "ResourceGatherNd"}
    looked_up = [lookup.outputs[0].shape.as_list() for lookup in lookups]
    # Besides, a scan looks at row zero alone.
    looked_up = [shape for shape in looked_up if shape != [WIDTH]]
    expected = [[BATCH, FIELDS], *(group.rows.shape.as_list() for group in inputs.histories)]
    expected += [[BATCH, *part, BEHAVIOUR_FIELDS] for part in (KEPT, RECENT)]
    assert sorted(looked_up) == sorted([*shape, WIDTH] for shape in expected)


WITHOUT_OUTPUT = {
    "NoOp",
    "If",
    "AssignVariableOp",
    "AssignAddVariableOp",
    "AssignSubVariableOp",
    "ResourceScatterUpdate",
}


def large_tensors(function, rows):
    """Ops of a graph and of every function in it that put out a tensor of `rows` rows."""
    definition = function.graph.as_graph_def(add_shapes=True)
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    silent = {node.op for node in nodes if "_output_shapes" not in node.attr}
    assert silent <= WITHOUT_OUTPUT, f"{silent} may hide a shape"
    return [
        (node.op, node.name)
        for node in nodes
        for shape in node.attr["_output_shapes"].list.shape
        if shape.dim and shape.dim[0].size % rows == 0 and shape.dim[0].size > 0
    ]


def test_no_tensor_of_the_size_of_the_table_appears_in_a_training_step(step):
    assert large_tensors(step.function, ROWS) == []
    table = step.model.embedding.table
    types = {operation.type for operation in readers(step.function, table)}
    assert types == {"ResourceGather", "ResourceGatherNd", "ResourceScatterUpdate"}


def test_the_search_for_large_tensors_finds_a_dense_gradient():
    table = tf.Variable(tf.zeros([ROWS, 2]))

    def densify(rows):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(table, rows) ** 2)
        table.assign_sub(tf.convert_to_tensor(tape.gradient(loss, table)))

    function = tf.function(
        lambda rows: tf.cond(tf.reduce_sum(rows) > 3, lambda: densify(rows), lambda: None)
    )
    found = large_tensors(function.get_concrete_function(tf.TensorSpec([None], tf.int32)), ROWS)
    assert "UnsortedSegmentSum" in {op for op, _ in found}


def test_the_gradient_of_the_table_is_sparse_and_holds_no_dropped_behaviour(monkeypatch, any_batch):
    model, path = build(**LEAN)
    given = {}

    def record(optimizer):
        def apply_gradients(pairs):
            for gradient, variable in pairs:
                assert variable.ref() not in given
                given[variable.ref()] = (gradient, optimizer)

        monkeypatch.setattr(optimizer, "apply_gradients", apply_gradients)

    record(model.optimizer)
    record(model.table_optimizer)
    model.train_step(any_batch(model, path))
    table = model.embedding.table.ref()
    gradient, optimizer = given.pop(table)
    assert isinstance(gradient, tf.IndexedSlices) and optimizer is model.table_optimizer
    behaviours = np.prod(KEPT) + np.prod(RECENT)
    assert len(gradient.indices) == BATCH * (FIELDS + behaviours * BEHAVIOUR_FIELDS)
    others = {v.ref() for v in model.trainable_variables} - {table}
    assert given.keys() == others
    for gradient, optimizer in given.values():
        assert isinstance(gradient, tf.Tensor) and optimizer is model.optimizer


def change(model, path, rate, table_rate):
    """Which trainable weights an update changes, and the rows of the table it changes."""
    compile_model(model, rate, table_rate)
    before = [weight.numpy() for weight in model.trainable_variables]
    table = model.embedding.table.numpy()
    model.train_step(batch(path))
    changed = {
        weight.ref()
        for weight, old in zip(model.trainable_variables, before, strict=True)
        if (weight.numpy() != old).any()
    }
    rows = np.flatnonzero((model.embedding.table.numpy() != table).any(axis=1))
    return changed, rows


def test_each_optimiser_updates_its_weights_and_only_those():
    model, path = build(**LEAN)
    table = model.embedding.table.ref()
    rest = {weight.ref() for weight in model.trainable_variables} - {table}
    changed, rows = change(model, path, rate=0.0, table_rate=0.1)
    inputs = batch(path)
    used = np.union1d(inputs.fields, inputs.histories[0].rows)
    assert changed == {table} and set(rows) <= set(used) and 0 not in rows
    assert set(inputs.fields.numpy().ravel()) <= set(rows)
    changed, rows = change(model, path, rate=0.1, table_rate=0.0)
    assert rest - undone(model) <= changed <= rest and len(rows) == 0


def test_row_zero_stays_zero_through_training_whatever_the_batch_holds(any_batch):
    model, path = build(**LEAN)
    table = model.embedding.table
    table.assign(tf.tensor_scatter_nd_update(table, [[0]], tf.zeros([1, WIDTH])))
    inputs, before = with_unknown_ids(any_batch(model, path)), table.numpy()
    unknown = [group.rows[group.mask].numpy() == 0 for group in inputs.histories]
    assert 0 in inputs.fields.numpy() and np.concatenate(unknown).any()
    for _ in range(3):
        model.train_step(inputs)
    after = table.numpy()
    assert (after[0] == 0).all() and (after != before).any()


def test_both_auxiliary_losses_are_logged_and_count_by_their_weights():
    model, path = build(**LEAN, lamda1=0.5, lamda2=0.25)
    logs = {name: float(value) for name, value in model.train_step(batch(path)).items()}
    assert logs["diffusion_loss"] > 0.01 and logs["contrastive_loss"] > 0.01
    auxiliary = 0.5 * logs["diffusion_loss"] + 0.25 * logs["contrastive_loss"]
    assert logs["total_loss"] == pytest.approx(logs["loss"] + auxiliary, rel=1e-5)


def test_the_losses_of_a_step_are_not_added_up_over_steps(step):
    first = step.model.compute_loss(batch(step.path), training=True)
    assert len(step.model.losses) == 2
    step.model.compute_loss(batch(step.path), training=True)
    assert len(step.model.losses) == 2 and np.isfinite(first)


def test_the_click_loss_is_the_mean_cross_entropy(scoring):
    model, path = scoring
    inputs = batch(path)
    p, y = pctr(model, inputs).astype(np.float64), inputs.label.numpy()
    expected = -np.mean(np.where(y > 0, np.log(p), np.log1p(-p)))
    assert float(model.compute_loss(inputs)) == pytest.approx(expected, rel=1e-4)
    assert float(model.test_step(inputs)["loss"]) == pytest.approx(expected, rel=1e-4)


OMIE, DMIG = "OrthogonalMultiInterestExtractor", "DiffusionMultiInterestGenerator"
CMIC, SHORT_TERM = "ContrastiveMultiInterestCalibrator", "TransformerEncoder"
LOGS = {"auc", "loss", "total_loss", "diffusion_loss", "contrastive_loss"}


@pytest.mark.parametrize(
    ("changes", "left_out", "not_logged"),
    [
        ({}, set(), set()),
        ({"use_cmic": False}, {CMIC}, {"contrastive_loss"}),
        ({"use_dmig": False}, {DMIG, CMIC}, {"diffusion_loss", "contrastive_loss"}),
        ({"use_omie": False}, {OMIE, DMIG, CMIC}, {"diffusion_loss", "contrastive_loss"}),
        ({"subseq_len": 0}, {SHORT_TERM}, set()),
    ],
)
def test_a_part_that_is_switched_off_has_no_weights_and_no_loss(changes, left_out, not_logged):
    model, path = build(**LEAN, **changes)
    parts = {type(m).__name__ for m in model.submodules if getattr(m, "trainable_variables", ())}
    assert parts & {OMIE, DMIG, CMIC, SHORT_TERM} == {OMIE, DMIG, CMIC, SHORT_TERM} - left_out
    logs = model.train_step(batch(path))
    assert logs.keys() == LOGS - not_logged
    auxiliary = abs(float(logs["total_loss"]) - float(logs["loss"]))
    assert (auxiliary > 0) == ("diffusion_loss" in logs or "contrastive_loss" in logs)


@pytest.mark.parametrize("stopped", [False, True])
def test_auxiliary_losses_train_embeddings_and_channels_unless_they_are_stopped(stopped):
    model, path = build(**LEAN, subseq_len=0, stop_interest_gradient=stopped)
    inputs = batch(path)
    with tf.GradientTape() as tape:
        model(inputs, training=True)
        auxiliary = tf.add_n(model.losses)
    weights = [model.embedding.table, model.units[0]._extract.projection.kernel]
    table, projection = tape.gradient(auxiliary, weights, unconnected_gradients="zero")
    table = tf.convert_to_tensor(table).numpy()
    seen = np.unique(np.concatenate([g.rows.numpy().ravel() for g in inputs.histories]))
    alone = np.setdiff1d(seen, np.append(inputs.fields, 0))
    assert len(alone) > 20
    for gradient in (table[alone], table, projection):
        assert (np.abs(gradient).max() > 1e-4) == (not stopped)
    assert not stopped or not (table.any() or projection.numpy().any())


def test_label_smoothing_moves_the_labels_of_training_alone():
    def loss(**changes):
        model, path = build(**LEAN, use_omie=False, **changes)
        compile_model(model, 0.0, 0.0)
        inputs = batch(path)
        logit = model(inputs, training=True).numpy().astype(np.float64)
        trained = float(model.update(inputs)["loss"])
        return logit, inputs.label.numpy(), trained, float(model.test_step(inputs)["loss"])

    logit, label, _, tested = loss()
    *_, trained, tested_too = loss(label_smoothing=0.2)
    target = np.where(label > 0, 0.9, 0.1)
    expected = np.mean(np.log1p(np.exp(logit)) - target * logit)
    assert trained == pytest.approx(expected, rel=1e-5) and tested_too == tested


def test_without_omie_and_short_term_encoder_the_history_never_matters():
    def difference(**changes):
        model, path = build(**LEAN, **changes)
        raw = raw_batch()
        other = {name: tf.reverse(value, [0]) for name, value in raw.items() if "_list" in name}
        return np.abs(pctr(model, path(raw)) - pctr(model, path({**raw, **other}))).max()

    assert difference(use_omie=False, subseq_len=0) == 0
    assert min(difference(use_omie=False), difference(subseq_len=0)) > 1e-4


def test_a_loss_that_is_not_finite_raises_before_any_weight_changes(step):
    inputs = batch(step.path)
    before = [weight.numpy() for weight in step.model.trainable_variables]
    inputs = inputs._replace(dense=tf.fill(inputs.dense.shape, np.float32("nan")))
    with pytest.raises(tf.errors.InvalidArgumentError, match="training loss"):
        step.function(inputs)
    for weight, old in zip(step.model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_a_traced_step_updates_every_weight(step):
    before = [weight.numpy() for weight in step.model.trainable_variables]
    logs = step.function(batch(step.path))
    assert logs.keys() == LOGS
    for weight, old in zip(step.model.trainable_variables, before, strict=True):
        assert (weight.numpy() != old).any() or weight.ref() in undone(step.model), weight.name
