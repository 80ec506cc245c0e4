"""What the tower sees of the extracted interests: directions and normalised log lengths."""

from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks
from diffumin_tf.layers.batch_norm import BatchNorm


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class InterestSummary(tf.keras.layers.Layer):
    """Directions and log lengths of the interests, at a scale that a tower can read.

    ```
    n_i = √(‖r_i‖² + floor²)
    [r_1 / n_1, …, r_C / n_C, BatchNorm(log n_1, …, log n_C)]
    ```

    An interest is quadratic in embeddings that start small, so its raw values vanish beside the
    other inputs of a tower. The floor keeps the gradient finite where an interest is next to
    nothing: without it such channels dominate the update of the embeddings.

    Args:
        floor: float. Length at which an interest starts to count.
        momentum: float in [0, 1). Share of the moving averages that a training step keeps.

    Call arguments:
        interests: `[B, C, d]`, float32. The extracted interests r.
        training: bool. Whether to use batch statistics.

    Returns:
        `[B, C·d + C]`, float32.

    Raises:
        ValueError: if an argument is out of range or `interests` has the wrong shape.

    Example:

    ```python
    summary = InterestSummary()
    inputs = summary(tf.random.normal([4, 3, 8]))  # [4, 27]
    ```

    Source: this port. The DiffuMIN paper (RecSys '25) passes r as it is to the prediction layer.
    """

    def __init__(self, floor: float = 0.1, momentum: float = 0.99, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.floor = checks.positive_number("floor", floor)
        self.momentum = checks.rate("momentum", momentum)
        self.normalize = BatchNorm(momentum=self.momentum, name="log_length_norm")

    def build(self, input_shape: tf.TensorShape) -> None:
        self.sizes = checks.static_sizes("interests", input_shape, "[B, C, d]", known=2)
        self.normalize.build([None, self.sizes[0]])
        super().build(input_shape)

    def call(self, interests: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        interests = checks.tensor("interests", interests, "[B, C, d]", [None, *self.sizes])
        square = tf.reduce_sum(tf.square(interests), axis=-1) + self.floor**2
        directions = interests * tf.math.rsqrt(square)[:, :, tf.newaxis]
        log_lengths = self.normalize(0.5 * tf.math.log(square), training=training)
        channels, width = self.sizes
        return tf.concat([tf.reshape(directions, [-1, channels * width]), log_lengths], axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "floor": self.floor, "momentum": self.momentum}
