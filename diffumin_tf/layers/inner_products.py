"""Inner products of vectors with the behaviours of a history."""

import tensorflow as tf


def inner_products(vectors: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
    """Products of every vector of a sample with every behaviour of it.

    Args:
        vectors: `[B, n, d]`, float32.
        history: `[B, L, d]`, float32, or `[1, L, d]` where all samples have the same one.

    Returns:
        `[B, n, L]`, float32.
    """
    if history.shape[0] != 1:
        return tf.matmul(vectors, history, transpose_b=True)
    # One product of two matrices, several times as fast as one a sample.
    flat = tf.matmul(tf.reshape(vectors, [-1, vectors.shape[2]]), history[0], transpose_b=True)
    shape = tf.concat([tf.shape(vectors)[:2], tf.shape(history)[1:2]], axis=0)
    return tf.ensure_shape(tf.reshape(flat, shape), [*vectors.shape[:2], history.shape[1]])
