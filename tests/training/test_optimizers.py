"""The optimisers of the embedding table and of the rest."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.task import TaskConfig
from diffumin_tf.training import optimizers
from tests import two_devices

ROWS = [[3, 5, 3, 0, 3], [7, 7, 7, 7, 7], [1, 2, 3, 4, 5]]


def config_of(**settings):
    return TaskConfig.model_validate(
        {"input_units": ["handle_rec_unit:Long_term_DiffuMIN"], **settings}
    )


def trained(optimizer, gradients):
    table = tf.Variable(np.random.default_rng(0).normal(size=[9, 2]).astype(np.float32))
    step = tf.function(lambda gradient: optimizer.apply_gradients([(gradient, table)]))
    for gradient in gradients:
        step(gradient)
    return table.numpy(), optimizer.variables[-1].numpy() if gradients else None


def sparse(seed, rows, scale):
    values = scale * np.random.default_rng(seed).normal(size=[len(rows), 2])
    return tf.IndexedSlices(tf.constant(values, tf.float32), tf.constant(rows), tf.constant([9, 2]))


@pytest.mark.parametrize("scale", [1e-6, 1.0])
@pytest.mark.parametrize("dense", [False, True])
def test_the_table_moves_as_under_the_librarys_adagrad(dense, scale):
    arguments = {"learning_rate": 0.05, "initial_accumulator_value": 1e-8}
    gradients = [sparse(seed, rows, scale) for seed, rows in enumerate(ROWS)]
    if dense:
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
    ours = trained(optimizers.RowAdagrad(**arguments), gradients)
    library = trained(tf.keras.optimizers.Adagrad(**arguments), gradients)
    for one, other in zip(ours, library, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("kind", [optimizers.L2Adagrad, optimizers.RowAdagrad])
@pytest.mark.parametrize("dense", [False, True])
def test_l2_draws_each_row_of_the_batch_once_towards_zero(kind, dense):
    start, _ = trained(kind(0.0), [])
    table, accumulator = start.copy(), np.full_like(start, 1e-8)
    gradients = [sparse(seed, rows, 1.0) for seed, rows in enumerate(ROWS)]
    for gradient, rows in zip(gradients, ROWS, strict=True):
        whole = tf.convert_to_tensor(gradient).numpy()
        for row in range(len(table)) if dense else set(rows):
            slope = whole[row] + 0.3 * table[row]
            accumulator[row] += slope**2
            table[row] -= 0.05 * slope / np.sqrt(accumulator[row] + 1e-7)
    if dense:
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
    moved, squares = trained(kind(0.05, l2=0.3, initial_accumulator_value=1e-8), gradients)
    np.testing.assert_allclose(moved, table, rtol=1e-5)
    np.testing.assert_allclose(squares, accumulator, rtol=1e-5)


def test_rows_outside_of_a_gradient_stay_as_they_are():
    before, _ = trained(optimizers.RowAdagrad(0.0), [sparse(0, ROWS[0], 1.0)])
    after, _ = trained(optimizers.RowAdagrad(0.1), [sparse(0, ROWS[0], 1.0)])
    assert set(np.flatnonzero((before != after).any(axis=1))) == {0, 3, 5}


def test_each_optimiser_has_the_rate_of_its_key():
    rates = {"learning_rate": 0.25, "lazyAdam_learning_rate": 0.125}
    adam, adagrad = optimizers.build(config_of(**rates))
    assert isinstance(adam, optimizers.FusedAdam) and float(adam.learning_rate) == 0.125
    assert isinstance(adagrad, optimizers.RowAdagrad) and float(adagrad.learning_rate) == 0.25
    assert optimizers.RowAdagrad.from_config(adagrad.get_config()).get_config() == (
        adagrad.get_config()
    )


def test_both_rates_follow_the_schedule_of_the_config():
    schedule = {"learning_rate_schedule": "linear", "warmup_steps": 2, "decay_steps": 4}
    rates = {"learning_rate": 0.4, "lazyAdam_learning_rate": 0.2}
    adam, adagrad = optimizers.build(config_of(**schedule, **rates, embedding_l2=0.5))
    assert adagrad.l2 == 0.5
    variable, seen = tf.Variable([1.0]), []
    for _ in range(7):
        for optimizer in (adam, adagrad):
            optimizer.apply_gradients([(tf.constant([1.0]), variable)])
        seen.append((float(adam.learning_rate), float(adagrad.learning_rate)))
    expected = np.array([0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0])
    np.testing.assert_allclose(seen, np.stack([0.2 * expected, 0.4 * expected], 1), atol=1e-7)


def test_workers_of_parameter_servers_add_to_the_rows_of_the_table():
    _, adagrad = optimizers.build(config_of(strategy="parameter_server"))
    assert type(adagrad) is optimizers.L2Adagrad
    _, alone = optimizers.build(config_of())
    assert adagrad.get_config() == alone.get_config()


@pytest.mark.parametrize("dense", [False, True])
def test_replicas_move_the_table_as_one_device_does_though_they_share_rows(dense):
    """ROWS repeat rows within a replica and between the two."""
    rows, split = ROWS[0] + ROWS[1], 4
    whole = sparse(0, rows, 1.0)
    parts = [
        tf.IndexedSlices(whole.values[part], whole.indices[part], whole.dense_shape)
        for part in (slice(None, split), slice(split, None))
    ]
    if dense:
        parts = [tf.convert_to_tensor(part) for part in parts]
    expected, accumulator = trained(optimizers.RowAdagrad(0.05), [whole, whole])
    with two_devices.mirrored().scope():
        table = tf.Variable(trained(optimizers.RowAdagrad(0.0), [])[0])
        optimizer = optimizers.RowAdagrad(0.05)
        optimizer.build([table])

    def step(gradient):
        return tf.identity(optimizer.apply_gradients([(gradient, table)]))

    for _ in range(2):
        two_devices.run(step, parts)
    for variable, one in ((table, expected), (optimizer.variables[-1], accumulator)):
        for copy in two_devices.mirrored().experimental_local_results(variable):
            np.testing.assert_allclose(copy.numpy(), one, rtol=1e-5)


def test_nothing_is_compiled_by_itself_where_there_is_a_gpu(monkeypatch):
    found = [tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")]
    monkeypatch.setattr(tf.compat.v2.config, "list_physical_devices", lambda kind=None: found)
    assert tf.keras.optimizers.Adam().jit_compile
    assert not any(optimizer.jit_compile for optimizer in optimizers.build(config_of()))
