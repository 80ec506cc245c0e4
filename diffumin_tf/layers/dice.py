"""The Dice activation."""

from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks
from diffumin_tf.layers.batch_norm import BatchNorm


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class Dice(tf.keras.layers.Layer):
    """Activation that bends where the data is: a PReLU whose corner follows the batch statistics.

    ```
    Dice(x) = p x + (1 − p) α x,   p = σ((x − mean) / √(variance + epsilon))
    ```

    Mean and variance are those of the batch in training and their moving averages at inference.

    Args:
        epsilon: float above 0. Added to the variance. It is well above float32 rounding, so that a
            unit that is constant in a batch does not turn into a step function.
        momentum: float in [0, 1). Share of the moving averages that a training step keeps.

    Call arguments:
        inputs: `[B, …, units]`, float32.
        training: bool. Whether to use, and learn from, the statistics of the batch.

    Returns:
        Tensor shaped like `inputs`, float32.

    Raises:
        ValueError: if `epsilon` or `momentum` is out of range.

    Example:

    ```python
    activated = Dice()(tf.random.normal([32, 16]), training=True)  # [32, 16]
    ```

    Source: Zhou et al., Deep Interest Network for Click-Through Rate Prediction (KDD '18),
    data adaptive activation function.
    """

    def __init__(self, epsilon: float = 1e-6, momentum: float = 0.99, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = checks.positive_number("epsilon", epsilon)
        self.momentum = checks.rate("momentum", momentum)
        self.normalize = BatchNorm(
            epsilon=self.epsilon,
            momentum=self.momentum,
            center=False,
            scale=False,
            name="normalize",
        )

    def build(self, input_shape: tf.TensorShape) -> None:
        units = tf.TensorShape(input_shape)[-1]
        self.normalize.build(input_shape)
        self.alpha = self.add_weight(name="alpha", shape=[units], initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        p = tf.sigmoid(self.normalize(inputs, training=training))
        return p * inputs + (1.0 - p) * self.alpha * inputs

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon, "momentum": self.momentum}
