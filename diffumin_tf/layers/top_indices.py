"""Where the k best behaviours of a history are."""

import math

import tensorflow as tf


def top_indices(
    scores: tf.Tensor, valid: tf.Tensor, count: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The indices of the highest scores of valid behaviours. Has no gradient.

    Of equal scores the first ones win, which are those of the most recent behaviours.

    Args:
        scores: `[..., L]`, float32.
        valid: broadcastable to `[..., L]`, bool.
        count: scalar, int. How many, k.

    Returns:
        Indices `[..., k]`, int32, 0 where there are fewer than k; and whether there is one,
        `[..., k]`, bool.
    """
    ranked = tf.where(valid, tf.stop_gradient(scores), -math.inf)
    best = tf.math.top_k(ranked, tf.minimum(count, tf.shape(ranked)[-1]))
    found = best.values > -math.inf
    missing = [[0, 0]] * (len(ranked.shape) - 1) + [[0, count - tf.shape(found)[-1]]]
    shape = [*ranked.shape[:-1], count if isinstance(count, int) else None]
    return (
        tf.ensure_shape(tf.pad(tf.where(found, best.indices, 0), missing), shape),
        tf.ensure_shape(tf.pad(found, missing), shape),
    )


def with_one_behaviour(history: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """History `[B, L, d]` and mask `[B, L]`, with a masked behaviour to gather where L is 0."""
    if history.shape[1]:
        return history, mask
    missing = tf.maximum(1 - tf.shape(history)[1], 0)
    history = tf.pad(history, [[0, 0], [0, missing], [0, 0]])
    return history, tf.pad(mask, [[0, 0], [0, missing]])
