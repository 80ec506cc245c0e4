"""Dropout whose random state is saved with the checkpoint."""

from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks
from diffumin_tf.layers.random_stream import RandomStream


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class SeededDropout(tf.keras.layers.Layer):
    """Dropout that draws from a `RandomStream` of its own.

    `tf.keras.layers.Dropout` draws from a state that no checkpoint holds, so a resumed run would
    not repeat the run that was never interrupted. At inference the input passes through untouched.

    Under `tf.distribute` every replica draws for itself, because dropout also stands inside of
    loops and compiled functions, where replicas cannot tell each other their sizes: N replicas
    drop other units than one device would, and as many.

    Args:
        rate: float in [0, 1). Share of units set to zero; the others are scaled by `1/(1 - rate)`.
        seed: int. Seed of the stream.

    Call arguments:
        inputs: any shape, float32.
        training: bool. Whether to drop.

    Returns:
        Tensor shaped like `inputs`, float32.

    Raises:
        ValueError: if `rate` is outside [0, 1) or `seed` is no integer.

    Example:

    ```python
    dropout = SeededDropout(rate=0.5, seed=1)
    half_of_them_are_zero = dropout(tf.ones([2, 8]), training=True)
    ```
    """

    def __init__(self, rate: float, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = checks.rate("rate", rate)
        self.seed = checks.integer("seed", seed)
        self.random = RandomStream(self.seed) if self.rate else None

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not training or not self.rate:
            return inputs
        keep = self.random.uniform_of_replica(tf.shape(inputs)) >= self.rate
        return tf.where(keep, inputs / (1.0 - self.rate), 0.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
