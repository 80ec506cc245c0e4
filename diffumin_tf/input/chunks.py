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


Samples = tf.Tensor | Chunks  # serialised: records of one impression, strings [B], or parts of more


def impressions_of(records: tf.Tensor) -> tf.Tensor:
    """int32 [n]: how many impressions each of n serialised records has."""
    newer = tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int32)
    # A record without this key is one of one impression.
    return tf.maximum(tf.io.parse_example(records, {NEWER: newer})[NEWER].row_lengths(), 1)


def whole(records: tf.Tensor) -> Chunks:
    """All impressions of serialised records, strings [u]."""
    count = impressions_of(records)
    return Chunks(records, tf.zeros_like(count), count)


def as_chunks(given: Samples) -> Chunks:
    """The same samples; a record of one impression is a chunk."""
    if isinstance(given, Chunks):
        return given
    ones = tf.ones([tf.size(given)], tf.int32)
    return Chunks(given, tf.zeros_like(ones), ones)


def size_of(given: Samples) -> tf.Tensor:
    """Scalar int32: how many samples these are."""
    return tf.reduce_sum(given.count) if isinstance(given, Chunks) else tf.size(given)


def joined(*given: Samples) -> Samples:
    """All that is given, one after the other."""
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *given)


def between(given: Samples, start: tf.Tensor, stop: tf.Tensor) -> Samples:
    """Samples [start, stop) of what is given; a chunk across a border is cut."""
    if not isinstance(given, Chunks):
        return given[start:stop]
    ends = tf.cumsum(given.count)
    begins = ends - given.count
    left, right = tf.maximum(begins, start), tf.minimum(ends, stop)
    kept = left < right
    cut = Chunks(given.record, given.first + left - begins, right - left)
    return Chunks(*(tf.boolean_mask(part, kept) for part in cut))


def in_batches(
    records: tf.data.Dataset,
    size: int,
    most: int | None,
    shuffle: tuple[int, int | tf.Tensor] | None = None,
    skip: int = 0,
) -> tf.data.Dataset:
    """Deals the samples of serialised records to batches of `size`; the last one has the rest.

    Args:
        records: strings [].
        most: samples of a record that stay together; None where all records are of one impression
            and have no key that says so.
        shuffle: (samples or chunks among which the next one is chosen, seed), or None to keep their
            order.
        skip: batches to leave out.

    Returns:
        A dataset of strings [size]; or, unless `most` is None, of `Chunks` [size at most].
    """
    given = records if most is None else in_chunks(records, most)
    if shuffle:
        given = given.shuffle(max(1, shuffle[0]), seed=shuffle[1])
    if most is None:
        return given.skip(skip * size).batch(size)
    return _filled(given, size).skip(skip)


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
        record = firsts.value_rowids()

        def copied() -> tf.data.Dataset:
            each = [tf.gather(part, record) for part in (records, impressions)]
            return tf.data.Dataset.from_tensor_slices(chunk(*each, firsts.values))

        def shared() -> tf.data.Dataset:  # the chunks of a record hold the same bytes
            return tf.data.Dataset.from_tensor_slices((records, impressions)).flat_map(of_record)

        # The first way is ten times as fast, but a record of very many impressions would take all
        # the memory.
        size = tf.cast(tf.strings.length(records), tf.int64)
        size = tf.reduce_sum(tf.gather(size, record))
        return tf.cond(size <= _COPIED_BYTES, copied, shared)

    return records.batch(_BLOCK).flat_map(of_block)


def _filled(chunks: tf.data.Dataset, size: int) -> tf.data.Dataset:
    """Batches of exactly `size` samples, but for the last one, from chunks one by one."""
    nothing = Chunks(*(tf.zeros([0], dtype) for dtype in (tf.string, tf.int32, tf.int32)))

    def fill(left_over: Chunks, block: Chunks) -> tuple[Chunks, tuple[Chunks, tf.Tensor]]:
        given = joined(left_over, block)
        is_end = tf.size(block.count) == 0
        samples = size_of(given)
        batches = tf.where(is_end, -(-samples // size), samples // size)
        return between(given, batches * size, samples), (given, batches)

    def deal(given: Chunks, batches: tf.Tensor) -> tf.data.Dataset:
        numbers = tf.data.Dataset.from_tensor_slices(tf.range(batches))
        return numbers.map(lambda number: between(given, number * size, (number + 1) * size))

    # So many chunks make a batch at least: what is left over is never copied twice.
    blocks = chunks.batch(size).concatenate(tf.data.Dataset.from_tensors(nothing))
    return blocks.scan(nothing, fill).flat_map(deal)
