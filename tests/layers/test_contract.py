"""What every layer must hold."""

import inspect
import re

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf import layers
from tests.layers.contract import CONTRACTS, call, is_float
from tests.layers.helpers import (
    OTHER_SHAPE,
    assert_batch_mates_never_matter,
    assert_finite,
    assert_same,
    flat,
    normal,
    random_ops,
)

BATCH, MORE = 4, 3

every_layer = pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)


def those(condition):
    chosen = {name: c for name, c in CONTRACTS.items() if condition(c)}
    return pytest.mark.parametrize("contract", chosen.values(), ids=chosen)


def test_no_layer_is_left_out():
    public = [getattr(layers, name) for name in layers.__all__]
    public = {x for x in public if issubclass(x, tf.keras.layers.Layer)}
    assert public <= {contract.layer for contract in CONTRACTS.values()}


@those(lambda contract: contract.oracle)
def test_outputs_equal_the_oracle(contract):
    inputs = contract.inputs(BATCH)
    for changes in ({}, *contract.variants):
        layer = contract.build(inputs, **contract.without_dropout, **changes)
        for training in (False, True):
            if training and contract.layer is layers.SeededDropout:
                continue
            expected = contract.oracle(layer, inputs, training)
            outputs = call(layer, inputs, training)
            assert outputs.dtype in (tf.float32, tf.bool)
            np.testing.assert_allclose(outputs, expected, atol=1e-4, rtol=1e-4)


@every_layer
def test_config_and_checkpoint_make_a_layer_that_computes_and_draws_the_same(contract, tmp_path):
    inputs = contract.inputs(BATCH)
    layer = contract.build(inputs)
    config = layer.get_config()
    assert set(inspect.signature(contract.layer).parameters) - {"kwargs"} <= set(config)
    copy = contract.layer.from_config(config)
    assert copy.get_config() == config
    call(copy, inputs)
    checkpoint = tf.train.Checkpoint(layer=layer).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(layer=copy).read(checkpoint).assert_consumed()
    for training in (False, True):
        assert_same(call(copy, inputs, training), call(layer, inputs, training))
    assert_same(copy.losses, layer.losses)
    assert_same(copy.get_weights(), layer.get_weights())


@every_layer
def test_a_functional_model_takes_any_batch_and_survives_saving(contract, tmp_path):
    inputs = contract.inputs(BATCH)
    layer = contract.build(inputs)
    tensors = {
        name: tf.keras.Input(
            [None, *x.shape[2:]] if name in contract.sequences else x.shape[1:],
            dtype=x.dtype,
            name=name,
        )
        for name, x in inputs.items()
    }
    outputs = {f"output_{i}": x for i, x in enumerate(tf.nest.flatten(call(layer, tensors, None)))}
    model = tf.keras.Model(tensors, outputs)
    expected = flat(call(layer, inputs))
    assert_same(model(inputs), expected)
    assert random_ops(lambda: model(inputs, training=False)) == set()
    for batch in (1, BATCH - 1):
        rows = {name: x[:batch] for name, x in inputs.items()}
        assert_same(model(rows), [x[:batch] for x in expected], OTHER_SHAPE)
    # Loading makes the layers from their configs; the traces of each would take most of the time.
    model.save(tmp_path / "model", save_format="tf", save_traces=False)
    loaded = tf.keras.models.load_model(tmp_path / "model")
    assert contract.layer in map(type, loaded.layers)
    assert_same(loaded(inputs), expected)
    model.export(tmp_path / "export")
    served = tf.saved_model.load(str(tmp_path / "export")).signatures["serving_default"]
    assert_same(served(**{name: tf.constant(x) for name, x in inputs.items()}), expected)


@every_layer
def test_batch_mates_never_change_an_output(contract):
    inputs = contract.inputs(BATCH)
    layer = contract.build(inputs)
    assert_batch_mates_never_matter(
        lambda *x: call(layer, dict(zip(inputs, x, strict=True))), list(inputs.values())
    )


def without_padding(outputs, mask):
    """Of outputs that stand beside the mask: what is not masked."""
    length = mask.shape[1]
    cut = [x[:, :length] if x.ndim > 1 and x.shape[1] == length + MORE else x for x in outputs]
    return [x[mask] if x.shape[:2] == mask.shape else x for x in cut]


@those(lambda contract: contract.mask)
@pytest.mark.parametrize("training", [False, True])
def test_padding_and_what_is_masked_change_nothing(contract, training):
    inputs = contract.inputs(BATCH)
    mask = inputs[contract.mask]
    other = dict(inputs)
    for name in contract.masked:
        other[name] = np.where(mask[:, :, np.newaxis], inputs[name], 9 * normal(7, *mask.shape, 1))
    for name in contract.sequences:
        axes = [(0, 0), (0, MORE)] + [(0, 0)] * (inputs[name].ndim - 2)
        junk = False if name == contract.mask else 9.0
        other[name] = np.pad(other[name], axes, constant_values=junk)
    results = []
    for x in (inputs, other):
        layer = contract.build(inputs, **contract.without_dropout)
        outputs = flat(call(layer, x, training))
        results.append([without_padding(outputs, mask), layer.losses, layer.get_weights()])
    assert_same(*results, OTHER_SHAPE)


