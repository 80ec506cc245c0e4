"""The one path from raw record tensors to model inputs, for training and for serving alike."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from diffumin_tf.config import Features
from diffumin_tf.data_struct import DataStruct
from diffumin_tf.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class FeatureLayout:
    """Where each feature lies in the model inputs.

    Attributes:
      fields: categorical columns in the order of ``inputs["fields"]``.
      behaviours: history fields in the order of ``inputs["behaviours"]``.
      dense: dense columns in the order of ``inputs["dense"]``.
      spaces: id space of every categorical column and history field.
    """

    fields: tuple[str, ...]
    behaviours: tuple[str, ...]
    dense: tuple[str, ...]
    spaces: dict[str, str]

    @classmethod
    def of(cls, features: Features, schema: DataStruct) -> "FeatureLayout":
        """Lays out the columns that the units read; each column once.

        Raises:
          ConfigError: the schema has no such column.
        """
        fields = tuple(dict.fromkeys(features.user + features.candidate + features.context))
        for name in fields:
            schema.position("cat_feature", name)
        for name in features.dense:
            schema.position("dense_feature", name)
        for name in features.behaviours:
            schema.sequence(name)
        spaces = {n: schema.id_space(n) for n in fields + features.behaviours}
        return cls(fields, features.behaviours, features.dense, spaces)


class FeaturePath(tf.Module):
    """Raw record tensors → rows, masks and dense values.

    Args:
      schema: columns of the raw tensors.
      layout: columns to pick.
      seq_len: behaviours kept, L.
      rows_of: maps int64 ids to int32 rows of the embedding table.
    """

    def __init__(
        self,
        schema: DataStruct,
        layout: FeatureLayout,
        seq_len: int,
        rows_of: Callable[[tf.Tensor], tf.Tensor],
    ) -> None:
        super().__init__()
        if not layout.behaviours:
            raise ConfigError("features.behaviours: name at least one history field")
        self._seq_len = seq_len
        self._rows_of = rows_of
        self._fields = [schema.position("cat_feature", n) for n in layout.fields]
        self._dense = [schema.position("dense_feature", n) for n in layout.dense]
        self._sequences = [schema.sequence(n) for n in layout.behaviours]

    def __call__(self, raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Picks the columns and maps ids to rows.

        Args:
          raw: ``cat_feature`` int64 [B, columns], ``dense_feature`` float32 [B, columns], and each
            variable-length history field int64 [B, any length].

        Returns:
          ``fields`` int32 [B, n], ``behaviours`` int32 [B, L, F], ``mask`` bool [B, L] (true where
          any field of the behaviour is there), ``dense`` float32 [B, m] (0 where not finite).
        """
        ids = tf.stack([self._history(raw, s) for s in self._sequences], axis=2)
        fields = tf.gather(raw["cat_feature"], self._fields, axis=1)
        if self._dense:
            dense = tf.gather(raw["dense_feature"], self._dense, axis=1)
        else:
            dense = tf.zeros([tf.shape(fields)[0], 0])
        return {
            "fields": self._rows_of(fields),
            "behaviours": self._rows_of(ids),
            "mask": tf.reduce_any(ids > 0, axis=2),
            "dense": tf.where(tf.math.is_finite(dense), dense, 0.0),
        }

    def _history(self, raw: dict[str, tf.Tensor], field) -> tf.Tensor:
        """Ids [B, L] of one field: the most recent L, padded with 0."""
        if field.start is None:
            ids = raw[field.name][:, : self._seq_len]
        else:
            stop = field.start + min(field.max_len, self._seq_len)
            ids = raw["cat_feature"][:, field.start : stop]
        padding = self._seq_len - tf.shape(ids)[1]
        return tf.ensure_shape(tf.pad(ids, [[0, 0], [0, padding]]), [None, self._seq_len])
