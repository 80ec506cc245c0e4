"""What replicas share, and that layers on two of them compute what they compute on one device."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import DenoiserConfig, Diffusion, replicas
from diffumin_tf.layers.xla import compiled_in_training
from tests import two_devices
from tests.layers.contract import CONTRACTS, call
from tests.layers.helpers import must_compile, normal, randomise

SPLITS = [(2, 3), (0, 1), (3, 0)]
# Sums of float32 in another order, by the largest entry of a tensor.
TOLERANCE = 1e-5


def numbers(*shape):
    return tf.reshape(tf.range(np.prod(shape), dtype=tf.float32), shape)


def test_without_a_strategy_there_is_one_replica_and_no_operation():
    x = numbers(3, 2)

    def call():
        assert (replicas.count(), replicas.index()) == (1, 0)
        assert replicas.batch_rows(3) == (0, 3)
        for same in (
            replicas.total(x),
            replicas.average({"x": x})["x"],
            replicas.gather([x], replicas.batch_rows(3))[0],
        ):
            assert same is x

    call()
    assert not tf.function(call).get_concrete_function().graph.get_operations()[1:]


def test_outside_of_its_replicas_a_strategy_counts_as_one():
    with two_devices.mirrored().scope():
        assert (replicas.count(), replicas.index()) == (1, 0)
        assert replicas.batch_rows(3) == (0, 3)
        assert float(replicas.mean(tf.constant(6.0), tf.constant(4.0))) == 1.5


@pytest.mark.parametrize("sizes", SPLITS)
def test_the_average_of_the_losses_is_the_mean_of_all_terms(sizes):
    terms = normal(0, sum(sizes))

    def loss(x):
        return replicas.mean(tf.reduce_sum(x), tf.cast(tf.size(x), tf.float32))

    parts = two_devices.parts(terms, sizes)
    losses, averaged = zip(
        *two_devices.run(lambda x: (loss(x), replicas.average(loss(x))), parts), strict=True
    )
    np.testing.assert_allclose(np.mean(losses), terms.mean(), rtol=1e-6)
    np.testing.assert_allclose(averaged, [terms.mean()] * 2, rtol=1e-6)
    np.testing.assert_allclose(loss(terms), terms.mean(), rtol=1e-6)


def test_the_mean_of_no_terms_is_zero():
    zero = tf.constant(0.0)
    losses = two_devices.run(lambda x: replicas.mean(x, x), [zero, zero])
    np.testing.assert_array_equal([*losses, replicas.mean(zero, zero)], [0.0, 0.0, 0.0])


@pytest.mark.parametrize("sizes", SPLITS)
def test_every_replica_knows_its_rows_and_gathers_all(sizes):
    rows = {"x": numbers(sum(sizes), 3).numpy(), "id": np.arange(sum(sizes)) + 2**40}

    def gather(part):
        rows = replicas.batch_rows(tf.shape(part["id"])[0])
        return rows, replicas.gather(part, rows)

    found = two_devices.run(gather, two_devices.parts(rows, sizes))
    ranges = [tuple(map(int, rows)) for rows, _ in found]
    assert ranges == [(0, sum(sizes)), (sizes[0], sum(sizes))]
    for _, gathered in found:
        np.testing.assert_array_equal(gathered["x"], rows["x"])
        np.testing.assert_array_equal(gathered["id"], rows["id"])


@pytest.mark.parametrize("sizes", SPLITS)
def test_gathered_rows_pass_the_gradients_of_all_replicas_back(sizes):
    rows = normal(0, sum(sizes), 3)

    def gradient(part):
        weight = tf.cast(replicas.index() + 1, tf.float32)  # replicas look at them differently
        with tf.GradientTape() as tape:
            tape.watch(part)
            gathered = replicas.gather(part, replicas.batch_rows(tf.shape(part)[0]))
            loss = weight * tf.reduce_sum(gathered**3)
        return tape.gradient(loss, part)

    gradients = two_devices.run(gradient, two_devices.parts(rows, sizes))
    np.testing.assert_allclose(np.concatenate(gradients), 3 * 3 * rows**2, rtol=1e-5)


# Layers whose samples meet in training, or that stand between such layers.
CASES = {
    "ActivationUnit": {},
    "ChannelShare": {},
    "CMIC": {"negatives": "global"},
    "CMIC without users": {"negatives": "global"},
    "Dice": {},
    "DMIG": {},
    "DMIG of epsilon": {"diffusion": Diffusion(40, 2, 10, prediction_type="epsilon")},
    "InterestSummary": {},
    "OMIE": {},
    "SoftSearch": {},
    "Tower": {"activation": "dice", "batch_norm": True},
    "Tower without BatchNorm": {},
    "TransformerEncoder": {},
}


def built(name, inputs, **changes):
    contract = CONTRACTS[name.split()[0]]
    layer = contract.layer(**{**contract.arguments, **contract.without_dropout, **changes})
    call(layer, inputs)
    randomise(layer)
    return layer


def learnt(layer, inputs):
    """Outputs and their gradients, the losses, and the summed gradients of the weights."""
    inputs = {name: tf.convert_to_tensor(x) for name, x in inputs.items()}
    floats = [x for x in inputs.values() if x.dtype.is_floating]
    with tf.GradientTape() as tape:
        tape.watch(floats)
        outputs = [x for x in tf.nest.flatten(call(layer, inputs, True)) if x.dtype.is_floating]
        losses = [loss / layer.loss_weight for loss in layer.losses]
        total = tf.add_n([tf.reduce_sum(tf.sin(3 * x)) for x in outputs])
        total += tf.add_n([tf.zeros([]), *losses]) / replicas.count()
    gradients = tape.gradient(
        total, [*floats, *layer.trainable_variables], unconnected_gradients="zero"
    )
    return {
        "samples": (*outputs, *gradients[: len(floats)]),
        "losses": [replicas.average(loss) for loss in losses],
        "weights": [replicas.total(g) for g in gradients[len(floats) :]],
    }


def assert_near(actual, expected):
    scale = np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * scale + 1e-7)


@pytest.mark.parametrize("sizes", SPLITS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_two_replicas_compute_what_one_device_does(name, sizes):
    inputs = CONTRACTS[name.split()[0]].inputs(sum(sizes))
    if name == "CMIC without users":
        del inputs["user_ids"]
    layer = built(name, inputs, **CASES[name])
    with two_devices.mirrored().scope():
        mirrored = built(name, inputs, **CASES[name])
    mirrored.set_weights(layer.get_weights())
    expected = learnt(layer, inputs)
    found = two_devices.run(lambda x: learnt(mirrored, x), two_devices.parts(inputs, sizes))
    for one, *both in zip(expected["samples"], *(r["samples"] for r in found), strict=True):
        assert_near(np.concatenate(both), one)
    for of_replica in found:
        for key in ("losses", "weights"):
            for actual, one in zip(of_replica[key], expected[key], strict=True):
                assert_near(actual, one)
    kept = zip(mirrored.non_trainable_variables, layer.non_trainable_variables, strict=True)
    for weight, one in kept:
        for copy in two_devices.mirrored().experimental_local_results(weight):
            assert_near(copy.numpy(), one.numpy())
    for metric, one in zip(mirrored.metrics, layer.metrics, strict=True):
        assert_near(metric.result(), one.result())


def test_negatives_of_the_replica_are_those_of_its_own_samples():
    inputs = CONTRACTS["CMIC"].inputs(5)
    layer = built("CMIC", inputs)
    with two_devices.mirrored().scope():
        mirrored = built("CMIC", inputs)
    mirrored.set_weights(layer.get_weights())
    parts = two_devices.parts(inputs, (2, 3))
    found = two_devices.run(lambda x: learnt(mirrored, x)["losses"][0], parts)
    live = [tf.math.count_nonzero(part["live"]) for part in parts]
    expected = np.average([learnt(layer, part)["losses"][0] for part in parts], weights=live)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert abs(expected - learnt(layer, inputs)["losses"][0]) > 0.01


def test_a_compiled_generator_holds_no_communication():
    inputs = CONTRACTS["DMIG"].inputs(5)
    with two_devices.mirrored().scope():
        denoiser = DenoiserConfig(n_layers=1, dropout_rate=0.2)
        layer = built("DMIG", inputs, denoiser=denoiser, jit_compile=True)
    run = tf.function(
        lambda x: two_devices.mirrored().run(lambda y: call(layer, y, True), args=(x,)),
        autograph=False,
    )
    parts = two_devices.distributed(two_devices.parts(inputs, (2, 3)))
    function = run.get_concrete_function(parts)
    assert must_compile(function)
    definition = function.graph.as_graph_def()
    inner = {n.op for f in definition.library.function for n in f.node_def}
    assert "CollectiveReduceV2" in {n.op for n in definition.node} and inner
    assert not [op for op in inner if "Collective" in op]


def test_what_communicates_is_compiled_for_one_replica_alone():
    def summed(x, training):
        return replicas.total(2 * x)

    run = compiled_in_training(summed, jit_compile=True, communicates=True)
    x = tf.constant([1.0, 2.0])
    assert must_compile(tf.function(lambda: run(x, True)).get_concrete_function())
    np.testing.assert_array_equal(run(x, True), [2, 4])
    for found in two_devices.run(lambda part: run(part, True), [x, 10 * x]):
        np.testing.assert_array_equal(found, [22, 44])
