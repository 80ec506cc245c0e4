"""A learning rate that rises at first and falls later."""

import math
from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks

KINDS = ("constant", "linear", "cosine")


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class WarmupDecay(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises linearly to its peak and then falls to zero, or stays.

    ```
    peak · (step + 1) / warmup_steps         below warmup_steps
    peak · f(x),  x = min((step − warmup_steps) / decay_steps, 1)
    f(x) = 1 (constant),  1 − x (linear),  (1 + cos πx) / 2 (cosine)
    ```

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, peak: float, kind: str, warmup_steps: int = 0, decay_steps: int | None = None
    ) -> None:
        super().__init__()
        self.peak = checks.positive_number("peak", peak)
        self.kind = checks.choice("kind", kind, KINDS)
        self.warmup_steps = checks.integer("warmup_steps", warmup_steps)
        self.decay_steps = decay_steps
        if kind != "constant":
            checks.positive_int("decay_steps", decay_steps)

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        rising = (step + 1) / max(self.warmup_steps, 1)
        return self.peak * tf.where(step < self.warmup_steps, rising, self._falling(step))

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "kind": self.kind,
            "warmup_steps": self.warmup_steps,
            "decay_steps": self.decay_steps,
        }

    def _falling(self, step: tf.Tensor) -> tf.Tensor:
        if self.kind == "constant":
            return tf.ones_like(step)
        x = tf.minimum((step - self.warmup_steps) / self.decay_steps, 1.0)
        return 1 - x if self.kind == "linear" else (1 + tf.cos(math.pi * x)) / 2
