"""The layers of the peers once more, in float64 numpy and plain loops, from the equations.

As in `oracles`, weights arrive as arrays and nothing here reads the layer code.
"""

import math

import numpy as np

from tests.layers.oracles import dice, unit


def best_places(scores, valid, count):
    """Places of the highest valid scores, the first of equal ones first."""
    allowed = [j for j in range(len(scores)) if valid[j]]
    return sorted(allowed, key=lambda j: (-scores[j], j))[:count]


def softmax(logits):
    exponentials = [math.exp(logit - max(logits)) for logit in logits]
    return [e / sum(exponentials) for e in exponentials]


def activation_weights(histories, candidates, mask, layers, output, activate):
    """DIN's weights [B, L]; `activate(hidden [n, units], depth)` sees all valid behaviours."""
    places = [(b, j) for b in range(len(mask)) for j in range(len(mask[b])) if mask[b, j]]
    result = np.zeros(mask.shape)
    if not places:
        return result
    hidden = []
    for b, j in places:
        q, k = candidates[b].astype(np.float64), histories[b, j].astype(np.float64)
        hidden.append(np.concatenate([q, k, q - k, q * k]))
    hidden = np.array(hidden)
    for depth, (kernel, bias) in enumerate(layers):
        hidden = activate(hidden @ kernel + bias, depth)
    for place, row in zip(places, hidden, strict=True):
        result[place] = float(row @ output[0][:, 0] + output[1][0])
    return result


def dice_by_batch(alphas, epsilon):
    def activate(x, depth):
        return dice(x, x.mean(axis=0), x.var(axis=0), alphas[depth], epsilon)

    return activate


def signature(vector, hyperplanes):
    return [float(np.dot(vector.astype(np.float64), h)) > 0 for h in hyperplanes.T]


def hamming(one, other):
    return sum(a != b for a, b in zip(one, other, strict=True))


def sampled_hash_attention(history, candidate, mask, hyperplanes, width):
    """SDIM of one sample: history [L, d], candidate [d], mask [L]."""
    groups = hyperplanes.shape[1] // width
    wanted, result = signature(candidate, hyperplanes), np.zeros(len(candidate))
    for group in range(groups):
        bits = slice(group * width, (group + 1) * width)
        total = np.zeros(len(candidate))
        for behaviour, valid in zip(history, mask, strict=True):
            if valid and signature(behaviour, hyperplanes)[bits] == wanted[bits]:
                total += behaviour
        result += unit(total) / groups
    return result


def soft_search_scores(history, candidate, of_query, of_key):
    query = candidate.astype(np.float64) @ of_query
    return [float(np.dot(behaviour.astype(np.float64) @ of_key, query)) for behaviour in history]


def twin_attention(history, candidate, mask, weights, inherent, field_dim, heads, count):
    """TWIN of one sample: history [L, d], candidate [h], mask [L]; also what each head chose."""
    width = history.shape[1]
    size = width // heads
    cross = [f for f in range(width // field_dim) if f not in inherent]

    def field(behaviour, f):
        return behaviour[f * field_dim : (f + 1) * field_dim].astype(np.float64)

    result, chosen = [], []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        query = (candidate.astype(np.float64) @ weights["query"])[part]
        scores = []
        for behaviour in history:
            own = np.concatenate([field(behaviour, f) for f in inherent])
            score = float(np.dot((own @ weights["key"])[part], query)) / math.sqrt(size)
            for place, f in enumerate(cross):
                compressed = float(np.dot(field(behaviour, f), weights["compression"][head, place]))
                score += compressed * weights["importance"][head, place]
            scores.append(score)
        best = best_places(scores, mask, count)
        values = [(history[j].astype(np.float64) @ weights["value"])[part] for j in best]
        shares = softmax([scores[j] for j in best]) if best else []
        result.append(sum((w * v for w, v in zip(shares, values, strict=True)), np.zeros(size)))
        chosen.append(best)
    return np.concatenate(result) @ weights["output"], chosen
