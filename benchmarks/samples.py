"""Random samples: batches for models, and records for the input pipeline."""

import functools
import math
import posixpath
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from benchmarks.settings import Setting
from diffumin_tf.config.schema import DataStruct
from diffumin_tf.input import records
from diffumin_tf.input.batch import Batch, HistoryGroup, Windows
from diffumin_tf.input.features import FeatureLayout

# Popularity of rank r is about r^-0.8, so that the first r ranks draw a share of (r / rows)^0.2.
_POPULARITY_POWER = 5
_PARTS = 2
_SHORTEST = 10  # of histories of mixed lengths
_ENCODED_AT_ONCE = 64


def random_batch(setting: Setting, seed: int) -> Batch:
    """A batch with full histories, each of another user."""
    rng = np.random.default_rng(seed)
    size, length, layout = setting.batch_size, setting.length, setting.layout
    rows = tf.constant(draw_rows(rng, setting.rows, (size, length, len(layout.behaviours))))
    return Batch(
        fields=tf.constant(draw_rows(rng, setting.rows, (size, len(layout.fields)))),
        histories=(HistoryGroup(rows, tf.ones([size, length], tf.bool), tf.range(size)),),
        dense=tf.constant(rng.standard_normal([size, len(layout.dense)], np.float32)),
        user=tf.range(1, size + 1, dtype=tf.int64),
        label=tf.constant(rng.integers(0, 2, size), tf.float32),
    )


def batch_spec(
    layout: FeatureLayout, size: int | None = None, lengths: Sequence[int | None] = (None,)
) -> Batch:
    """The type of batches with a group of histories for each length; None is any number."""

    def spec(dtype: tf.DType, *shape: int | None) -> tf.TensorSpec:
        return tf.TensorSpec([size, *shape], dtype)

    behaviours = len(layout.behaviours)
    groups = [
        HistoryGroup(spec(tf.int32, n, behaviours), spec(tf.bool, n), spec(tf.int32))
        for n in lengths
    ]
    fields = spec(tf.int32, len(layout.fields))
    dense = spec(tf.float32, len(layout.dense))
    return Batch(fields, tuple(groups), dense, spec(tf.int64), spec(tf.float32))


def shared_batch(setting: Setting, impressions: int, seed: int) -> Batch:
    """The same, but so many samples of a user follow one another and share a history.

    Each of them sees as many behaviours, the later ones one more recent one each.
    """
    batch, size = random_batch(setting, seed), setting.batch_size
    users = -(-size // impressions)
    length = setting.length + impressions - 1
    shape = (users, length, len(setting.layout.behaviours))
    rows = tf.constant(draw_rows(np.random.default_rng(seed), setting.rows, shape))
    sample = tf.range(size)
    at = tf.reshape(tf.minimum(tf.range(users * impressions), size - 1), [users, impressions])
    first = impressions - 1 - sample % impressions
    windows = Windows(at, sample, first, first + setting.length)
    group = HistoryGroup(rows, tf.ones([users, length], tf.bool), sample, windows)
    user = tf.cast(1 + sample // impressions, tf.int64)
    return batch._replace(histories=(group,), user=user)


def draw_rows(rng: np.random.Generator, rows: int, shape: tuple[int, ...]) -> np.ndarray:
    """Rows int32 of a table as real ids hit it: few are frequent, and they lie anywhere.

    `row = permutation[⌊(rows − 1) u⁵⌋]` with u uniform in [0, 1); never row 0.
    """
    ranks = ((rows - 1) * rng.random(shape) ** _POPULARITY_POWER).astype(np.int32)
    return _rows_by_rank(rows)[ranks]


@functools.lru_cache(maxsize=2)
def _rows_by_rank(rows: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.arange(1, rows, dtype=np.int32))


def random_ids(count: int) -> np.ndarray:
    """Different ids, int64 [count], as fingerprints are: anywhere in 63 bits."""
    return np.unique(np.random.default_rng(1).integers(1, 2**63, 2 * count))[:count]


def mixed_lengths(rng: np.random.Generator, count: int, longest: int) -> np.ndarray:
    """Half of the histories are full; the logarithms of the others' lengths are uniform."""
    short = np.exp(rng.uniform(math.log(_SHORTEST), math.log(longest), count))
    return np.where(np.arange(count) % 2, longest, short.astype(np.int64))


def random_records(
    rng: np.random.Generator,
    schema: DataStruct,
    ids: np.ndarray,
    lengths: np.ndarray,
    impressions: int = 1,
    once: bool = False,
) -> list[bytes]:
    """Serialised samples of histories of given lengths, with ids as popular as table rows.

    Args:
        impressions: samples of each history; each sees one behaviour more than the one before it,
            and the first one as many as `lengths` says.
        once: whether those of a history are one record.
    """
    stored, splits = len(lengths), np.r_[0, np.cumsum(lengths + impressions - 1)]
    count, history = stored * impressions, np.repeat(np.arange(stored), impressions)
    start = splits[history] + impressions - 1 - np.tile(np.arange(impressions), stored)
    longest = min(field.max_len for field in schema.sequences.values())
    stop = np.minimum(splits[history + 1], start + longest)

    def draw(*shape: int) -> np.ndarray:
        return ids[draw_rows(rng, len(ids) + 1, shape) - 1]

    def of_users(values: np.ndarray, columns: Sequence[str]) -> np.ndarray:
        """The values [count, columns], where those of a history agree if stored once."""
        same = np.isin(columns, schema.stored_once)
        return np.where(same, values[history * impressions], values)

    auxiliary, dense = [count, len(schema.auxiliary_info)], [count, len(schema.dense_feature)]
    columns = records.SampleColumns(
        label=rng.integers(0, 2, count),
        auxiliary_info=of_users(rng.integers(1, 2**40, auxiliary), schema.auxiliary_info),
        cat_feature=of_users(draw(count, len(schema.cat_feature)), schema.cat_feature),
        dense_feature=of_users(rng.standard_normal(dense, np.float32), schema.dense_feature),
        sequences={name: (draw(splits[-1]), start, stop) for name in schema.variable_sequences},
        group=history if once else None,
    )
    return list(records.encode(schema, columns))


def write_records(
    folder: str,
    schema: DataStruct,
    ids: np.ndarray,
    lengths: np.ndarray,
    impressions: int = 1,
    once: bool = False,
) -> list[str]:
    """Writes samples as `random_records` makes them; returns the part files."""
    tf.io.gfile.makedirs(folder)
    rng = np.random.default_rng(0)
    with records.PartWriter(folder, _PARTS) as writer:
        for start in range(0, len(lengths), _ENCODED_AT_ONCE):
            chunk = lengths[start : start + _ENCODED_AT_ONCE]
            writer.write(random_records(rng, schema, ids, chunk, impressions, once))
    return sorted(tf.io.gfile.glob(posixpath.join(folder, records.PART_PREFIX + "*")))
