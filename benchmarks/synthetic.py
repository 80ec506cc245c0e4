"""Records with long histories, for the input pipeline to read."""

from __future__ import annotations

import math
import posixpath

import numpy as np
import tensorflow as tf

from benchmarks.settings import draw_rows
from diffumin_tf.config.schema import DataStruct
from diffumin_tf.input import records

_PARTS = 2
_SHORTEST = 10  # of histories of mixed lengths
_ENCODED_AT_ONCE = 64


def vocabulary_ids(count: int) -> np.ndarray:
    """Different ids, int64 [count], as fingerprints are: anywhere in 63 bits."""
    return np.unique(np.random.default_rng(1).integers(1, 2**63, 2 * count))[:count]


def mixed_lengths(rng: np.random.Generator, count: int, longest: int) -> np.ndarray:
    """Half of the histories are full; the logarithms of the others' lengths are uniform."""
    short = np.exp(rng.uniform(math.log(_SHORTEST), math.log(longest), count))
    return np.where(np.arange(count) % 2, longest, short.astype(np.int64))


def write_records(
    folder: str, schema: DataStruct, ids: np.ndarray, lengths: np.ndarray, seed: int
) -> list[str]:
    """Writes one sample for each length; the ids are as popular as those of `random_batch`.

    Returns:
        The part files, in order.
    """
    tf.io.gfile.makedirs(folder)
    rng = np.random.default_rng(seed)
    with records.PartWriter(folder, _PARTS) as writer:
        for start in range(0, len(lengths), _ENCODED_AT_ONCE):
            chunk = random_samples(rng, schema, ids, lengths[start : start + _ENCODED_AT_ONCE])
            writer.write(records.encode(schema, chunk))
    return sorted(tf.io.gfile.glob(posixpath.join(folder, records.PART_PREFIX + "*")))


def bytes_per_record(files: list[str]) -> float:
    """Size on disk of a sample."""
    count = sum(1 for _ in tf.data.TFRecordDataset(files))
    return sum(tf.io.gfile.stat(file).length for file in files) / count


def random_samples(
    rng: np.random.Generator, schema: DataStruct, ids: np.ndarray, lengths: np.ndarray
) -> records.SampleColumns:
    """One sample for each length, whose ids are as popular as those of `random_batch`."""
    count, splits = len(lengths), np.r_[0, np.cumsum(lengths)]

    def draw(*shape: int) -> np.ndarray:
        return ids[draw_rows(rng, len(ids) + 1, shape) - 1]

    return records.SampleColumns(
        label=rng.integers(0, 2, count),
        auxiliary_info=rng.integers(1, 2**40, [count, len(schema.auxiliary_info)]),
        cat_feature=draw(count, len(schema.cat_feature)),
        dense_feature=rng.standard_normal([count, len(schema.dense_feature)], np.float32),
        sequences={name: (draw(splits[-1]), splits) for name in schema.variable_sequences},
    )
