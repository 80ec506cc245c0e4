"""SimHash: signatures of vectors that agree the more, the smaller the angle between them."""

from typing import Any

import numpy as np
import tensorflow as tf

from diffumin_tf.layers import checks


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class SimHash(tf.keras.layers.Layer):
    """On which side of random hyperplanes a vector lies.

    ```
    bit_i = [x · h_i > 0],   h_i ~ N(0, I), fixed
    ```

    Two vectors at the angle θ differ in a bit with probability θ / π. A vector of zeros has no
    bit set. Signatures have no gradient.

    Args:
        bits: int. Number of hyperplanes m.
        seed: int. Seed of the hyperplanes, which never train.

    Call arguments:
        vectors: `[..., d]`, float32.

    Returns:
        Signatures `[..., bits]`, bool.

    Raises:
        ValueError: if an argument is out of range or d is not known.

    Example:

    ```python
    simhash = SimHash(bits=48, seed=1)
    history = simhash(tf.random.normal([4, 50, 8]))  # [4, 50, 48]
    apart = SimHash.distances(history, simhash(tf.random.normal([4, 8])))  # [4, 50]
    ```

    Source: Charikar, Similarity Estimation Techniques from Rounding Algorithms (STOC '02), as used
    by Chen et al., Efficient Long Sequential User Data Modeling for Click-Through Rate Prediction
    (2022).
    """

    def __init__(self, bits: int, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bits = checks.positive_int("bits", bits)
        self.seed = checks.integer("seed", seed)

    def build(self, input_shape: tf.TensorShape) -> None:
        width = tf.TensorShape(input_shape)[-1]
        if width is None:
            raise ValueError(f"`vectors` must have a known width, received shape {input_shape}.")
        drawn = np.random.default_rng(self.seed).standard_normal([width, self.bits], np.float32)
        self.hyperplanes = self.add_weight(
            name="hyperplanes",
            shape=drawn.shape,
            initializer=tf.keras.initializers.Constant(drawn),
            trainable=False,
        )
        super().build(input_shape)

    def call(self, vectors: tf.Tensor) -> tf.Tensor:
        return tf.matmul(tf.stop_gradient(vectors), self.hyperplanes) > 0.0

    @staticmethod
    def distances(signatures: tf.Tensor, signature: tf.Tensor) -> tf.Tensor:
        """Hamming distances, the numbers of bits that differ.

        Args:
            signatures: `[B, L, m]`, bool.
            signature: `[B, m]`, bool.

        Returns:
            `[B, L]`, float32, whole numbers.
        """
        # (m − s · s') / 2 for bits of ±1: a matrix product, exact for whole numbers.
        agreement = tf.linalg.matvec(SimHash.signs(signatures), SimHash.signs(signature))
        return 0.5 * (tf.cast(tf.shape(signature)[1], tf.float32) - agreement)

    @staticmethod
    def signs(signatures: tf.Tensor) -> tf.Tensor:
        """±1 for the bits `[..., m]`, float32: nearer signatures have larger products."""
        return 2.0 * tf.cast(signatures, tf.float32) - 1.0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bits": self.bits, "seed": self.seed}
