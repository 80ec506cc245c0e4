"""The optimisers of the embedding table and of the rest."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config import TaskConfig
from diffumin_tf.training import optimizers

UNIT = {"input_units": ["handle_rec_unit:Long_term_DiffuMIN"]}
ROWS = [[3, 5, 3, 0, 3], [7, 7, 7, 7, 7], [1, 2, 3, 4, 5]]


def trained(optimizer, gradients):
    table = tf.Variable(np.random.default_rng(0).normal(size=[9, 2]).astype(np.float32))
    step = tf.function(lambda gradient: optimizer.apply_gradients([(gradient, table)]))
    for gradient in gradients:
        step(gradient)
    return table.numpy(), optimizer.variables[-1].numpy()


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
