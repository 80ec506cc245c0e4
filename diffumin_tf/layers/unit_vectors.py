"""Division by the length that survives vectors of length zero."""

import tensorflow as tf


def unit_vectors(vectors: tf.Tensor, shortest: float = 1e-12) -> tf.Tensor:
    """Scale vectors to length 1: `v / ‖v‖`, or zero where `‖v‖ <= shortest`.

    A vector that is too short to have a direction gives zero and receives a zero gradient, where
    `tf.math.l2_normalize` would pass on a gradient of `1 / sqrt(epsilon)`.

    Args:
        vectors: `[..., d]`, float32.
        shortest: float. Length at or below which a vector counts as zero.

    Returns:
        `[..., d]`, float32.
    """
    square = tf.reduce_sum(tf.square(vectors), axis=-1, keepdims=True)
    has_direction = square > shortest**2
    # The inner `where` keeps the infinite gradient of rsqrt(0) out of the backward pass.
    inverse_length = tf.math.rsqrt(tf.where(has_direction, square, 1.0))
    return tf.where(has_direction, vectors * inverse_length, 0.0)
