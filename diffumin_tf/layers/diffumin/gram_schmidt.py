"""Orthonormal vectors by Gram–Schmidt."""

import tensorflow as tf

from diffumin_tf.layers.unit_vectors import unit_vectors

# A unit vector whose rest is shorter than this after projection is, in float32, rounding noise.
_DEPENDENT = 1e-6
# One pass leaves errors of the size of the condition number; a second removes them ("twice is
# enough", Kahan and Parlett).
_GRAM_SCHMIDT_PASSES = 2


def orthonormalise(vectors: tf.Tensor) -> tf.Tensor:
    """Orthonormalise vectors in their order by Gram–Schmidt with a positive diagonal.

    ```
    o_i = u_i / ‖u_i‖,   u_i = w_i − Σ_{j<i} (w_i · o_j) o_j
    ```

    A vector that depends on those before it, to float32 precision, gives zero.

    Args:
        vectors: `[B, C, d]`, float32, with static C.

    Returns:
        `[B, C, d]`, float32.
    """
    channels: list[tf.Tensor] = []
    for vector in tf.unstack(vectors, axis=1):
        vector = unit_vectors(vector)
        for _ in range(_GRAM_SCHMIDT_PASSES if channels else 0):
            earlier = tf.stack(channels, axis=1)
            # Quicker than products of so few rows, which also ask for trouble; see `attend`.
            shares = tf.reduce_sum(vector[:, tf.newaxis] * earlier, axis=2, keepdims=True)
            rest = vector - tf.reduce_sum(shares * earlier, axis=1)
            vector = unit_vectors(rest, shortest=_DEPENDENT)
        channels.append(vector)
    return tf.stack(channels, axis=1)
