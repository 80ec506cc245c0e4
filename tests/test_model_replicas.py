"""The whole model on two replicas: what one device computes on the same global batch."""

import types

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import replicas
from diffumin_tf.model import compiled_for_any_batch
from diffumin_tf.training.optimizers import RowAdagrad
from tests import two_devices
from tests.small_model import (
    BUCKETS,
    LEAN,
    SCHEMA_OBJECT,
    batch,
    build,
    grouped_batch,
    path_of,
    undone,
)

# All losses weigh the same, and every kind of statistics is there.
CHANGES = {**LEAN, "activation": "dice", "lamda1": 1.0, "lamda2": 1.0, "batch_norm_momentum": 0.5}
SPLITS = [(8, 8), (2, 3), (0, 1), (3, 0)]


def pair(rest, table, **changes):
    """A model on one device and the same on two replicas, with optimisers made anew."""
    models = []
    for strategy in (tf.distribute.get_strategy(), two_devices.mirrored()):
        with strategy.scope():
            model, _ = build(**CHANGES, **changes)
            model.compile(rest(), table())
        models.append(model)
    return models


def batches(model, seed, sizes):
    """The global batch, and the parts of the replicas."""
    split = sizes[0]
    parts = (slice(None, split), slice(split, None))
    whole = grouped_batch(model, seed, sum(sizes))
    return whole, [grouped_batch(model, seed, sum(sizes), rows) for rows in parts]


def assert_same_weights(mirrored, alone, tolerance, but=frozenset()):
    for weight, expected in zip(mirrored.weights, alone.weights, strict=True):
        if expected.ref() in but or "moving" not in weight.name and not weight.trainable:
            continue
        for copy in two_devices.mirrored().experimental_local_results(weight):
            np.testing.assert_allclose(
                copy.numpy(), expected.numpy(), atol=tolerance, rtol=0, err_msg=weight.name
            )


@pytest.fixture(scope="module")
def descending():
    """Models whose update subtracts the gradient, so that weights tell what it was."""
    alone, mirrored = pair(
        lambda: tf.keras.optimizers.SGD(1.0), lambda: tf.keras.optimizers.SGD(1.0)
    )
    return types.SimpleNamespace(alone=alone, mirrored=mirrored, start=alone.get_weights())


@pytest.mark.parametrize("sizes", SPLITS, ids=str)
def test_losses_gradients_and_moving_averages_are_those_of_one_device(sizes, descending):
    alone, mirrored = descending.alone, descending.mirrored
    for model in (alone, mirrored):
        model.set_weights(descending.start)
        model.reset_metrics()
    whole, parts = batches(alone, 0, sizes)
    expected = alone.update(whole)
    assert min(expected["loss"], expected["total_loss"] - expected["loss"]) > 0.1
    for losses in two_devices.run(mirrored.update, parts):
        for name, loss in losses.items():
            np.testing.assert_allclose(loss, expected[name], rtol=1e-6, err_msg=name)
    # Of gradients whose largest entries are 0.1 to 10.
    assert_same_weights(mirrored, alone, tolerance=5e-6)
    for metric, one in zip(mirrored.metrics, alone.metrics, strict=True):
        np.testing.assert_allclose(metric.result(), one.result(), rtol=1e-5, err_msg=metric.name)


@pytest.fixture(scope="module")
def quick_graphs():
    """Graphs run as they were traced: to optimise those of two replicas takes long."""
    options = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False, **options})


@pytest.fixture(scope="module")
def trained(quick_graphs):
    """Graphs of updates by Adam and by Adagrad on rows, for batches of any size."""
    alone, mirrored = pair(
        lambda: tf.keras.optimizers.Adam(0.01, epsilon=1e-4), lambda: RowAdagrad(0.05)
    )
    strategy = two_devices.mirrored()

    def parts():
        for seed, sizes in enumerate([(5, 3), (2, 3), (0, 1)]):
            yield from batches(alone, seed, sizes)[1]

    open_ended = tf.nest.map_structure(
        lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), grouped_batch(alone)
    )
    data = strategy.distribute_datasets_from_function(
        lambda _: tf.data.Dataset.from_generator(parts, output_signature=open_ended)
    )
    update = tf.function(
        lambda batch: strategy.run(mirrored.update, args=(batch,)),
        input_signature=[data.element_spec],
        autograph=False,
    )
    graphs = types.SimpleNamespace(alone=compiled_for_any_batch(alone.update), mirrored=update)
    return types.SimpleNamespace(alone=alone, mirrored=mirrored, data=data, graphs=graphs)


