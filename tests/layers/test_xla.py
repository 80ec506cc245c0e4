import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import DiffusionMultiInterestGenerator
from diffumin_tf.layers.xla import compiled_in_training
from tests.layers.helpers import must_compile


def double(x, training):
    return 2 * x


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_function_is_compiled_in_training_alone(jit_compile, training):
    run = compiled_in_training(double, jit_compile)
    x = tf.constant([1.0, 2.0])
    np.testing.assert_array_equal(run(x, training), [2, 4])
    traced = tf.function(lambda: run(x, training)).get_concrete_function()
    assert must_compile(traced) == (jit_compile and training)
    np.testing.assert_array_equal(traced(), [2, 4])


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_generator_is_compiled_in_training_alone(jit_compile, training):
    layer = DiffusionMultiInterestGenerator(
        40, 2, 10, n_layers=1, dff_factor=2, jit_compile=jit_compile
    )
    x = tf.ones([2, 3, 4])
    layer(x, x)
    traced = tf.function(lambda: layer(x, x, training=training)).get_concrete_function()
    assert must_compile(traced) == (jit_compile and training)