@those(lambda contract: contract.mask)
def test_no_mask_means_that_all_is_valid(contract):
    inputs = contract.inputs(BATCH)
    layer = contract.build(inputs)
    everything = {**inputs, contract.mask: np.ones_like(inputs[contract.mask])}
    assert_same(call(layer, {**inputs, contract.mask: None}), call(layer, everything))


@every_layer
@pytest.mark.parametrize("case", ["zeros", "all masked", "empty"])
def test_gradients_and_statistics_stay_finite(contract, case):
    inputs = contract.inputs(BATCH)
    layer = contract.build(inputs)
    if case == "zeros":
        inputs = {name: np.zeros_like(x) if is_float(x) else x for name, x in inputs.items()}
    if contract.mask and case != "zeros":
        inputs[contract.mask] = np.zeros_like(inputs[contract.mask])
    if case == "empty":
        inputs |= {name: inputs[name][:, :0] for name in contract.sequences}
    inputs = {name: tf.constant(x) for name, x in inputs.items()}
    floats = [x for x in inputs.values() if x.dtype.is_floating]
    with tf.GradientTape() as tape:
        tape.watch(floats)
        outputs = tf.nest.flatten(call(layer, inputs, True))
        squares = [tf.reduce_sum(tf.cast(x, tf.float32) ** 2) for x in outputs]
        loss = tf.add_n([*squares, *layer.losses])
    sources = [*floats, *layer.trainable_variables]
    assert_finite([loss, tape.gradient(loss, sources, unconnected_gradients="zero")])
    assert_finite([tf.constant(weight) for weight in layer.get_weights()])


@those(lambda contract: "momentum" in contract.arguments)
def test_momentum_is_the_share_of_the_averages_that_a_step_keeps(contract):
    inputs = contract.inputs(BATCH)
    for changes in ({}, *contract.variants):
        changes = {**changes, **contract.without_dropout}
        layer = contract.build(inputs, **changes, momentum=0.0)
        assert_same(call(layer, inputs, True), call(layer, inputs), OTHER_SHAPE)
        layer = contract.build(inputs, **changes, momentum=1 - 1e-9)
        before = call(layer, inputs)
        call(layer, inputs, True)
        assert_same(call(layer, inputs), before)


@those(lambda contract: "dropout_rate" in contract.arguments)
def test_dropout_acts_in_training_alone(contract):
    inputs = contract.inputs(BATCH)
    layer = contract.build(inputs, dropout_rate=0.5)
    assert_same(call(layer, inputs), call(contract.build(inputs, dropout_rate=0.0), inputs))
    first, second = (np.asarray(call(layer, inputs, True)) for _ in range(2))
    assert np.abs(first - second).max() > 0.01


@those(lambda contract: contract.wrong)
def test_wrong_arguments_are_named_and_echoed(contract):
    for name, value in contract.wrong.items():
        # Of a list, all of it, which Keras may have wrapped, or the element that is wrong.
        echoes = [value, *(value if isinstance(value, list) else [])]
        echo = "|".join(re.escape(repr(x)) for x in echoes)
        message = rf"`{name}` .* received (ListWrapper\()?({echo})\)?\.$"
        with pytest.raises(ValueError, match=message):
            call(contract.layer(**{**contract.arguments, name: value}), contract.inputs(2))


@those(lambda contract: not contract.any_shape)
def test_wrong_shapes_are_named_and_echoed(contract):
    inputs = contract.inputs(2)
    layer = contract.build(inputs)
    wrong = [(name, x[..., np.newaxis]) for name, x in inputs.items()]
    wrong += [(name, x[..., :-1]) for name, x in inputs.items() if is_float(x)]
    for name, x in wrong:
        message = rf"`{name}` .* received shape {re.escape(str(x.shape))}"
        with pytest.raises(ValueError, match=message):
            call(layer, {**inputs, name: x}, training=True)
    first = next(iter(inputs))
    for shape in ([None] * inputs[first].ndim, [*inputs[first].shape, 1]):
        with pytest.raises(ValueError, match=f"`{first}` .* received shape"):
            contract.layer(**contract.arguments).build(tf.TensorShape(shape))


DOCUMENTED = [name for name in layers.__all__ if name != "Interests"]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_example_runs_and_the_docstring_says_what_goes_in(name):
    documented = getattr(layers, name)
    docstring = inspect.getdoc(documented)
    (example,) = re.findall(r"```python\n(.*?)```", docstring, flags=re.DOTALL)
    exec(example, {"tf": tf, **vars(layers)})
    arguments = list(inspect.signature(documented).parameters)
    if issubclass(documented, tf.keras.layers.Layer):
        arguments += list(inspect.signature(documented.call).parameters)[1:]
    for argument in arguments:
        assert argument == "kwargs" or re.search(rf"^ +{argument}: ", docstring, re.M), argument