def test_three_updates_of_a_graph_lead_to_the_weights_of_one_device(trained):
    seen = 0
    for seed, parts in enumerate(trained.data):
        sizes = [len(x) for x in two_devices.mirrored().experimental_local_results(parts.label)]
        expected = trained.graphs.alone(batches(trained.alone, seed, sizes)[0])
        for losses in two_devices.per_replica(trained.graphs.mirrored(parts)):
            for name, loss in losses.items():
                np.testing.assert_allclose(loss, expected[name], rtol=1e-5, err_msg=name)
        seen += sum(sizes)
    assert seen == 8 + 5 + 1
    assert_same_weights(trained.mirrored, trained.alone, 2e-5, undone(trained.alone))
    for weight in trained.mirrored.variables:
        if "moving" in weight.name or weight.trainable or "draws" in weight.name:
            first, second = two_devices.mirrored().experimental_local_results(weight)
            np.testing.assert_array_equal(first.numpy(), second.numpy(), weight.name)


def spoilt(batch):
    return batch._replace(dense=tf.fill(batch.dense.shape, np.float32("nan")))


@pytest.mark.parametrize("replica", range(two_devices.COUNT))
def test_a_loss_that_is_not_finite_on_one_replica_changes_no_weight_and_ends_nothing(
    replica, trained
):
    model, update = trained.mirrored, trained.graphs.mirrored
    _, parts = batches(model, 5, (2, 3))
    bad = [spoilt(part) if r == replica else part for r, part in enumerate(parts)]
    before = [weight.numpy() for weight in model.trainable_variables]
    kept, counted = model.get_weights(), [v.numpy() for v in model.auc.variables]
    with pytest.raises(tf.errors.InvalidArgumentError, match="training loss"):
        update(two_devices.distributed(bad))
    for weight, old in zip(model.trainable_variables, before, strict=True):
        for copy in two_devices.mirrored().experimental_local_results(weight):
            np.testing.assert_array_equal(copy.numpy(), old)
    for variable, old in zip(model.auc.variables, counted, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)
    model.set_weights(kept)  # moving averages
    losses = two_devices.per_replica(update(two_devices.distributed(parts)))
    assert np.isfinite([losses[0]["total_loss"], losses[1]["total_loss"]]).all()


def test_a_checkpoint_goes_from_replicas_to_one_device_and_back(trained, tmp_path):
    def counter(model):
        """The draws of the generator."""
        (draws,) = [v for v in model.variables if "draws" in v.name]
        return draws

    alone, mirrored = build(**CHANGES)[0], trained.mirrored
    for draws, source, target in [(7, mirrored, alone), (9, alone, mirrored)]:
        source.set_weights([draws * weight for weight in source.get_weights()])
        counter(source).assign(draws)
        path = tf.train.Checkpoint(model=source).write(str(tmp_path / "checkpoint"))
        tf.train.Checkpoint(model=target).read(path).assert_existing_objects_matched()
        assert_same_weights(mirrored, alone, tolerance=0)
        for copy in two_devices.mirrored().experimental_local_results(counter(target)):
            assert copy.numpy() == draws


def test_keras_fits_the_model_on_replicas_and_on_one_device():
    losses = []
    for model in pair(lambda: tf.keras.optimizers.SGD(0.1), lambda: RowAdagrad(0.05)):
        # Keras cuts a batch for the replicas itself, for which histories must be one group.
        model.run_eagerly = True  # a graph would take longer to build than to save
        whole = batch(path_of(model, SCHEMA_OBJECT, BUCKETS), 0, 5)
        data = tf.data.Dataset.from_tensors(whole).unbatch().batch(5)
        losses.append(model.fit(data, epochs=1, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert replicas.count() == 1
