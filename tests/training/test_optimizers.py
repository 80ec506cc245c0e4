"""The optimisers of the embedding table and of the rest."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config import TaskConfig
from diffumin_tf.training import optimizers
from tests import two_devices

UNIT = {"input_units": ["handle_rec_unit:Long_term_DiffuMIN"]}
ROWS = [[3, 5, 3, 0, 3], [7, 7, 7, 7, 7], [1, 2, 3, 4, 5]]


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


def test_rows_outside_of_a_gradient_stay_as_they_are():
    before, _ = trained(optimizers.RowAdagrad(0.0), [sparse(0, ROWS[0], 1.0)])
    after, _ = trained(optimizers.RowAdagrad(0.1), [sparse(0, ROWS[0], 1.0)])
    assert set(np.flatnonzero((before != after).any(axis=1))) == {0, 3, 5}


def test_each_optimiser_has_the_rate_of_its_key():
    config = TaskConfig.model_validate(
        {**UNIT, "learning_rate": 0.25, "lazyAdam_learning_rate": 0.125}
    )
    adam, adagrad = optimizers.build(config)
    assert isinstance(adam, tf.keras.optimizers.Adam) and float(adam.learning_rate) == 0.125
    assert isinstance(adagrad, optimizers.RowAdagrad) and float(adagrad.learning_rate) == 0.25
    assert optimizers.RowAdagrad.from_config(adagrad.get_config()).get_config() == (
        adagrad.get_config()
    )


def test_workers_of_parameter_servers_add_to_the_rows_of_the_table():
    config = TaskConfig.model_validate({**UNIT, "strategy": "parameter_server"})
    _, adagrad = optimizers.build(config)
    assert type(adagrad) is tf.keras.optimizers.Adagrad
    _, alone = optimizers.build(TaskConfig.model_validate(UNIT))
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
