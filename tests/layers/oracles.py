"""The layers once more, in float64 numpy, written from the equations.

Weights arrive as dicts of arrays; nothing here reads the layer code.
"""

import numpy as np


def unit(vector):
    vector = np.asarray(vector, np.float64)
    length = np.linalg.norm(vector)
    return vector / length if length else vector


def gram_schmidt(vectors):
    """Modified Gram–Schmidt of [C, d], for independent vectors."""
    result = []
    for vector in vectors:
        for earlier in result:
            vector = vector - np.dot(vector, earlier) * earlier
        result.append(unit(vector))
    return np.array(result)


def softmax(logits):
    exponentials = np.exp(logits - np.max(logits))
    return exponentials / exponentials.sum()


def best_indices(scores, valid, count):
    """Indices of the highest valid scores [L], the first of equal ones first."""
    return sorted(np.flatnonzero(valid), key=lambda j: (-scores[j], j))[:count]


def extract_interests(
    history, candidate, mask, kernel, bias, count, top_k, aggregation, orthogonal=True, routing=True
):
    """OMIE of one sample: history [L, d], candidate [d], mask [L]."""
    history = history.astype(np.float64)
    vectors = (candidate.astype(np.float64) @ kernel + bias).reshape(count, -1)
    channels = gram_schmidt(vectors) if orthogonal else np.array([unit(v) for v in vectors])
    scores = history @ channels.T
    kept = np.zeros(scores.shape, bool)
    interests = np.zeros(channels.shape)
    for i in range(count):
        best = best_indices(scores[:, i], mask, top_k)
        members = [j for j in best if not routing or scores[j, i] == scores[j].max()]
        if not members:
            continue
        kept[members, i] = True
        weights = scores[members, i]
        weights = softmax(weights) if aggregation == "softmax" else weights
        interests[i] = weights @ history[members] / (mask.sum() if aggregation == "mean" else 1)
    return interests, channels, kept


def layer_norm(vector, gamma, beta, epsilon=1e-6):
    return gamma * (vector - vector.mean()) / np.sqrt(vector.var() + epsilon) + beta


def attend(query, keys, allowed, heads, weights):
    """Attention of one query [d] to the keys [K, d] that are allowed [K]."""
    keys = keys[np.asarray(allowed, bool)]
    q, k, v = query @ weights["query"], keys @ weights["key"], keys @ weights["value"]
    result = np.zeros(len(query))
    for part in np.split(np.arange(len(query)), heads) if len(keys) else ():
        result[part] = softmax(k[:, part] @ q[part] / len(part) ** 0.5) @ v[:, part]
    return result @ weights["output"]


def transformer_block(tokens, allowed, heads, weights, condition=None):
    """One post-norm block over [N, d]; `condition` [d] goes through a one-key cross-attention."""
    result = []
    for token in tokens:
        attended = attend(token, tokens, allowed, heads, weights)
        token = layer_norm(token + attended, *weights["attention_norm"])
        if condition is not None:
            token = layer_norm(token + condition @ weights["condition"], *weights["condition_norm"])
        update = feed_forward(token, [*weights["hidden"], *weights["feed_forward"]])
        result.append(layer_norm(token + update, *weights["feed_forward_norm"]))
    return np.array(result)


def feed_forward(vector, weights):
    kernel, bias, output_kernel, output_bias = weights
    return np.maximum(vector @ kernel + bias, 0) @ output_kernel + output_bias


def time_embedding(timestep, weights):
    width = len(weights["time_output"][1])
    half = width // 2
    angles = timestep / 10_000 ** (np.arange(half) / half)
    waves = np.concatenate([np.sin(angles), np.cos(angles), np.zeros(width % 2)])
    hidden = waves @ weights["time_hidden"][0] + weights["time_hidden"][1]
    hidden = hidden / (1 + np.exp(-hidden))
    return hidden @ weights["time_output"][0] + weights["time_output"][1]


def denoise(noisy, context, channels, timesteps, live, heads, weights):
    """The denoiser of one sample: noisy, context, channels [C, d]; timesteps, live [C]."""
    result = []
    for i in range(len(noisy)):
        tokens = np.array(context, np.float64)
        tokens[i] = noisy[i]
        tokens = tokens + time_embedding(timesteps[i], weights)
        allowed = live | (np.arange(len(noisy)) == i)
        for block in weights["blocks"]:
            tokens = transformer_block(tokens, allowed, heads, block, channels[i])
        result.append(tokens[i])
    return np.array(result)


def linear_alphas_cumprod(timesteps, start, end):
    return np.cumprod(1 - np.linspace(start, end, timesteps))


def sample(x0, noise, timesteps, alphas_cumprod, predict_x0):
    """Deterministic diffusion sampling; `predict_x0(x, t)` stands for the network."""
    alphas = [*alphas_cumprod[timesteps], 1.0]
    x = np.sqrt(alphas[0]) * x0 + np.sqrt(1 - alphas[0]) * noise
    for t, alpha, previous in zip(timesteps, alphas, alphas[1:], strict=False):
        clean = predict_x0(x, t)
        eps = (x - np.sqrt(alpha) * clean) / np.sqrt(1 - alpha)
        x = np.sqrt(previous) * clean + np.sqrt(1 - previous) * eps
    return x


def contrastive_loss(interests, generated, users, live, temp, extracted_head, generated_head):
    """InfoNCE over [B, C, d], negatives from other users with a live channel."""
    interests, generated = interests.astype(np.float64), generated.astype(np.float64)
    losses = []
    for b, i in np.argwhere(live):
        anchor = unit(feed_forward(interests[b, i], extracted_head))
        others = [unit(feed_forward(x, generated_head)) for x in generated[:, i]]
        similarities = np.exp(others @ anchor / temp)
        counted = live[:, i] & (users != users[b])
        counted[b] = True
        losses.append(-np.log(similarities[b] / similarities[counted].sum()))
    return np.mean(losses) if losses else 0.0
