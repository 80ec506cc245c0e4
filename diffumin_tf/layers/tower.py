"""The fully connected layers that turn features into a logit."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks
from diffumin_tf.layers.batch_norm import BatchNorm
from diffumin_tf.layers.dice import Dice
from diffumin_tf.layers.dropout import SeededDropout

ACTIVATIONS = ("dice", "prelu", "relu")


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class Tower(tf.keras.layers.Layer):
    """Fully connected layers that end in one logit a sample.

    ```
    h = dropout(activation(BatchNorm(W h + b)))      (once per entry of units)
    logit = w · h + b
    ```

    Args:
        units: ints. Widths of the hidden layers; none makes a logistic regression.
        activation: `"dice"`, `"prelu"` or `"relu"`.
        batch_norm: bool. Whether to normalise before the activation.
        dropout_rate: float in [0, 1). Dropout after the activation.
        momentum: float in [0, 1). Share of the moving averages that a training step keeps.
        seed: int. Seed of dropout.

    Call arguments:
        inputs: `[B, n]`, float32.
        training: bool. Whether to use batch statistics and dropout.

    Returns:
        Logits `[B]`, float32.

    Raises:
        ValueError: if an argument is out of range or `inputs` has the wrong shape.

    Example:

    ```python
    tower = Tower(units=[64, 32], activation="dice")
    logits = tower(tf.random.normal([8, 100]))  # [8]
    ```

    Source: the DiffuMIN paper (RecSys '25), prediction layer.
    """

    def __init__(
        self,
        units: Sequence[int],
        activation: str = "dice",
        batch_norm: bool = True,
        dropout_rate: float = 0.0,
        momentum: float = 0.99,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = checks.widths("units", units)
        self.activation = checks.choice("activation", activation, ACTIVATIONS)
        self.batch_norm = bool(batch_norm)
        self.dropout_rate = checks.rate("dropout_rate", dropout_rate)
        self.momentum = checks.rate("momentum", momentum)
        self.seed = checks.integer("seed", seed)
        self.hidden = [
            layer for depth, width in enumerate(self.units) for layer in self._hidden(depth, width)
        ]
        self.logit = tf.keras.layers.Dense(1, name="logit")

    def build(self, input_shape: tf.TensorShape) -> None:
        (width,) = checks.static_sizes("inputs", input_shape, "[B, n]", known=1)
        self.input_width = width
        shape = tf.TensorShape([None, width])
        for layer in [*self.hidden, self.logit]:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        hidden = checks.tensor("inputs", inputs, "[B, n]", [None, self.input_width])
        for layer in self.hidden:
            hidden = layer(hidden, training=training)
        return tf.squeeze(self.logit(hidden), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": self.activation,
            "batch_norm": self.batch_norm,
            "dropout_rate": self.dropout_rate,
            "momentum": self.momentum,
            "seed": self.seed,
        }

    def _hidden(self, depth: int, width: int) -> list[tf.keras.layers.Layer]:
        # Batch normalisation adds a β, which makes a bias before it redundant.
        use_bias = not self.batch_norm
        layers = [tf.keras.layers.Dense(width, use_bias=use_bias, name=f"dense_{depth}")]
        if self.batch_norm:
            layers.append(BatchNorm(momentum=self.momentum, name=f"batch_norm_{depth}"))
        name = f"{self.activation}_{depth}"
        layers.append(activation_layer(self.activation, self.momentum, name))
        layers.append(SeededDropout(self.dropout_rate, self.seed + depth, name=f"dropout_{depth}"))
        return layers


def activation_layer(activation: str, momentum: float, name: str) -> tf.keras.layers.Layer:
    """One of `ACTIVATIONS` as a layer; `momentum` is that of the statistics of Dice."""
    if activation == "dice":
        return Dice(momentum=momentum, name=name)
    return {"prelu": tf.keras.layers.PReLU, "relu": tf.keras.layers.ReLU}[activation](name=name)
