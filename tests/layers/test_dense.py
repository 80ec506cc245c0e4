"""The dense layer for inputs of any rank: what the library's computes, by fewer operations."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers.dense import Dense
from tests.layers.helpers import normal


@pytest.mark.parametrize("known", ["all", "but the first", "the width alone"])
@pytest.mark.parametrize("shape", [(5, 3), (5, 4, 3), (2, 5, 4, 3), (0, 4, 3)], ids=str)
def test_is_the_dense_layer_of_the_library(shape, known):
    ours, library = Dense(6, "tanh"), tf.keras.layers.Dense(6, "tanh")
    for layer in (ours, library):
        layer.build([None, 3])
        layer.set_weights([normal(0, 3, 6), normal(1, 6)])
    keep = {"all": shape, "but the first": (None, *shape[1:])}
    spec = tf.TensorSpec(keep.get(known, (*[None] * (len(shape) - 1), 3)), tf.float32)

    def computed(layer, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(y**2)
        return y, tape.gradient(loss, [x, *layer.trainable_variables])

    inputs = tf.constant(normal(2, *shape))
    found = [tf.function(computed).get_concrete_function(y, spec) for y in (ours, library)]
    assert found[0].structured_outputs[0].shape[-1] == 6
    one, other = (tf.nest.flatten(f(inputs)) for f in found)
    assert one[0].shape == (*shape[:-1], 6)
    for ours_value, expected in zip(one, other, strict=True):
        np.testing.assert_allclose(ours_value, expected, rtol=1e-5, atol=1e-6)
    # The library's takes a gather for the shape of the product, unless it knows all of it.
    operations = [{o.type for o in f.graph.get_operations()} for f in found]
    assert "GatherV2" not in operations[0]
    assert ("GatherV2" in operations[1]) == (len(shape) > 2 and known != "all")
