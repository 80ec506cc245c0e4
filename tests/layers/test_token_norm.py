import pytest
import tensorflow as tf

from diffumin_tf.layers.token_norm import TokenNorm
from tests.layers.helpers import assert_same, normal, randomise


@pytest.mark.parametrize(("mean", "tolerance"), [(0.0, 2e-6), (100.0, 1e-4)])
@pytest.mark.parametrize("shape", [(7, 6), (4, 3, 6)])
def test_equals_layer_normalisation_in_double_precision(shape, mean, tolerance):
    tokens, weight = mean + normal(0, *shape), normal(1, *shape)
    tokens[0] = mean  # without variance
    results = []
    double = tf.keras.layers.LayerNormalization(epsilon=1e-3, dtype="float64")
    for layer in (TokenNorm(epsilon=1e-3), double):
        inputs = tf.constant(tokens, layer.dtype)
        layer.build(inputs.shape)
        randomise(layer)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            normed = layer(inputs)
            loss = tf.reduce_sum(normed * weight)
        results.append([normed, *tape.gradient(loss, [inputs, *layer.trainable_variables])])
    assert_same(results[0], results[1], tolerance=tolerance)
