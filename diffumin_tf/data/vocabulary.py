"""Ids to rows of the embedding table: by hashing or by a vocabulary of ids seen often enough."""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from diffumin_tf.data import records
from diffumin_tf.errors import ConfigError, DataError

_IDS_AT_ONCE = 20_000_000  # collected between two merges of the counts: 160 MB


class HashedRows(tf.Module):
    """``row = 1 + id mod (rows − 1)``; id 0 (missing, padding) is row 0.

    Args:
      rows: rows of the table, at least 2.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def __call__(self, ids: tf.Tensor) -> tf.Tensor:
        """int64 ids [...] → int32 rows [...]; ids below 1 are row 0."""
        rows = 1 + tf.math.floormod(ids, tf.constant(self.rows - 1, tf.int64))
        return tf.cast(tf.where(ids > 0, rows, 0), tf.int32)


class VocabularyRows(tf.Module):
    """``row`` = line number of the id in the vocabulary file, from 1; any other id is row 0.

    Args:
      path: text file with one decimal id a line; becomes an asset of a SavedModel.

    Raises:
      ConfigError: the file cannot be read, is empty, or holds something else than ids.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        initializer = tf.lookup.TextFileInitializer(
            path,
            key_dtype=tf.int64,
            key_index=tf.lookup.TextFileIndex.WHOLE_LINE,
            value_dtype=tf.int64,
            value_index=tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        try:
            self._table = tf.lookup.StaticHashTable(initializer, -1, experimental_is_anonymous=True)
        except tf.errors.OpError as error:
            raise ConfigError(
                f"{path}: no vocabulary (one decimal id a line, no id twice): {error.message}"
            ) from None
        self.rows = 1 + int(self._table.size())

    def __call__(self, ids: tf.Tensor) -> tf.Tensor:
        """int64 ids [...] → int32 rows [...]; 0 where the vocabulary does not hold the id."""
        return tf.cast(tf.where(ids > 0, 1 + self._table.lookup(ids), 0), tf.int32)


def count_ids(batches: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct positive ids and how often each occurs.

    Args:
      batches: int64 arrays of ids, any shape; 0 is padding.

    Returns:
      ids int64 [n], ascending; counts int64 [n].
    """
    ids, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    pending: list[np.ndarray] = []
    size = 0

    def merge() -> None:
        nonlocal ids, counts, pending, size
        new, new_counts = np.unique(np.concatenate(pending), return_counts=True)
        ids, inverse = np.unique(np.concatenate([ids, new]), return_inverse=True)
        counts = np.bincount(inverse, np.concatenate([counts, new_counts]), len(ids))
        counts = counts.astype(np.int64)
        pending, size = [], 0

    for batch in batches:
        pending.append(batch[batch > 0])
        size += pending[-1].size
        if size > _IDS_AT_ONCE:
            merge()
    if pending:
        merge()
    return ids, counts


def write_vocabulary(path: str, batches: Iterable[np.ndarray], min_count: int) -> int:
    """Writes the ids seen at least `min_count` times, the most frequent first.

    Returns:
      The number of ids written.

    Raises:
      DataError: no id is frequent enough.
    """
    ids, counts = count_ids(batches)
    kept = counts >= min_count
    if not kept.any():
        raise DataError(
            f"embedding.min_count {min_count}: none of the {len(ids)} ids of the training split "
            "occurs that often"
        )
    order = np.lexsort((ids[kept], -counts[kept]))
    records.write_text(path, "".join(f"{i}\n" for i in ids[kept][order]))
    return int(kept.sum())
