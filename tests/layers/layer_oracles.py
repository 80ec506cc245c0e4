"""The oracles with the weights of a layer: `(layer, inputs by name, training)` to its outputs."""

import numpy as np

from tests.layers import oracles, peer_oracles
from tests.layers.helpers import block_weights


def each(function, *inputs):
    """An oracle of one sample, over the batch."""
    return np.array([function(*row) for row in zip(*inputs, strict=True)])


def normalised(x, norm, training):
    """Batch normalisation of [n, units] and what the batch or the moving averages say of it."""
    mean, variance = x.mean(axis=0), x.var(axis=0)
    if not training:
        mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    scale = norm.gamma.numpy() if norm.scale else 1
    shift = norm.beta.numpy() if norm.center else 0
    return scale * (x - mean) / np.sqrt(variance + norm.epsilon) + shift


def bent(x, dice, training):
    x = np.asarray(x, np.float64)
    mean, variance = x.mean(axis=0), x.var(axis=0)
    if not training:
        norm = dice.normalize
        mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    return oracles.dice(x, mean, variance, dice.alpha.numpy(), dice.epsilon)


def logits(x, tower, training):
    """The tower, one of its layers after the other."""
    hidden = x.astype(np.float64)
    for layer in tower.hidden:
        weights, kind = layer.get_weights(), layer.name.rsplit("_", 1)[0]
        if kind == "dense":
            hidden = hidden @ weights[0] + (weights[1] if len(weights) > 1 else 0)
        elif kind == "batch_norm":
            hidden = normalised(hidden, layer, training)
        elif kind == "dice":
            hidden = bent(hidden, layer, training)
        elif kind == "prelu":
            hidden = np.where(hidden > 0, hidden, weights[0] * hidden)
        elif kind == "relu":
            hidden = np.maximum(hidden, 0)
    kernel, bias = tower.logit.get_weights()
    return (hidden @ kernel + bias)[:, 0]


def relevance(layer, history, candidate):
    """The scores of a soft search [B, L]."""
    kernels = layer.query_projection.numpy(), layer.key_projection.numpy()
    return each(lambda h, c: peer_oracles.soft_search_scores(h, c, *kernels), history, candidate)


def twin_heads(layer, history, candidate, mask):
    """TWIN's interest of one sample, and what each head chooses."""
    weights = {
        "query": layer.query_kernel,
        "key": layer.key_kernel,
        "value": layer.value_kernel,
        "output": layer.output_kernel,
    }
    if layer.cross:
        weights |= {"compression": layer.compression, "importance": layer.importance}
    weights = {name: weight.numpy().astype(np.float64) for name, weight in weights.items()}
    settings = layer.inherent, layer.field_dim, layer.num_heads, layer.top_k
    return peer_oracles.twin_attention(history, candidate, mask, weights, *settings)


def activation_unit(layer, inputs, training):
    def activate(x, depth):
        activation = layer.activations[depth]
        if layer.activation == "prelu":
            return np.where(x > 0, x, activation.alpha.numpy() * x)
        return bent(x, activation, training)

    weights = [dense.get_weights() for dense in layer.dense]
    output = layer.weight.get_weights()
    return peer_oracles.activation_weights(*inputs.values(), weights, output, activate)


def batch_norm(layer, inputs, training):
    return normalised(inputs["inputs"].astype(np.float64), layer, training)


def channel_share(layer, inputs, training):
    shares = inputs["shares"].astype(np.float64)
    both = np.concatenate([shares, np.log(shares + layer.floor)], axis=1)
    return normalised(both, layer.normalize, training)


def dice(layer, inputs, training):
    return bent(inputs["inputs"], layer, training)


def encoder(layer, inputs, training):
    def encode(tokens, mask):
        for block in layer.blocks:
            tokens = oracles.transformer_block(tokens, mask, layer.num_heads, block_weights(block))
        return tokens

    return each(encode, inputs["tokens"], inputs["mask"])


def id_embedding(layer, inputs, training):
    row_ids = inputs["row_ids"]
    return layer.table.numpy()[row_ids] * (row_ids != 0)[..., np.newaxis]


def interest_summary(layer, inputs, training):
    x = inputs["interests"].astype(np.float64)
    lengths = np.sqrt((x**2).sum(-1) + layer.floor**2)
    directions = (x / lengths[..., np.newaxis]).reshape(len(x), -1)
    return np.concatenate([directions, normalised(np.log(lengths), layer.normalize, training)], 1)


def projection(layer, inputs, training):
    return inputs["candidate"].astype(np.float64) @ layer.kernel.numpy() + layer.bias.numpy()


def sampled_hash_attention(layer, inputs, training):
    hashing = layer.hash.hyperplanes.numpy(), layer.width

    def attend(history, candidate, mask):
        return peer_oracles.sampled_hash_attention(history, candidate, mask, *hashing)

    return each(attend, *inputs.values())


def sim_hash(layer, inputs, training):
    hyperplanes = layer.hyperplanes.numpy()
    return np.apply_along_axis(peer_oracles.signature, -1, inputs["vectors"], hyperplanes)


def soft_search(layer, inputs, training):
    history, candidate, mask, _ = inputs.values()
    scores = np.where(mask, relevance(layer, history, candidate), 0)
    interest = np.einsum("bl,bld->bd", scores, history.astype(np.float64))
    interest = normalised(interest, layer.normalize, training)
    return logits(np.concatenate([candidate, interest], axis=1), layer.tower, training)


def token_norm(layer, inputs, training):
    tokens = inputs["inputs"].astype(np.float64)
    weights = *layer.get_weights(), layer.epsilon
    return np.apply_along_axis(oracles.layer_norm, -1, tokens, *weights)


def tower(layer, inputs, training):
    return logits(inputs["inputs"], layer, training)


def twin_attention(layer, inputs, training):
    return each(lambda *sample: twin_heads(layer, *sample)[0], *inputs.values())
