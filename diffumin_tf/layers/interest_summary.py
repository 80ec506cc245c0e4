"""What the tower sees of the extracted interests, at a scale that it can read."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks
from diffumin_tf.layers.batch_norm import BatchNorm

NORMS = ("length", "batch")


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class InterestSummary(tf.keras.layers.Layer):
    """The interests normalised by their lengths, or over the batch.

    ```
    n_i = √(‖r_i‖² + floor²)
    length: [r_1 / n_1, …, r_C / n_C, BatchNorm(log n_1, …, log n_C)]
    batch:  BatchNorm(r_1, …, r_C)
    ```

    An interest is quadratic in embeddings that start small, so its raw values vanish beside the
    other inputs of a tower. Directions compare across histories of any activity; but the fewer
    behaviours an interest averages, the longer it is by their chance alone, and dividing by that
    shrinks what they agree in. Normalised over the batch it keeps its scale.

    Args:
        norm: str. ``"length"`` (directions and log lengths) or ``"batch"``.
        floor: float. Length at which an interest starts to count, for ``"length"``. It keeps the
            gradient finite where an interest is next to nothing: without it such channels dominate
            the update of the embeddings.
        momentum: float in [0, 1). Share of the moving averages that a training step keeps.

    Call arguments:
        interests: `[B, C, d]`, float32. The extracted interests r.
        training: bool. Whether to use batch statistics.

    Returns:
        `[B, C·d + C]`, float32; `[B, C·d]` for ``"batch"``.

    Raises:
        ValueError: if an argument is out of range or `interests` has the wrong shape.

    Example:

    ```python
    summary = InterestSummary()
    inputs = summary(tf.random.normal([4, 3, 8]))  # [4, 27]
    ```

    Source: this port. The DiffuMIN paper (RecSys '25) passes r as it is to the prediction layer.
    """

    def __init__(
        self, norm: str = "length", floor: float = 0.1, momentum: float = 0.99, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.norm = checks.choice("norm", norm, NORMS)
        self.floor = checks.positive_number("floor", floor)
        self.momentum = checks.rate("momentum", momentum)
        name = "log_length_norm" if norm == "length" else "interest_norm"
        self.normalize = BatchNorm(momentum=self.momentum, name=name)

    def build(self, input_shape: tf.TensorShape) -> None:
        self.sizes = checks.static_sizes("interests", input_shape, "[B, C, d]", known=2)
        channels, width = self.sizes
        self.normalize.build([None, channels if self.norm == "length" else channels * width])
        super().build(input_shape)

    def call(self, interests: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        interests = checks.tensor("interests", interests, "[B, C, d]", [None, *self.sizes])
        channels, width = self.sizes
        if self.norm == "batch":
            flat = tf.reshape(interests, [-1, channels * width])
            return self.normalize(flat, training=training)
        square = tf.reduce_sum(tf.square(interests), axis=-1) + self.floor**2
        directions = interests * tf.math.rsqrt(square)[:, :, tf.newaxis]
        log_lengths = self.normalize(0.5 * tf.math.log(square), training=training)
        return tf.concat([tf.reshape(directions, [-1, channels * width]), log_lengths], axis=1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "norm": self.norm,
            "floor": self.floor,
            "momentum": self.momentum,
        }
