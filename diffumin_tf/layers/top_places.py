"""The places of the k best behaviours of a history."""

from __future__ import annotations

import math

import tensorflow as tf


def top_places(scores: tf.Tensor, valid: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the highest scores of valid behaviours are. Has no gradient.

    Of equal scores the first ones win, which are those of the most recent behaviours.

    Args:
        scores: `[..., L]`, float32.
        valid: broadcastable to `[..., L]`, bool.
        count: int. Places wanted, k.

    Returns:
        Places in the history `[..., k]`, int32, 0 where there is none; and whether there is one,
        `[..., k]`, bool.
    """
    ranked = tf.where(valid, tf.stop_gradient(scores), -math.inf)
    best = tf.math.top_k(ranked, tf.minimum(count, tf.shape(ranked)[-1]))
    there = best.values > -math.inf
    missing = [[0, 0]] * (len(ranked.shape) - 1) + [[0, count - tf.shape(there)[-1]]]
    shape = [*ranked.shape[:-1], count]
    return (
        tf.ensure_shape(tf.pad(tf.where(there, best.indices, 0), missing), shape),
        tf.ensure_shape(tf.pad(there, missing), shape),
    )
