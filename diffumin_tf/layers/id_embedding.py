"""The embedding table that all id fields share."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks, replicas

PADDING_ROW = 0


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class IdEmbedding(tf.keras.layers.Layer):
    """One embedding table for all fields, whose row 0 reads as zero and never trains.

    ```
    embedding(row) = table[row] · [row ≠ 0]
    ```

    Row 0 stands for padding, missing values and unknown ids. The gradient of the table is a
    `tf.IndexedSlices`, so an optimiser touches the rows of a batch only. A parameter server
    strategy may cut the table into shards; each is then a variable with a gradient of its own.

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
        return self._read(row_ids) * _known(row_ids)

    def scan(self, row_ids: tf.Tensor, branches: bool = True) -> tf.Tensor:
        """`call` without gradient, for looking at many more rows than will train.

        Args:
            row_ids: as in a call.
            branches: whether to look at row 0 of the table first, and to spare what need not be
                computed if it is zero. A GPU would wait for the host, which decides that.

        Returns:
            `[..., dim]`, float32.
        """
        if self._shards:
            return tf.stop_gradient(self._scan_shards(row_ids))
        table = replicas.local_copy(self.table)
        if not branches:
            return tf.stop_gradient(tf.gather(table, row_ids) * _known(row_ids))
        if "/job:ps" in table.device:  # whose handle does not tell the shape that `gather_nd` needs
            vectors = tf.gather(table, row_ids)
        else:  # on a CPU in two thirds of the time of `tf.gather`, which prefetches
            vectors = tf.gather_nd(table, row_ids[..., tf.newaxis])
        # Row 0 is zero unless somebody assigned the table, so that the product is rarely needed.
        is_zero = tf.reduce_all(tf.gather(table, PADDING_ROW) == 0.0)
        scanned = tf.cond(is_zero, lambda: vectors, lambda: vectors * _known(row_ids))
        return tf.stop_gradient(scanned)

    def mean(self, row_ids: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
        """Mean of the embeddings of each of b lists, zeros where a list is empty.

        Args:
            row_ids: `[T]`, int32 or int64: the lists one after the other.
            counts: `[b]`, int32 or int64: how many of them each list has.

        Returns:
            `[b, dim]`, float32.
        """
        lists = tf.shape(counts)[0]
        position = tf.cast(tf.range(tf.size(row_ids)), counts.dtype)
        # `tf.repeat` finds the same by more operations, and a GPU would wait for what it finds.
        list_of = tf.searchsorted(tf.cumsum(counts), position, side="right")
        total = tf.math.unsorted_segment_sum(self(row_ids), list_of, lists)
        return total / tf.cast(tf.maximum(counts, 1), tf.float32)[:, tf.newaxis]

    def get_config(self) -> dict[str, Any]:
        initializer = tf.keras.initializers.serialize(self.initializer)
        config = {"rows": self.rows, "dim": self.dim, "initializer": initializer}
        return {**super().get_config(), **config}

    @property
    def _shards(self) -> list[tf.Variable]:
        """The variables that hold the table one after the other; none if it is one variable."""
        return getattr(self.table, "variables", [])

    def _read(self, row_ids: tf.Tensor) -> tf.Tensor:
        if self._shards:
            return tf.nn.embedding_lookup(self._shards, row_ids)
        return tf.gather(replicas.local_copy(self.table), row_ids)

    def _scan_shards(self, row_ids: tf.Tensor) -> tf.Tensor:
        """Fetches each row once, however often it comes, because servers are far away."""
        distinct, indices = tf.unique(tf.reshape(row_ids, [-1]))
        vectors = tf.gather(self(distinct), tf.reshape(indices, tf.shape(row_ids)))
        return tf.ensure_shape(vectors, [*row_ids.shape, self.dim])

    def _initial_table(
        self,
        shape: Sequence[int],
        dtype: tf.DType,
        partition_shape: Sequence[int] | None = None,
        partition_offset: Sequence[int] | None = None,
    ) -> tf.Tensor:
        """The table or, where partition_shape and partition_offset are given, one shard of it."""
        rows, dim = tf.TensorShape(partition_shape or shape).as_list()
        padding_rows = 0 if partition_offset and partition_offset[0] > 0 else 1
        shape, shard = [rows - padding_rows, dim], {}
        if partition_shape is not None:
            shard = {"partition_shape": shape, "partition_offset": partition_offset}
        padding = tf.zeros([padding_rows, dim], dtype)
        return tf.concat([padding, self.initializer(shape, dtype=dtype, **shard)], axis=0)


def _known(row_ids: tf.Tensor) -> tf.Tensor:
    """1 where a row is not that of padding, else 0, `[..., 1]`, float32."""
    return tf.cast(row_ids != PADDING_ROW, tf.float32)[..., tf.newaxis]
