"""Ids to rows of the embedding table: by hashing or by a vocabulary of ids seen often enough."""

import hashlib
import posixpath
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.files import staged_file
from diffumin_tf.paths import from_where

PENDING = "vocabulary_pending.npy"

Counts = tuple[np.ndarray, np.ndarray]  # ids, and how often each was seen

_IDS_AT_ONCE = 20_000_000  # collected between two merges of the counts: 160 MB
_PENDING_IDS = 50_000_000  # remembered from day to day: 800 MB on disk
_BYTES_AT_ONCE = 1 << 24
_LINES_AT_ONCE = 1_000_000  # read or written as text: 20 MB


class Vocabulary(NamedTuple):
    """What a vocabulary holds.

    Attributes:
        size: ids in the file.
        new: those among them that the older vocabulary did not hold; all of them without one.
        pending: ids seen too rarely so far, whose sightings are remembered.
    """

    size: int
    new: int
    pending: int


class HashedRows(tf.Module):
    """`row = 1 + id mod (rows − 1)`; id 0 (missing, padding) is row 0."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def __call__(self, ids: tf.Tensor) -> tf.Tensor:
        """int64 ids [...] → int32 rows [...]; ids below 1 are row 0."""
        rows = 1 + tf.math.floormod(ids, tf.constant(self.rows - 1, tf.int64))
        return tf.cast(tf.where(ids > 0, rows, 0), tf.int32)


class _Lines(tf.lookup.TextFileInitializer):
    """From ids to the numbers of their lines.

    TensorFlow takes all tables of one name in a process for one table, and in a session a table
    without a name is a new one in every run. So the name says what the table holds.
    """

    def __init__(self, path: str) -> None:
        index = tf.lookup.TextFileIndex
        super().__init__(path, tf.int64, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER)
        digest = hashlib.sha256()
        with tf.io.gfile.GFile(path, "rb") as file:
            while part := file.read(_BYTES_AT_ONCE):
                digest.update(part)
        self._content = digest.hexdigest()

    @property
    def _shared_name(self) -> str:
        return f"vocabulary_{self._content}"


class VocabularyRows(tf.Module):
    """`row` = line number of the id in the vocabulary file, from 1; any other id is row 0.

    Args:
        path: text file with one decimal id a line.

    Attributes:
        rows: of the table, row 0 among them.
        seconds: how long it took to load.

    Raises:
        ConfigError: the file cannot be read, is empty, or holds something else than ids.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        start = time.perf_counter()
        try:
            self._table = tf.lookup.StaticHashTable(_Lines(path), -1)
        except tf.errors.OpError as error:
            raise _no_vocabulary(path, error.message) from None
        self.rows = 1 + int(self._table.size())
        self.seconds = time.perf_counter() - start

    def __call__(self, ids: tf.Tensor) -> tf.Tensor:
        """int64 ids [...] → int32 rows [...]; 0 where the vocabulary does not hold the id."""
        return tf.cast(tf.where(ids > 0, 1 + self._table.lookup(ids), 0), tf.int32)


def count_ids(batches: Iterable[np.ndarray | Counts]) -> Counts:
    """Counts the positive ids of int64 arrays of any shape; 0 is padding.

    Args:
        batches: arrays of ids, or pairs of ids and how often each was seen, in any order.
    """
    counted = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for piece in _joined(batches):
        counted = _sum(counted, piece)
    return counted


def _joined(batches: Iterable[np.ndarray | Counts]) -> Iterator[Counts]:
    """The positive ids of the batches in pieces of about `_IDS_AT_ONCE`, counted or in pairs."""
    ids: list[np.ndarray] = []
    pairs: list[Counts] = []
    size = 0
    for batch in batches:
        if isinstance(batch, tuple):
            seen = (batch[0] > 0) & (batch[1] > 0)
            pairs.append((batch[0][seen], batch[1][seen]))
            size += pairs[-1][0].size
        else:
            ids.append(batch[batch > 0])
            size += ids[-1].size
        if size > _IDS_AT_ONCE:
            yield from _counted(ids, pairs)
            ids, pairs, size = [], [], 0
    yield from _counted(ids, pairs)


def _counted(ids: list[np.ndarray], pairs: list[Counts]) -> Iterator[Counts]:
    if ids:
        yield np.unique(np.concatenate(ids), return_counts=True)
    if pairs:
        yield tuple(np.concatenate(column) for column in zip(*pairs, strict=True))


