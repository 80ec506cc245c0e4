"""Records of several impressions, dealt to batches a few impressions at a time."""

from typing import NamedTuple

import tensorflow as tf

from diffumin_tf.config.schema import NEWER

_BLOCK = 64  # records that are looked at together
_COPIED_BYTES = 1 << 24  # of a block, where its records become several chunks each


class Chunks(NamedTuple):
    """Consecutive impressions of u records, or of one where the tensors are scalars.

    Attributes:
        record: strings [u], serialised; several chunks may be of one record.
        first, count: int32 [u], impressions [first, first + count) of it.
    """

    record: tf.Tensor
    first: tf.Tensor
    count: tf.Tensor

    @property
    def samples(self) -> tf.Tensor:
        """Scalar int32: impressions of all chunks together."""
        return tf.reduce_sum(self.count)


def impressions_of(records: tf.Tensor) -> tf.Tensor:
    """int32 [n]: how many impressions each of n serialised records has."""
    newer = tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int32)
    # A record without this key is one of one impression.
    return tf.maximum(tf.io.parse_example(records, {NEWER: newer})[NEWER].row_lengths(), 1)


def joined(chunks: list[Chunks]) -> Chunks:
    """All chunks, one after the other."""
    return Chunks(*(tf.concat(part, axis=0) for part in zip(*chunks, strict=True)))


def between(chunks: Chunks, start: tf.Tensor, stop: tf.Tensor) -> Chunks:
    """Samples [start, stop) of all that the chunks hold; a chunk across a border is cut."""
    ends = tf.cumsum(chunks.count)
    begins = ends - chunks.count
    left, right = tf.maximum(begins, start), tf.minimum(ends, stop)
    kept = left < right
    cut = Chunks(chunks.record, chunks.first + left - begins, right - left)
    return Chunks(*(tf.boolean_mask(part, kept) for part in cut))


def in_chunks(records: tf.data.Dataset, most: int) -> tf.data.Dataset:
    """The impressions of all records in their order, in chunks.

    Args:
        records: serialised, strings [].
        most: impressions of a chunk; the last one of a record may have fewer.

    Returns:
        A dataset of `Chunks` of one chunk.
    """

    def chunk(record: tf.Tensor, impressions: tf.Tensor, first: tf.Tensor) -> Chunks:
        return Chunks(record, first, tf.minimum(impressions - first, most))

    def of_record(record: tf.Tensor, impressions: tf.Tensor) -> tf.data.Dataset:
        firsts = tf.data.Dataset.from_tensor_slices(tf.range(0, impressions, most))
        return firsts.map(lambda first: chunk(record, impressions, first))

    def of_block(records: tf.Tensor) -> tf.data.Dataset:
        impressions = impressions_of(records)
        firsts = tf.ragged.range(0, impressions, most)
        times = firsts.row_lengths()

        def copied() -> tf.data.Dataset:
            each = [tf.repeat(part, times) for part in (records, impressions)]
            return tf.data.Dataset.from_tensor_slices(chunk(*each, firsts.values))

        def shared() -> tf.data.Dataset:  # the chunks of a record hold the same bytes
            return tf.data.Dataset.from_tensor_slices((records, impressions)).flat_map(of_record)

        # The first way is ten times as fast, but a record of very many impressions would take all
        # the memory.
        size = tf.cast(tf.strings.length(records), tf.int64)
        return tf.cond(tf.reduce_sum(size * times) <= _COPIED_BYTES, copied, shared)

    return records.batch(_BLOCK).flat_map(of_block)


def in_batches(chunks: tf.data.Dataset, size: int) -> tf.data.Dataset:
    """Batches of exactly `size` samples, but for the last one; each sample is in one of them.

    Args:
        chunks: `Chunks` of one chunk.

    Returns:
        A dataset of `Chunks` [u] with u at most `size`.
    """
    nothing = Chunks(*(tf.zeros([0], dtype) for dtype in (tf.string, tf.int32, tf.int32)))

    def fill(left_over: Chunks, block: Chunks) -> tuple[Chunks, tuple[Chunks, tf.Tensor]]:
        given = joined([left_over, block])
        is_end = tf.size(block.count) == 0
        batches = tf.where(is_end, -(-given.samples // size), given.samples // size)
        return between(given, batches * size, given.samples), (given, batches)

    def deal(given: Chunks, batches: tf.Tensor) -> tf.data.Dataset:
        numbers = tf.data.Dataset.from_tensor_slices(tf.range(batches))
        return numbers.map(lambda number: between(given, number * size, (number + 1) * size))

    # So many chunks make a batch at least: what is left over is never copied twice.
    blocks = chunks.batch(size).concatenate(tf.data.Dataset.from_tensors(nothing))
    return blocks.scan(nothing, fill).flat_map(deal)
