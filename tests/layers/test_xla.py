import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers.xla import compiled_in_training, not_by_parts
from tests.layers.helpers import must_compile


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_in_training_alone(jit_compile, training):
    run = compiled_in_training(lambda x, training: 2 * x, jit_compile)
    x = tf.constant([1.0, 2.0])
    np.testing.assert_array_equal(run(x, training), [2, 4])
    traced = tf.function(lambda: run(x, training)).get_concrete_function()
    assert must_compile(traced) == (jit_compile and training)
    np.testing.assert_array_equal(traced(), [2, 4])


def test_not_by_parts_leaves_what_is_traced_inside_as_it_is():
    run = compiled_in_training(lambda x, training: 2 * x, True)

    def whole():
        with not_by_parts():
            return run(tf.constant([1.0]), True)

    assert not must_compile(tf.function(whole).get_concrete_function())
    later = tf.function(lambda: run(tf.constant([1.0]), True))
    assert must_compile(later.get_concrete_function())