def write_vocabulary(
    path: str, batches: Iterable[np.ndarray | Counts], min_count: int, previous: str | None = None
) -> Vocabulary:
    """Writes the ids seen at least `min_count` times, the most frequent first.

    Ids of an older vocabulary keep their lines, however often they occur now; the ids newly
    admitted follow them. Sightings of ids that are not admitted yet add up from one vocabulary to
    the next: they are kept in `vocabulary_pending.npy` beside each. That file holds 50 million
    ids at most; beyond them, ids with the fewest sightings are forgotten, and among equals those
    that do not occur now.

    Args:
        batches: as `count_ids` takes them.
        previous: file of the older vocabulary; without a file of sightings beside it there are
            none.

    Raises:
        ConfigError: the older vocabulary is missing or damaged.
        DataError: no id is frequent enough for a first vocabulary, or the disk is full.
    """
    old = read_ids(previous) if previous else np.zeros(0, np.int64)
    today = _without(old, count_ids(batches))
    ids, counts = today
    if previous:
        ids, counts = _sum(today, _without(old, _read_pending(_beside(previous))))
    kept = counts >= min_count
    if not old.size and not kept.any():
        raise DataError(
            f"embedding.min_count {min_count}: none of the {len(ids)} ids of the training split "
            "occurs that often"
        )
    order = np.lexsort((ids[kept], -counts[kept]))
    new = ids[kept][order]
    rare = _most_worth(ids[~kept], counts[~kept], today[0])
    # The vocabulary comes last: where it is, the sightings that belong to it are.
    with staged_file(_beside(path), "wb") as file:
        np.save(file, np.stack(rare))
    with staged_file(path, "wb") as file:
        for some in (old, new):
            for start in range(0, len(some), _LINES_AT_ONCE):
                lines = map(str, some[start : start + _LINES_AT_ONCE].tolist())
                file.write("\n".join(lines) + "\n")
    return Vocabulary(len(old) + len(new), len(new), len(rare[0]))


def read_ids(path: str) -> np.ndarray:
    """Ids of a vocabulary file, int64, in the order of its lines: row r of a table is line r − 1.

    Raises:
        ConfigError: the file cannot be read, is empty, or holds something else than ids.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            blocks = pd.read_csv(
                file, header=None, dtype=np.int64, skip_blank_lines=False, chunksize=_LINES_AT_ONCE
            )
            ids = np.concatenate([block.to_numpy() for block in blocks])
        if ids.shape[1] != 1:
            raise ValueError(f"{ids.shape[1]} columns")
        ids = ids[:, 0]
        twice = ids[pd.Index(ids).duplicated()]
        if twice.size:
            raise ValueError(f"{twice[0]} is listed twice")
    except (tf.errors.OpError, ValueError, OverflowError) as error:
        raise _no_vocabulary(path, error) from None
    return ids


def _no_vocabulary(path: str, reason: object) -> ConfigError:
    what = "no vocabulary (one decimal id a line, no id twice)"
    return ConfigError(f"{path}{from_where(path)}: {what}: {reason}")


def _beside(vocabulary: str) -> str:
    return posixpath.join(posixpath.dirname(vocabulary), PENDING)


def _read_pending(path: str) -> Counts:
    if not tf.io.gfile.exists(path):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            ids, counts = np.load(file, allow_pickle=False)
        whole = ids.dtype == np.int64 and ids.ndim == 1
        if not whole or (np.diff(ids) <= 0).any() or (counts < 1).any():
            raise ValueError("other content")
    except (tf.errors.OpError, ValueError, TypeError, EOFError) as error:
        raise DataError(
            f"{path}: damaged: {error}; it must hold int64 [2, n], ids in ascending order and "
            "their sightings; remove it to count rare ids from zero"
        ) from None
    return ids, counts


def _sum(one: Counts, other: Counts) -> Counts:
    ids, counts = (np.concatenate(pair) for pair in zip(one, other, strict=True))
    if not ids.size:
        return ids, counts
    order = np.argsort(ids, kind="stable")  # which merges what ascends already
    ids = ids[order]
    first = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    return ids[first], np.add.reduceat(counts[order], first)


def _without(old: np.ndarray, counted: Counts) -> Counts:
    """The counts of ids that are not among the old ones."""
    kept = ~pd.Index(counted[0]).isin(old)
    return counted[0][kept], counted[1][kept]


def _most_worth(ids: np.ndarray, counts: np.ndarray, today: np.ndarray) -> Counts:
    """The ids to remember when there are too many, in their order."""
    if len(ids) > _PENDING_IDS:
        order = np.lexsort((pd.Index(ids).isin(today), counts))
        kept = np.sort(order[-_PENDING_IDS:])
        ids, counts = ids[kept], counts[kept]
    return ids, counts
