"""How much of a history lies along each channel of the candidate, for a tower to see."""

from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks
from diffumin_tf.layers.batch_norm import BatchNorm

# Behaviours longer than the candidate can make a share larger than 1.
_LARGEST_SHARE = 4.0
_SMALLEST_SQUARE = 1e-6


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class ChannelShare(tf.keras.layers.Layer):
    """The share of a history in each channel and its logarithm, batch-normalised.

    ```
    s_i = Σ_j valid_j (E_j · o_i)² / (Σ_j valid_j · (e_s · o_i)²), at most 4
    BatchNorm(s_1, …, s_C, log(s_1 + floor), …, log(s_C + floor))
    ```

    A channel that starts at one field of the candidate has s_i ≈ the part of the history with the
    candidate's value in that field. It is linear in counts and does not depend on how long the
    candidate's embedding is, where the length of an interest is quadratic in both. It looks at
    all valid behaviours, whatever routing and filtering leave out, and it has no gradient.

    Args:
        floor: float. Share at which the logarithm begins to fall.
        momentum: float in [0, 1). Share of the moving averages that a training step keeps.

    Call arguments:
        shares: `[B, C]`, float32, from `of`.
        training: bool. Whether to use batch statistics.

    Returns:
        `[B, 2·C]`, float32.

    Raises:
        ValueError: if an argument is out of range or `shares` has the wrong shape.

    Example:

    ```python
    history, candidate = tf.random.normal([4, 50, 8]), tf.random.normal([4, 8])
    channels = tf.eye(8, batch_shape=[4])[:, :3]
    products = tf.matmul(channels, history, transpose_b=True)  # [4, 3, 50]
    shares = ChannelShare.of(products, tf.ones([4, 50], tf.bool), channels, candidate)  # [4, 3]
    inputs = ChannelShare()(shares)  # [4, 6]
    ```

    Source: this port; the DiffuMIN paper (RecSys '25) has no such input.
    """

    def __init__(self, floor: float = 0.01, momentum: float = 0.99, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.floor = checks.positive_number("floor", floor)
        self.momentum = checks.rate("momentum", momentum)
        self.normalize = BatchNorm(momentum=self.momentum, name="share_norm")

    def build(self, input_shape: tf.TensorShape) -> None:
        (self.channels,) = checks.static_sizes("shares", input_shape, "[B, C]", known=1)
        self.normalize.build([None, 2 * self.channels])
        super().build(input_shape)

    @staticmethod
    def of(
        products: tf.Tensor, valid: tf.Tensor, channels: tf.Tensor, candidate: tf.Tensor
    ) -> tf.Tensor:
        """The shares s `[B, C]`, float32; 0 of a history without a valid behaviour.

        Args:
            products: `[B, C, L]`, float32, E_j · o_i of every behaviour with every channel.
            valid: `[B, L]`, bool.
            channels: `[B, C, d]`, float32. Orthonormal, from the extractor.
            candidate: `[B, d]`, float32.
        """
        count = tf.reduce_sum(tf.cast(valid, tf.float32), axis=1)[:, tf.newaxis]
        squares = tf.where(valid[:, tf.newaxis], tf.square(products), 0.0)
        along = tf.reduce_sum(squares, axis=2)
        of_candidate = tf.square(tf.linalg.matvec(channels, candidate))
        share = along / tf.maximum(count, 1.0) / tf.maximum(of_candidate, _SMALLEST_SQUARE)
        return tf.stop_gradient(tf.minimum(share, _LARGEST_SHARE))

    def call(self, shares: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        shares = checks.tensor("shares", shares, "[B, C]", [None, self.channels])
        both = tf.concat([shares, tf.math.log(shares + self.floor)], axis=1)
        return self.normalize(both, training=training)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "floor": self.floor, "momentum": self.momentum}
