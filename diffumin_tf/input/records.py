"""Records on disk: columns of samples → `tf.train.Example` → day partitions, whole or absent."""

import dataclasses
import posixpath
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input import wire

PART_PREFIX = "part-"
SUCCESS_FILE = "_SUCCESS.json"  # beside the part files of a day: says how many samples they hold


@dataclasses.dataclass
class SampleColumns:
    """n samples, column by column, in the order of the schema.

    Attributes:
        label: int64 [n], 0 or 1.
        auxiliary_info: int64 [n, columns].
        cat_feature: int64 ids [n, columns].
        dense_feature: float32 [n, columns]; NaN for a missing value, which is written as 0.
        sequences: variable-length history fields by name, most recent behaviour first: as (ids
            int64 [total], row splits int64 [n + 1]), or, where samples share behaviours, as (ids,
            start int64 [n], stop int64 [n]).
        multi: fields of several values by name, in the same form; in any order.
    """

    label: np.ndarray
    auxiliary_info: np.ndarray
    cat_feature: np.ndarray
    dense_feature: np.ndarray
    sequences: dict[str, tuple[np.ndarray, ...]]
    multi: dict[str, tuple[np.ndarray, ...]] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)


def encode(schema: DataStruct, samples: SampleColumns) -> Iterator[bytes]:
    """Serialised `tf.train.Example` protos, one a sample.

    Raises:
        DataError: a group has other columns than the schema says.
    """
    for group in ("auxiliary_info", "cat_feature", "dense_feature"):
        shape, expected = getattr(samples, group).shape, (len(samples), len(getattr(schema, group)))
        if shape != expected:
            raise DataError(f"{group}: shape {shape}, the schema says {expected}")
    if samples.multi.keys() != set(schema.multi_feature):
        found, expected = sorted(samples.multi), sorted(schema.multi_feature)
        raise DataError(f"multi_feature: columns {found}, the schema says {expected}")
    fields = {"label": _rows(samples.label[:, None])}
    for group in ("auxiliary_info", "cat_feature"):
        if getattr(schema, group):
            fields[group] = _rows(getattr(samples, group))
    if schema.dense_feature:
        dense = samples.dense_feature
        fields["dense_feature"] = wire.float_rows(np.where(np.isnan(dense), 0, dense))
    for name, lists in {**samples.sequences, **samples.multi}.items():
        fields[name] = wire.int64_lists(*spans(lists))
    return wire.examples(fields)


def spans(lists: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lists of `SampleColumns` as (ids, start, stop), whichever way they are given."""
    ids, start, *stop = lists
    return (ids, start, *stop) if stop else (ids, start[:-1], start[1:])


def _rows(values: np.ndarray) -> wire.Lists:
    edges = np.arange(len(values) + 1) * values.shape[1]
    return wire.int64_lists(values.ravel(), edges[:-1], edges[1:])


def part_name(number: int, compression: str = "") -> str:
    """The name of a part file."""
    return f"{PART_PREFIX}{number:05d}{'.gz' if compression == 'GZIP' else ''}"


class PartWriter:
    """Deals serialised samples to the part files of one partition, in turn.

    Args:
        compression: `""` or `"GZIP"`.
    """

    def __init__(self, directory: str, parts: int = 1, compression: str = "") -> None:
        paths = [posixpath.join(directory, part_name(i, compression)) for i in range(parts)]
        self._writers = [tf.io.TFRecordWriter(path, compression or None) for path in paths]
        self.examples = 0

    def write(self, serialised: Iterable[bytes]) -> None:
        """Appends samples."""
        for record in serialised:
            self._writers[self.examples % len(self._writers)].write(record)
            self.examples += 1

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(self, *exception) -> None:
        for writer in self._writers:
            writer.close()
