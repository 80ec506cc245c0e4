"""Layers once more in float64 numpy, written from the equations: `(layer, inputs, training)`.

They take the weights and settings of a layer, never its code. `oracles` has those of DiffuMIN.
"""

import numpy as np

from tests.layers import oracles
from tests.layers.helpers import block_weights


def doubles(inputs):
    return [x.astype(np.float64) if x.dtype == np.float32 else x for x in inputs.values()]


def normalised(x, norm, training):
    """Batch normalisation of [n, units] by the batch or by the moving averages."""
    mean, variance = x.mean(axis=0), x.var(axis=0)
    if not training:
        mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    gamma = norm.gamma.numpy() if norm.scale else 1
    beta = norm.beta.numpy() if norm.center else 0
    return gamma * (x - mean) / np.sqrt(variance + norm.epsilon) + beta


def activated(x, layer, training):
    """Dice, PReLU or ReLU of [n, units]."""
    kind = layer.name.rsplit("_", 1)[0]
    if kind in ("prelu", "relu"):
        return np.where(x > 0, x, layer.alpha.numpy() * x if kind == "prelu" else 0)
    p = 1 / (1 + np.exp(-normalised(x, layer.normalize, training)))
    return p * x + (1 - p) * layer.alpha.numpy() * x


def logits(x, tower, training):
    """The tower, one of its layers after the other."""
    for layer in tower.hidden:
        kind = layer.name.rsplit("_", 1)[0]
        if kind == "dense":
            x = x @ layer.kernel.numpy() + (layer.bias.numpy() if layer.use_bias else 0)
        elif kind == "batch_norm":
            x = normalised(x, layer, training)
        elif kind != "dropout":
            x = activated(x, layer, training)
    kernel, bias = tower.logit.get_weights()
    return (x @ kernel + bias)[:, 0]


def activation_unit(layer, inputs, training):
    history, candidate, mask = doubles(inputs)
    q = np.broadcast_to(candidate[:, np.newaxis], history.shape)
    hidden = np.concatenate([q, history, q - history, q * history], axis=2)[mask]
    for dense, activation in zip(layer.dense, layer.activations, strict=True):
        kernel, bias = dense.get_weights()
        hidden = activated(hidden @ kernel + bias, activation, training)
    kernel, bias = layer.weight.get_weights()
    weights = np.zeros(mask.shape)
    weights[mask] = (hidden @ kernel + bias)[:, 0]
    return weights


def batch_norm(layer, inputs, training):
    return normalised(*doubles(inputs), layer, training)


def channel_share(layer, inputs, training):
    (shares,) = doubles(inputs)
    both = np.concatenate([shares, np.log(shares + layer.floor)], axis=1)
    return normalised(both, layer.normalize, training)


def dice(layer, inputs, training):
    return activated(*doubles(inputs), layer, training)


def encoder(layer, inputs, training):
    result = []
    for tokens, mask in zip(*doubles(inputs), strict=True):
        for block in layer.blocks:
            tokens = oracles.transformer_block(tokens, mask, layer.num_heads, block_weights(block))
        result.append(tokens)
    return result


def id_embedding(layer, inputs, training):
    row_ids = inputs["row_ids"]
    return layer.table.numpy()[row_ids] * (row_ids != 0)[..., np.newaxis]


def interest_summary(layer, inputs, training):
    (interests,) = doubles(inputs)
    lengths = np.sqrt((interests**2).sum(-1) + layer.floor**2)
    directions = (interests / lengths[..., np.newaxis]).reshape(len(interests), -1)
    return np.concatenate([directions, normalised(np.log(lengths), layer.normalize, training)], 1)


def projection(layer, inputs, training):
    return inputs["candidate"].astype(np.float64) @ layer.kernel.numpy() + layer.bias.numpy()


def sampled_hash_attention(layer, inputs, training):
    history, candidate, mask = doubles(inputs)
    hyperplanes = layer.hash.hyperplanes.numpy()
    same = (history @ hyperplanes > 0) == (candidate @ hyperplanes > 0)[:, np.newaxis]
    collides = same.reshape(*mask.shape, -1, layer.width).all(axis=-1) & mask[..., np.newaxis]
    sums = np.einsum("blg,bld->bgd", collides, history)
    lengths = np.linalg.norm(sums, axis=2, keepdims=True)
    return (sums / np.where(lengths, lengths, 1)).mean(axis=1)


def sim_hash(layer, inputs, training):
    return inputs["vectors"].astype(np.float64) @ layer.hyperplanes.numpy() > 0


def relevance(layer, history, candidate):
    """The scores of a soft search [B, L]."""
    queries = candidate.astype(np.float64) @ layer.query_projection.numpy()
    return np.einsum("blk,bk->bl", history @ layer.key_projection.numpy(), queries)


def soft_search(layer, inputs, training):
    history, candidate, mask, _ = doubles(inputs)
    scores = np.where(mask, relevance(layer, history, candidate), 0)
    interest = np.einsum("bl,bld->bd", scores, history)
    interest = normalised(interest, layer.normalize, training)
    return logits(np.concatenate([candidate, interest], axis=1), layer.tower, training)


def token_norm(layer, inputs, training):
    weights = *layer.get_weights(), layer.epsilon
    return np.apply_along_axis(oracles.layer_norm, -1, *doubles(inputs), *weights)


def tower(layer, inputs, training):
    return logits(*doubles(inputs), layer, training)


def twin_heads(layer, history, candidate, mask):
    """TWIN's interest [d] of one sample, and the indices that each head chooses."""
    size = history.shape[1] // layer.num_heads
    fields = np.split(history, history.shape[1] // layer.field_dim, axis=1)
    inherent = np.concatenate([fields[f] for f in layer.inherent], axis=1)
    heads, chosen = [], []
    for head in range(layer.num_heads):
        part = slice(head * size, (head + 1) * size)
        query = candidate @ layer.query_kernel.numpy()[:, part]
        scores = inherent @ layer.key_kernel.numpy()[:, part] @ query / size**0.5
        for index, field in enumerate(layer.cross):
            compressed = fields[field] @ layer.compression.numpy()[head, index]
            scores = scores + compressed * layer.importance.numpy()[head, index]
        best = oracles.best_indices(scores, mask, layer.top_k)
        shares = oracles.softmax(scores[best]) if best else np.zeros(0)
        heads.append(shares @ history[best] @ layer.value_kernel.numpy()[:, part])
        chosen.append(best)
    return np.concatenate(heads) @ layer.output_kernel.numpy(), chosen


def twin_attention(layer, inputs, training):
    samples = zip(*doubles(inputs), strict=True)
    return [twin_heads(layer, *sample)[0] for sample in samples]
