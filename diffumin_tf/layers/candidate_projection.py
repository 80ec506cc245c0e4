"""Projection of a candidate onto the width of a behaviour, field by field to begin with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from diffumin_tf.layers import checks


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class FieldAlignedProjection(tf.keras.layers.Layer):
    """Dense layer that starts by putting each candidate field where its behaviour field is.

    ```
    y = x W + b,   block (partners[f], f) of W starts as the identity, all else as noise
    ```

    So the projected candidate and a behaviour can be compared from the first step on.

    Args:
        partners: for each field of a behaviour, the candidate field of the same meaning, or None.
        field_dim: int. Width of one field e.
        noise: float. Standard deviation of the Gaussian noise on the start.
        seed: int. Seed of the noise.

    Call arguments:
        candidate: `[B, fields·e]`, float32.

    Returns:
        `[B, len(partners)·e]`, float32.

    Raises:
        ValueError: if an argument is out of range, or the candidate's width is no multiple of
            `field_dim` or has no such field.

    Example:

    ```python
    projection = FieldAlignedProjection(partners=[2, None], field_dim=8)
    projected = projection(tf.random.normal([4, 24]))  # [4, 16]
    ```

    Source: this port; the DiffuMIN paper (RecSys '25) has candidates as wide as behaviours.
    """

    def __init__(
        self,
        partners: Sequence[int | None],
        field_dim: int,
        noise: float = 0.01,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.partners = list(partners)
        self.field_dim = checks.positive_int("field_dim", field_dim)
        self.noise = checks.not_negative("noise", noise)
        self.seed = checks.integer("seed", seed)

    def build(self, input_shape: tf.TensorShape) -> None:
        (self.width,) = checks.static_sizes("candidate", input_shape, "[B, fields·e]", known=1)
        kernel = self._initial_kernel()
        self.kernel = self.add_weight(
            name="kernel", shape=kernel.shape, initializer=tf.keras.initializers.Constant(kernel)
        )
        self.bias = self.add_weight(name="bias", shape=kernel.shape[1:], initializer="zeros")
        super().build(input_shape)

    def call(self, candidate: tf.Tensor) -> tf.Tensor:
        candidate = checks.tensor("candidate", candidate, "[B, fields·e]", [None, self.width])
        return candidate @ self.kernel + self.bias

    def get_config(self) -> dict[str, Any]:
        config = {"partners": self.partners, "field_dim": self.field_dim}
        return {**super().get_config(), **config, "noise": self.noise, "seed": self.seed}

    def _initial_kernel(self) -> np.ndarray:
        e = self.field_dim
        fields = self.width // e
        copied = {source for source in self.partners if source is not None}
        if self.width % e or not copied <= set(range(fields)):
            raise ValueError(
                f"`candidate` must be made of fields of width {e} with {list(self.partners)}, "
                f"received width {self.width}."
            )
        rng = np.random.default_rng(self.seed)
        kernel = rng.normal(0.0, self.noise, [fields, e, len(self.partners), e])
        for target, source in enumerate(self.partners):
            if source is not None:
                kernel[source, :, target, :] += np.eye(e)
        return kernel.reshape(self.width, -1).astype(np.float32)
