"""The layers once more, in float64 numpy and plain loops, written from the equations.

Weights arrive as dicts of arrays; nothing here reads the layer code.
"""

import math

import numpy as np


def unit(vector):
    length = math.sqrt(sum(float(x) ** 2 for x in vector))
    return np.asarray(vector, np.float64) / length if length else np.zeros(len(vector))


def gram_schmidt(vectors):
    """Modified Gram–Schmidt of [C, d], for independent vectors."""
    result = []
    for vector in np.asarray(vectors, np.float64):
        rest = vector.copy()
        for earlier in result:
            rest = rest - np.dot(rest, earlier) * earlier
        result.append(unit(rest))
    return np.array(result)


def extract_interests(
    history,
    candidate,
    mask,
    kernel,
    bias,
    count,
    top_k,
    aggregation,
    orthogonal=True,
    routing=True,
):
    """OMIE of one sample: history [L, d], candidate [d], mask [L]."""
    length, width = history.shape
    vectors = (candidate.astype(np.float64) @ kernel + bias).reshape(count, width)
    channels = gram_schmidt(vectors) if orthogonal else np.array([unit(v) for v in vectors])
    scores = [[float(np.dot(e, o)) for o in channels] for e in history.astype(np.float64)]
    kept = np.zeros([length, count], bool)
    interests = np.zeros([count, width])
    for i in range(count):
        valid = [j for j in range(length) if mask[j]]
        best = sorted(valid, key=lambda j: (-scores[j][i], j))[:top_k]
        members = [j for j in best if not routing or scores[j][i] == max(scores[j])]
        for j in members:
            kept[j, i] = True
        if not members:
            continue
        weights = [scores[j][i] for j in members]
        if aggregation == "softmax":
            weights = [math.exp(weight) for weight in weights]
            weights = [weight / sum(weights) for weight in weights]
        total = sum(
            w * history[j].astype(np.float64) for w, j in zip(weights, members, strict=True)
        )
        interests[i] = total / len(valid) if aggregation == "mean" else total
    return interests, channels, kept


def layer_norm(vector, gamma, beta, epsilon=1e-6):
    return gamma * (vector - vector.mean()) / math.sqrt(vector.var() + epsilon) + beta


def attend(query, keys, allowed, heads, weights):
    """Attention of one query [d] to the keys [K, d] that are allowed [K]."""
    width = len(query)
    size = width // heads
    q, result = query @ weights["query"], np.zeros(width)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        logits, values = [], []
        for key, is_allowed in zip(keys, allowed, strict=True):
            if is_allowed:
                logits.append(float(np.dot(q[part], (key @ weights["key"])[part])) / size**0.5)
                values.append((key @ weights["value"])[part])
        if logits:
            exponentials = [math.exp(logit - max(logits)) for logit in logits]
            pairs = zip(exponentials, values, strict=True)
            result[part] = sum(e * v for e, v in pairs) / sum(exponentials)
    return result @ weights["output"]


def transformer_block(tokens, allowed, heads, weights, condition=None):
    """One post-norm block over [N, d]; `condition` [d] goes through a one-key cross-attention."""
    result = []
    for token in tokens:
        attended = attend(token, tokens, allowed, heads, weights)
        token = layer_norm(token + attended, *weights["attention_norm"])
        if condition is not None:
            token = layer_norm(token + condition @ weights["condition"], *weights["condition_norm"])
        hidden = np.maximum(token @ weights["hidden"][0] + weights["hidden"][1], 0)
        update = hidden @ weights["feed_forward"][0] + weights["feed_forward"][1]
        result.append(layer_norm(token + update, *weights["feed_forward_norm"]))
    return np.array(result)


def time_embedding(timestep, weights):
    width = len(weights["time_output"][1])
    half = width // 2
    angles = [timestep / 10_000 ** (i / half) for i in range(half)]
    waves = [math.sin(a) for a in angles] + [math.cos(a) for a in angles] + [0.0] * (width % 2)
    hidden = np.array(waves) @ weights["time_hidden"][0] + weights["time_hidden"][1]
    hidden = hidden / (1 + np.exp(-hidden))
    return hidden @ weights["time_output"][0] + weights["time_output"][1]


def denoise(noisy, context, channels, timesteps, live, heads, weights):
    """The denoiser of one sample: noisy, context, channels [C, d]; timesteps, live [C]."""
    result = []
    for i in range(len(noisy)):
        tokens = np.array(context, np.float64)
        tokens[i] = noisy[i]
        tokens = tokens + time_embedding(timesteps[i], weights)
        allowed = [live[j] or j == i for j in range(len(noisy))]
        for block in weights["blocks"]:
            tokens = transformer_block(tokens, allowed, heads, block, channels[i])
        result.append(tokens[i])
    return np.array(result)


def linear_alphas_cumprod(timesteps, start, end):
    product, result = 1.0, []
    for t in range(timesteps):
        product *= 1 - (start + (end - start) * t / (timesteps - 1))
        result.append(product)
    return result


def sample(x0, noise, timesteps, alphas_cumprod, predict_x0):
    """Deterministic diffusion sampling; `predict_x0(x, t)` stands for the network."""
    start = alphas_cumprod[timesteps[0]]
    x = math.sqrt(start) * x0 + math.sqrt(1 - start) * noise
    for step, t in enumerate(timesteps):
        alpha = alphas_cumprod[t]
        last = step + 1 == len(timesteps)
        previous = 1.0 if last else alphas_cumprod[timesteps[step + 1]]
        clean = predict_x0(x, t)
        eps = (x - math.sqrt(alpha) * clean) / math.sqrt(1 - alpha)
        x = math.sqrt(previous) * clean + math.sqrt(1 - previous) * eps
    return x


def project(vector, head):
    hidden = np.maximum(vector @ head[0] + head[1], 0)
    return unit(hidden @ head[2] + head[3])


def contrastive_loss(interests, generated, users, live, temp, extracted_head, generated_head):
    """InfoNCE over [B, C, d], negatives from other users with a live channel."""
    batch, count, _ = interests.shape
    losses = []
    for i in range(count):
        for b in range(batch):
            if not live[b, i]:
                continue
            anchor = project(interests[b, i].astype(np.float64), extracted_head)

            def similarity(n, anchor=anchor, i=i):
                other = project(generated[n, i].astype(np.float64), generated_head)
                return math.exp(float(np.dot(anchor, other)) / temp)

            total = similarity(b)
            for n in range(batch):
                if n != b and users[n] != users[b] and live[n, i]:
                    total += similarity(n)
            losses.append(-math.log(similarity(b) / total))
    return sum(losses) / len(losses) if losses else 0.0
