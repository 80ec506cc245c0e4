"""Where the k best behaviours of a history are."""

import math

import tensorflow as tf


def top_indices(
    scores: tf.Tensor, valid: tf.Tensor, count: int | tf.Tensor, branches: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """The indices of the highest scores of valid behaviours. Has no gradient.

    Of equal scores the first ones win, which are those of the most recent behaviours.

    Args:
        scores: `[..., L]`, float32.
        valid: broadcastable to `[..., L]`, bool.
        count: scalar, int. How many, k.
        branches: whether to look first if all are valid, so that none need be left out. A GPU
            would wait for the host, which decides that.

    Returns:
        Indices `[..., k]`, int64, 0 where there are fewer than k; and whether there is one,
        `[..., k]`, bool.
    """
    scores = tf.stop_gradient(scores)
    if branches:
        ranked = tf.cond(
            tf.reduce_all(valid), lambda: scores, lambda: tf.where(valid, scores, -math.inf)
        )
    else:
        ranked = tf.where(valid, scores, -math.inf)
    length = ranked.shape[-1]
    enough = isinstance(count, int) and length is not None and count <= length
    best = tf.math.top_k(ranked, count if enough else tf.minimum(count, tf.shape(ranked)[-1]))
    found = best.values > -math.inf
    # In int64, since most of what computes with int32 runs on the host even where there is a GPU.
    indices = tf.where(found, tf.cast(best.indices, tf.int64), 0)
    return padded(indices, count, axis=-1), padded(found, count, axis=-1)


def padded(values: tf.Tensor, count: int | tf.Tensor, axis: int) -> tf.Tensor:
    """Values followed by zeros, so that they are `count` along an axis; they must not be more.

    Unlike `tf.pad` and `tf.ensure_shape` it has no part that a GPU leaves to the host, whatever the
    type of the values.
    """
    if isinstance(count, int) and values.shape[axis] == count:
        return values
    shape, known = tf.unstack(tf.shape(values)), list(values.shape)
    shape[axis] = count - shape[axis]
    known[axis] = count if isinstance(count, int) else None
    filled = tf.concat([values, tf.zeros(shape, values.dtype)], axis=axis)
    filled.set_shape(known)
    return filled


def with_one_behaviour(history: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """History `[B, L, d]` and mask `[B, L]`, with a masked behaviour to gather where L is 0."""
    if history.shape[1]:
        return history, mask
    missing = tf.maximum(1 - tf.shape(history)[1], 0)
    history = tf.pad(history, [[0, 0], [0, missing], [0, 0]])
    return history, tf.pad(mask, [[0, 0], [0, missing]])
