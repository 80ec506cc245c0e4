"""Adam by one operation a variable, against its equations and the library's."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.training.optimizers import FusedAdam
from tests import two_devices

SHAPES = ([4, 3], [5])
LIBRARY = tf.keras.optimizers.Adam
RATE, BETAS, EPSILON = 0.01, (0.9, 0.999), 1e-7


def arrays(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return [scale * rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


def built(kind=FusedAdam):
    weights = [tf.Variable(value) for value in arrays(0)]
    optimizer = kind(RATE, name="adam")
    optimizer.build(weights)
    return optimizer, weights


def values(optimizer, weights):
    return [np.array(variable) for variable in (*weights, *optimizer.variables)]


def updated(optimizer, weights, seeds, scale=1.0):
    step = tf.function(lambda *g: optimizer.apply_gradients(zip(g, weights, strict=True)))
    for seed in seeds:
        step(*map(tf.constant, arrays(seed, scale)))
    return values(optimizer, weights)


@pytest.mark.parametrize("scale", [1e-6, 1.0])
def test_weights_and_moments_follow_the_equations(scale):
    weights = [np.float64(value) for value in arrays(0)]
    moments = [[np.zeros(shape), np.zeros(shape)] for shape in SHAPES]
    for t in (1, 2, 3):
        for i, g in enumerate(np.float64(value) for value in arrays(t, scale)):
            m, v = moments[i]
            m = BETAS[0] * m + (1 - BETAS[0]) * g
            v = BETAS[1] * v + (1 - BETAS[1]) * g**2
            rate = RATE * np.sqrt(1 - BETAS[1] ** t) / (1 - BETAS[0] ** t)
            weights[i] = weights[i] - rate * m / (np.sqrt(v) + EPSILON)
            moments[i] = [m, v]
    expected = [*weights, 3, *(slot for pair in moments for slot in pair)]
    # 1 − β₂ has four digits in float32.
    for one, other in zip(updated(*built(), (1, 2, 3), scale), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=5e-5)


def test_weights_move_as_under_the_librarys_adam():
    ours, library = (updated(*built(kind), range(1, 7)) for kind in (FusedAdam, LIBRARY))
    for one, other in zip(ours[: len(SHAPES)], library[: len(SHAPES)], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("kinds", [(LIBRARY, FusedAdam), (FusedAdam, LIBRARY)])
def test_it_goes_on_from_a_checkpoint_of_the_librarys_adam_and_back(tmp_path, kinds):
    (first, weights), (second, others) = (built(kind) for kind in kinds)
    expected = updated(first, weights, (1, 2))
    path = tf.train.Checkpoint(optimizer=first, weights=weights).write(str(tmp_path / "adam"))
    restored = tf.train.Checkpoint(optimizer=second, weights=others).read(path)
    restored.assert_consumed()
    for one, other in zip(values(second, others), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    pairs = zip(updated(first, weights, (3,)), updated(second, others, (3,)), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=5e-5)
    assert [v.name for v in first.variables] == [v.name for v in second.variables]
    assert first.get_config() == second.get_config()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_step_that_is_not_finite_changes_no_bit_and_does_not_count(jit_compile):
    optimizer, weights = built()
    gradients = tf.function(lambda scale: [scale * g for g in arrays(3)], autograph=False)

    @tf.function(jit_compile=jit_compile, autograph=False)
    def step(scale):
        pairs = zip(gradients(scale), weights, strict=True)
        optimizer.apply_if(tf.math.is_finite(scale), pairs)

    before = updated(optimizer, weights, (1, 2))
    step(tf.constant(np.nan))
    for one, other in zip(values(optimizer, weights), before, strict=True):
        assert one.tobytes() == other.tobytes()
    step(tf.constant(1.0))
    for one, other in zip(values(optimizer, weights), updated(*built(), (1, 2, 3)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_step_has_one_operation_a_variable_and_takes_the_powers_once():
    optimizer, weights = built()
    step = tf.function(lambda *g: optimizer.apply_gradients(zip(g, weights, strict=True)))
    kinds = [o.type for o in step.get_concrete_function(*arrays(1)).graph.get_operations()]
    counted = [kinds.count(kind) for kind in ("ResourceApplyAdam", "Pow", "AssignAddVariableOp")]
    assert counted == [len(SHAPES), 2, 1]  # the last one counts iterations


def test_a_sparse_gradient_moves_all_rows_as_a_dense_one():
    table = tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    slices = tf.IndexedSlices(table, tf.constant([1, 0, 1]), tf.constant([2, 2]))
    moved = []
    for gradient in (slices, tf.convert_to_tensor(slices)):
        variable = tf.Variable(tf.ones([2, 2]))
        FusedAdam(RATE).apply_gradients([(gradient, variable)])
        moved.append(variable.numpy())
    np.testing.assert_array_equal(*moved)


def test_variants_of_adam_that_the_operation_does_not_know_are_refused():
    for name, value in (("amsgrad", True), ("clipnorm", 1.0), ("weight_decay", 0.1)):
        with pytest.raises(ValueError, match=f"`{name}` must not be set, received {value}"):
            FusedAdam(**{name: value})


def test_replicas_move_every_copy_as_one_device_does():
    parts = [[part * g for g in arrays(1)] for part in (0.25, 0.75)]
    expected = updated(*built(), (1,))
    with two_devices.mirrored().scope():
        optimizer, weights = built()

    def step(gradients):
        pairs = zip(gradients, weights, strict=True)
        return tf.identity(optimizer.apply_gradients(pairs))

    two_devices.run(step, parts)
    for variable, one in zip((*weights, *optimizer.variables), expected, strict=True):
        for copy in two_devices.mirrored().experimental_local_results(variable):
            np.testing.assert_allclose(copy.numpy(), one, rtol=1e-6)
