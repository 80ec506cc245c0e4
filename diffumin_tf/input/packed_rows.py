"""Ids to rows by a vocabulary that takes little memory: what an export holds."""

import numpy as np
import tensorflow as tf

from diffumin_tf.input.vocabulary import read_ids

_ODD = 0x1E3779B97F4A7C15  # 2^61 / the golden ratio, roughly: neighbouring ids lie far apart
_LARGEST = 2**63 - 1
_GROUP_BITS = 8  # buckets whose places are counted from that of the first of them: 2^8
_STEPS = (1, 4)  # words of a bucket that are looked at first, and next; few buckets have more


class PackedRows(tf.Module):
    """`row` = line number of the id in the vocabulary file, from 1; any other id is row 0.

    The same as `VocabularyRows` in 9 to 10 bytes an id instead of 19 to 45, read at once instead of
    line by line, but 3 to 8 times as slow to look up: for servers, which have few ids to look up
    and much memory to hold.

        hash   = (id · odd) mod 2⁶³                     one-to-one
        bucket = the first b − 1 bits of the hash       b bits hold the number of the last line
        word   = the other 64 − b bits of it, and the row

    The words of a bucket, two at most in the mean, lie side by side in the order of their lines:
    frequent ids are found first.

    Args:
        path: text file with one decimal id a line; becomes an asset of a SavedModel too, which
            nothing reads but people.

    Raises:
        ConfigError: the file cannot be read, is empty, or holds something else than ids.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        ids = read_ids(path)
        self.rows = 1 + len(ids)
        self._bits = bits = len(ids).bit_length()
        line = np.flatnonzero(ids > 0).astype(np.int32)
        scattered = ids[line] * np.int64(_ODD)
        del ids  # and what is not needed any more: all of it has 10 times the size of the words
        bucket = ((scattered & _LARGEST) >> (64 - bits)).astype(np.int32)
        counts = np.bincount(bucket, minlength=1 << (bits - 1))
        order = np.argsort(bucket, kind="stable")
        del bucket
        words = scattered[order] << bits
        words |= line[order] + np.int64(1)
        del scattered, line, order
        starts = np.cumsum(counts) - counts
        groups = starts[:: 1 << _GROUP_BITS]
        self._most = most = int(counts.max())
        self._count_bits = most.bit_length()
        buckets = starts - np.repeat(groups, 1 << _GROUP_BITS)[: len(starts)]
        buckets = (buckets << self._count_bits) | counts
        small = buckets.max() <= np.iinfo(np.uint16).max  # always, unless ids were made to collide
        with tf.device("CPU:0"):
            # Further on, so that one may look behind the end of the last bucket.
            self._words = _constant(np.pad(words, [0, max(most, 1)]), "words")
            self._buckets = _constant(buckets.astype(np.uint16 if small else np.int64), "buckets")
            self._groups = _constant(groups, "groups")
        self._file = tf.saved_model.Asset(path)

    def __call__(self, ids: tf.Tensor) -> tf.Tensor:
        """int64 ids [...] → int32 rows [...]; 0 where the vocabulary does not hold the id."""
        with tf.device("CPU:0"):
            return tf.reshape(self._rows_of(tf.reshape(ids, [-1])), tf.shape(ids))

    def _rows_of(self, ids: tf.Tensor) -> tf.Tensor:
        bucket = _shifted((ids * _ODD) & _LARGEST, 64 - self._bits)
        found = tf.cast(tf.gather(self._buckets, bucket), tf.int64)
        start = tf.gather(self._groups, _shifted(bucket, _GROUP_BITS))
        start += _shifted(found, self._count_bits)
        count = tf.where(ids > 0, found & ((1 << self._count_bits) - 1), 0)
        tag = ids * _wrapped(_ODD << self._bits)
        rows = self._among(0, _STEPS[0], start, count, tag)
        for first, stop in zip(_STEPS, (*_STEPS[1:], self._most), strict=True):
            if first < self._most:
                left = tf.where((rows == 0) & (count > first))
                some = (tf.gather_nd(part, left) for part in (start, count, tag))
                found = self._among(first, min(stop, self._most), *some)
                rows = tf.tensor_scatter_nd_update(rows, left, found)
        return rows

    def _among(
        self, first: int, stop: int, start: tf.Tensor, count: tf.Tensor, tag: tf.Tensor
    ) -> tf.Tensor:
        """Rows of ids [n] that are among the words [first, stop) of their buckets, others 0."""
        place = tf.range(first, stop, dtype=tf.int64)
        row = tf.gather(self._words, start[:, tf.newaxis] + place) ^ tag[:, tf.newaxis]
        known = (row > 0) & (row < 1 << self._bits) & (place < count[:, tf.newaxis])
        return tf.cast(tf.reduce_sum(tf.where(known, row, 0), axis=1), tf.int32)


def _constant(values: np.ndarray, name: str) -> tf.Variable:
    """A variable, since a constant would lie in the graph, which 2 GB are the most for."""
    return tf.Variable(values, trainable=False, name=name)


def _shifted(values: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.right_shift(values, tf.constant(bits, values.dtype))


def _wrapped(value: int) -> int:
    """The number that int64 holds of a larger one."""
    return (value + 2**63) % 2**64 - 2**63
