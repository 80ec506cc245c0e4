"""The embedding table that all id fields share."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks

PADDING_ROW = 0


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class IdEmbedding(tf.keras.layers.Layer):
    """One embedding table for all fields, whose row 0 reads as zero and never trains.

    ```
    embedding(row) = table[row] · [row ≠ 0]
    ```

    Row 0 stands for padding, missing values and unknown ids. The gradient of the table is a
    `tf.IndexedSlices`, so an optimiser touches the rows of a batch only.

    Args:
        rows: int. Rows of the table, row 0 included.
        dim: int. Width of an embedding.
        initializer: Keras initializer of rows 1 and up. None means a normal distribution of
            standard deviation 0.01.

    Call arguments:
        row_ids: `[...]`, int32 or int64, in `[0, rows)`.

    Returns:
        `[..., dim]`, float32.

    Raises:
        ValueError: if `rows` or `dim` is not a positive integer, or `row_ids` are not integers.

    Example:

    ```python
    embedding = IdEmbedding(rows=1000, dim=8)
    vectors = embedding(tf.constant([[3, 17, 0]]))  # [1, 3, 8], the last of them zero
    ```

    Source: the DiffuMIN paper (RecSys '25), embedding layer.
    """

    def __init__(
        self,
        rows: int,
        dim: int,
        initializer: str | dict | tf.keras.initializers.Initializer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rows = checks.positive_int("rows", rows)
        self.dim = checks.positive_int("dim", dim)
        if initializer is None:
            initializer = tf.keras.initializers.RandomNormal(stddev=0.01)
        self.initializer = tf.keras.initializers.get(initializer)

    def build(self, input_shape: tf.TensorShape) -> None:
        self.table = self.add_weight(
            name="table", shape=[self.rows, self.dim], initializer=self._initial_table
        )
        super().build(input_shape)

    def call(self, row_ids: tf.Tensor) -> tf.Tensor:
        row_ids = tf.convert_to_tensor(row_ids)
        if not row_ids.dtype.is_integer:
            raise ValueError(f"`row_ids` must be integers, received dtype {row_ids.dtype.name}.")
        known = tf.cast(row_ids != PADDING_ROW, tf.float32)[..., tf.newaxis]
        return tf.gather(self.table, row_ids) * known

    def scan(self, row_ids: tf.Tensor) -> tf.Tensor:
        """`call` without gradient, for looking at many more rows than will train."""
        found = tf.gather(self.table, row_ids)
        # Row 0 is zero unless somebody assigned the table, so that the product is rarely needed.
        is_zero = tf.reduce_all(tf.gather(self.table, PADDING_ROW) == 0.0)

        def without_padding() -> tf.Tensor:
            return found * tf.cast(row_ids != PADDING_ROW, tf.float32)[..., tf.newaxis]

        return tf.stop_gradient(tf.cond(is_zero, lambda: found, without_padding))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rows": self.rows,
            "dim": self.dim,
            "initializer": tf.keras.initializers.serialize(self.initializer),
        }

    def _initial_table(self, shape: list[int], dtype: tf.DType) -> tf.Tensor:
        rows, dim = shape
        padding = tf.zeros([1, dim], dtype)
        return tf.concat([padding, self.initializer([rows - 1, dim], dtype=dtype)], axis=0)
