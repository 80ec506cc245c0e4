"""What the tests of several layers share."""

import numpy as np
import tensorflow as tf

# A matmul of another shape sums in another order. Measured over 40 random initialisations of DMIG:
# up to 1.7e-6 on outputs of size 2 between a batch of 1 and of 4, and exactly 0 at equal shapes.
OTHER_SHAPE = 5e-6


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def randomise(layer, seed=0, scale=0.3):
    """Give every trainable weight, biases and norms included, a value that only `seed` decides."""
    rng = np.random.default_rng(seed)
    for weight in layer.trainable_variables:
        centre = 1.0 if "gamma" in weight.name else 0.0
        weight.assign(centre + scale * rng.standard_normal(weight.shape))


def flat(outputs):
    return [np.asarray(output) for output in tf.nest.flatten(outputs)]


def assert_same(actual, expected, tolerance=1e-6):
    for one, other in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=tolerance)


def assert_batch_mates_never_matter(call, inputs):
    """Row b of `call(*inputs)` stays the same among other mates, and alone."""
    expected = flat(call(*inputs))
    for b in range(len(inputs[0])):
        mates = [np.roll(x, 1, axis=0) for x in inputs]
        mates = [-3 * x if x.dtype == np.float32 else x for x in mates]
        for mate, x in zip(mates, inputs, strict=True):
            mate[b] = x[b]
        row = [output[b] for output in expected]
        assert_same([output[b] for output in flat(call(*mates))], row)
        alone = flat(call(*(x[b : b + 1] for x in inputs)))
        assert_same([output[0] for output in alone], row, tolerance=OTHER_SHAPE)


def nodes(graph_def):
    """The nodes of a graph, its inner functions included."""
    return [*graph_def.node, *(n for f in graph_def.library.function for n in f.node_def)]


def random_ops(function):
    """Names of the random ops in the graph of `function()`."""
    graph_def = tf.function(function).get_concrete_function().graph.as_graph_def()
    return {n.op for n in nodes(graph_def) if "Random" in n.op or "Rng" in n.op}


def must_compile(function):
    """Whether the graph of a concrete function holds a part that XLA must compile."""
    graph_def = function.graph.as_graph_def()
    parts = [*nodes(graph_def), *graph_def.library.function]
    return any(part.attr["_XlaMustCompile"].b for part in parts)


def assert_finite(values):
    for value in tf.nest.flatten(values):
        value = value.values if isinstance(value, tf.IndexedSlices) else value
        assert value is not None
        assert np.isfinite(value.numpy()).all()


def block_weights(block):
    """The arrays that `oracles.transformer_block` needs."""
    attention = block.attention
    weights = {
        "query": attention.query_projection.kernel.numpy(),
        "key": attention.key_projection.kernel.numpy(),
        "value": attention.value_projection.kernel.numpy(),
        "output": attention.output_projection.kernel.numpy(),
        "attention_norm": block.attention_norm.get_weights(),
        "hidden": block.hidden.get_weights(),
        "feed_forward": block.output_projection.get_weights(),
        "feed_forward_norm": block.feed_forward_norm.get_weights(),
    }
    if block.conditioned:
        weights["condition"] = block.condition_projection.kernel.numpy()
        weights["condition_norm"] = block.condition_norm.get_weights()
    return weights


def denoiser_weights(denoiser):
    """The arrays that `oracles.denoise` needs."""
    return {
        "time_hidden": denoiser.time_hidden.get_weights(),
        "time_output": denoiser.time_output.get_weights(),
        "blocks": [block_weights(block) for block in denoiser.blocks],
    }
