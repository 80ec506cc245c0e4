"""Histories that several samples of a batch see parts of, each of them mapped to rows once."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from diffumin_tf.config.schema import SequenceField
from diffumin_tf.input.batch import HistoryGroup, Windows


class SharedHistories(NamedTuple):
    """U histories of B samples as rows of the table, and what their samples see of them.

    Attributes:
        rows: int32 [T + 1, F], the behaviours of all histories one after the other, and padding.
        mask: bool [T + 1], false where a behaviour is padding.
        start, length: int32 [U], where the behaviours of each lie that its samples see.
        samples: int32 [U], how many each has.
        of_sample: int32 [B], the history of each sample, ascending.
        first, stop: int32 [B], the sample sees behaviours [first, stop) of them.
    """

    rows: tf.Tensor
    mask: tf.Tensor
    start: tf.Tensor
    length: tf.Tensor
    samples: tf.Tensor
    of_sample: tf.Tensor
    first: tf.Tensor
    stop: tf.Tensor

    @classmethod
    def of(
        cls,
        raw: dict[str, tf.Tensor],
        fields: Sequence[SequenceField],
        seq_len: int,
        rows_of: Callable[[tf.Tensor], tf.Tensor],
    ) -> "SharedHistories":
        """Maps each history to rows once, and finds what is seen of it.

        Args:
            raw: each history field ragged int64 [U, lengths]; of every sample its history,
                `record` int32 [B], ascending without a gap, and where in it the sample begins to
                see, `newer` int32 [B].
            seq_len: behaviours that a sample sees at most.
        """
        history, newer = raw["record"], raw["newer"]
        stored = _of_equal_lengths([raw[field.name] for field in fields])
        window = min(seq_len, fields[0].max_len)
        begin = tf.math.segment_min(newer, history)
        end = tf.math.segment_max(newer, history) + window
        length = tf.minimum(end, _lengths(stored[0])) - begin
        first = newer - tf.gather(begin, history)
        ids = tf.stack([lists.values for lists in stored], axis=1)
        mask = functools.reduce(tf.logical_or, [lists.values > 0 for lists in stored])
        return cls(
            rows=tf.pad(rows_of(ids), [[0, 1], [0, 0]]),
            mask=tf.pad(mask, [[0, 1]]),
            start=tf.cast(stored[0].row_starts(), tf.int32) + begin,
            length=length,
            samples=tf.math.segment_sum(tf.ones_like(history), history),
            of_sample=history,
            first=first,
            stop=tf.minimum(first + window, tf.gather(length, history)),
        )

    def groups(self, buckets: Sequence[int]) -> tuple[HistoryGroup, ...]:
        """Pads each history to the shortest bucket that it fits; the last one grows with it.

        Its length is not static: samples of a history see `seq_len` behaviours each, later ones
        newer ones, and all of them together as many more as came between the first and the last.
        It is never below the last bucket, so that the first k behaviours exist for any k up to it.
        """
        bucket_of = tf.searchsorted(tf.constant(buckets[:-1], tf.int32), self.length)
        longest = tf.reduce_max(tf.concat([buckets[-1:], self.length], axis=0))
        padded_to = (*buckets[:-1], longest)
        return tuple(self._group(bucket_of == i, length) for i, length in enumerate(padded_to))

    def _group(self, chosen: tf.Tensor, length: int | tf.Tensor) -> HistoryGroup:
        """Some of the histories, bool [U], which have `length` behaviours at most."""
        samples = tf.cast(tf.where(tf.gather(chosen, self.of_sample))[:, 0], tf.int32)
        members = tf.where(chosen)[:, 0]
        history, at, place = _tiles(tf.gather(self.samples, members))
        members = tf.gather(members, history)
        start = tf.gather(self.start, members)[:, tf.newaxis]
        stop = start + tf.gather(self.length, members)[:, tf.newaxis]
        index = start + tf.range(length)
        index = tf.where(index < stop, index, tf.shape(self.mask)[0] - 1)
        first, stop = tf.gather(self.first, samples), tf.gather(self.stop, samples)
        windows = Windows(at, place, first, stop)
        return HistoryGroup(
            tf.gather(self.rows, index), tf.gather(self.mask, index), samples, windows
        )


def _of_equal_lengths(fields: list[tf.RaggedTensor]) -> list[tf.RaggedTensor]:
    """The fields of histories, padded with 0; those of records of one impression may differ."""
    lengths = tf.stack([_lengths(lists) for lists in fields])
    longest = tf.reduce_max(lengths, axis=0)

    def padded(lists: tf.RaggedTensor) -> tf.RaggedTensor:
        dense = lists.to_tensor()
        missing = tf.reduce_max(longest) - tf.shape(dense)[1]
        dense = tf.pad(dense, [[0, 0], [0, missing]])
        splits = lists.row_splits.dtype
        return tf.RaggedTensor.from_tensor(dense, longest).with_row_splits_dtype(splits)

    are_equal = tf.reduce_all(lengths == longest)
    return tf.cond(are_equal, lambda: fields, lambda: [padded(lists) for lists in fields])


def _lengths(lists: tf.RaggedTensor) -> tf.Tensor:
    return tf.cast(lists.row_lengths(), tf.int32)


def _tiles(counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Deals the samples of histories to tiles of t places, so that few places stay free.

    A history with more samples than twice the mean stands in several tiles.

    Args:
        counts: int32 [h], samples of each history, one or more.

    Returns:
        The history of each tile, int32 [tiles]; and `at` and `place` of `Windows`.
    """
    samples = tf.reduce_sum(counts)
    mean = -(-samples // tf.maximum(tf.size(counts), 1))
    width = tf.reduce_max(tf.concat([[1], tf.minimum(counts, 2 * mean)], axis=0))
    tiles = -(-counts // width)  # of each history
    first_tile, first = tf.cumsum(tiles, exclusive=True), tf.cumsum(counts, exclusive=True)

    # The tiles of a history follow one another: its places are those of its first tile, and on.
    history = _numbers(counts)
    place = tf.range(samples) + tf.gather(first_tile * width - first, history)

    history = _numbers(tiles)
    rank_of_tile = (tf.range(tf.size(history)) - tf.gather(first_tile, history)) * width
    ranks = rank_of_tile[:, tf.newaxis] + tf.range(width)
    last = tf.gather(counts, history)[:, tf.newaxis] - 1
    at = tf.gather(first, history)[:, tf.newaxis] + tf.minimum(ranks, last)
    return history, at, place


def _numbers(sizes: tf.Tensor) -> tf.Tensor:
    """The number of the list that each value is in, of lists of these sizes one after the other.

    `tf.repeat` gives the same by several times as many operations.
    """
    return tf.searchsorted(tf.cumsum(sizes), tf.range(tf.reduce_sum(sizes)), side="right")
