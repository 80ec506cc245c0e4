"""The start of OMIE's projection from which every channel means one field."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from diffumin_tf.layers import checks


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class FieldAlignedChannels(tf.keras.initializers.Initializer):
    """Kernel `[d, C·d]` that copies one field of the candidate into each channel vector.

    ```
    channel_i = [0 … candidate[field_i] … 0] + noise
    ```

    The channels start orthogonal, and channel i starts by scoring behaviours by their similarity
    to the candidate in one field. Channels without a field start as Gaussian mixtures of all of
    the candidate, at a scale that keeps its length.

    Args:
        field_dim: int. Width of one field; it divides the width d of the candidate.
        channels: int. Number of channels C.
        noise: float. Standard deviation of the Gaussian noise on the channels with a field.
        seed: int or None. None draws from TensorFlow's global seed.
        aligned_fields: the field that each of the first channels copies, all different. None means
            the fields in their order, as many as there are channels.

    Call arguments:
        shape: `(d, C·d)`.
        dtype: float32.

    Returns:
        The kernel, `[d, C·d]`, float32.

    Raises:
        ValueError: if an argument is out of range or does not fit `shape`.

    Example:

    ```python
    initializer = FieldAlignedChannels(field_dim=8, channels=3, noise=0.01, seed=1)
    kernel = initializer([24, 3 * 24])
    ```
    """

    def __init__(
        self,
        field_dim: int,
        channels: int,
        noise: float = 0.01,
        seed: int | None = None,
        aligned_fields: Sequence[int] | None = None,
    ) -> None:
        self.field_dim = checks.positive_int("field_dim", field_dim)
        self.channels = checks.positive_int("channels", channels)
        self.noise = checks.not_negative("noise", noise)
        self.seed = seed
        self.aligned_fields = None if aligned_fields is None else list(aligned_fields)

    def __call__(
        self, shape: Sequence[int], dtype: tf.DType | None = None, **kwargs: Any
    ) -> tf.Tensor:
        width, outputs = shape
        if outputs != self.channels * width:
            raise ValueError(
                f"`shape` must be (d, {self.channels}·d) for {self.channels} channels, "
                f"received {tuple(shape)}."
            )
        fields = self._fields(width)
        copies = np.zeros([width, self.channels, width], np.float32)
        deviation = np.full([self.channels, 1], width**-0.5, np.float32)
        deviation[: len(fields)] = self.noise
        for channel, field in enumerate(fields):
            position = slice(field * self.field_dim, (field + 1) * self.field_dim)
            copies[position, channel, position] = np.eye(self.field_dim)
        gaussian = tf.keras.initializers.RandomNormal(stddev=1.0, seed=self.seed)(copies.shape)
        return tf.cast(tf.reshape(copies + deviation * gaussian, shape), dtype or tf.float32)

    def get_config(self) -> dict[str, Any]:
        return {
            "field_dim": self.field_dim,
            "channels": self.channels,
            "noise": self.noise,
            "seed": self.seed,
            "aligned_fields": self.aligned_fields,
        }

    def _fields(self, width: int) -> list[int]:
        checks.divisor("field_dim", self.field_dim, width, "the candidate's width")
        count = width // self.field_dim
        if self.aligned_fields is None:
            return list(range(min(count, self.channels)))
        fields = self.aligned_fields
        if (
            len(fields) > self.channels
            or len(set(fields)) < len(fields)
            or not set(fields) <= set(range(count))
        ):
            raise ValueError(
                f"`aligned_fields` must hold at most {self.channels} different fields, one a "
                f"channel, out of 0 … {count - 1}, received {fields}."
            )
        return fields
