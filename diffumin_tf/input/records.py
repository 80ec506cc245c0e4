"""Records on disk: columns of samples → `tf.train.Example` → day partitions, whole or absent."""

import dataclasses
import posixpath
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import COUNT, NEWER, DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input import wire

PART_PREFIX = "part-"
# Impressions of one record: where they are shuffled, each chunk of them holds all of the record.
MOST_IMPRESSIONS = 1024
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
        group: int64 [n]; consecutive samples of one number share a record, or several where they
            are more than `MOST_IMPRESSIONS`, which say so even where it is one sample. Their
            histories are parts of one. None: a record a sample.
    """

    label: np.ndarray
    auxiliary_info: np.ndarray
    cat_feature: np.ndarray
    dense_feature: np.ndarray
    sequences: dict[str, tuple[np.ndarray, ...]]
    multi: dict[str, tuple[np.ndarray, ...]] = dataclasses.field(default_factory=dict)
    group: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.label)

    @property
    def edges(self) -> np.ndarray:
        """int64 [records + 1]: record i holds the samples from edge i to the next."""
        if self.group is None:
            return np.arange(len(self) + 1)
        changes = np.flatnonzero(np.diff(self.group)) + 1
        groups = np.unique(np.concatenate([[0], changes, [len(self)]]))
        rank = np.arange(len(self)) - _first(groups)
        return np.append(np.flatnonzero(rank % MOST_IMPRESSIONS == 0), len(self))


def encode(schema: DataStruct, samples: SampleColumns) -> Iterator[bytes]:
    """Serialised `tf.train.Example` protos, one a sample or one a group of samples.

    Raises:
        DataError: a group has other columns than the schema says, or samples that share a record
            differ in what it holds once.
    """
    for group in ("auxiliary_info", "cat_feature", "dense_feature"):
        shape, expected = getattr(samples, group).shape, (len(samples), len(getattr(schema, group)))
        if shape != expected:
            raise DataError(f"{group}: shape {shape}, the schema says {expected}")
    if samples.multi.keys() != set(schema.multi_feature):
        found, expected = sorted(samples.multi), sorted(schema.multi_feature)
        raise DataError(f"multi_feature: columns {found}, the schema says {expected}")
    fields = {**samples.sequences, **samples.multi}
    of = schema, samples, samples.edges
    if samples.group is None:
        lists = {name: wire.int64_lists(*spans(field)) for name, field in fields.items()}
        return wire.examples(lists | _columns(*of))
    if any(field.start is not None for field in schema.sequences.values()):
        raise DataError("cat_feature: histories in fixed columns cannot be stored once")
    return wire.examples(_columns(*of) | _histories(*of) | _several(*of))


def spans(lists: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lists of `SampleColumns` as (ids, start, stop), whichever way they are given."""
    ids, start, *stop = lists
    return (ids, start, *stop) if stop else (ids, start[:-1], start[1:])


_Fields = dict[str, wire.Lists]


def _columns(schema: DataStruct, samples: SampleColumns, edges: np.ndarray) -> _Fields:
    """Labels and groups of columns; records lie between edges."""
    fields = {"label": wire.int64_lists(samples.label, edges[:-1], edges[1:])}
    first = _first(edges)
    further = np.arange(len(samples)) != first
    for group in ("auxiliary_info", "cat_feature", "dense_feature"):
        if not (columns := getattr(schema, group)):
            continue
        values, lists = getattr(samples, group), wire.int64_lists
        if group == "dense_feature":
            values, lists = np.where(np.isnan(values), 0, values), wire.float_lists
        once = np.isin(columns, schema.stored_once)
        for column in np.flatnonzero(once):
            _refuse(values[:, column] != values[first, column], columns[column])
        written = ~(further[:, None] & once)
        place = _edges(written.sum(axis=1))[edges]
        fields[group] = lists(values[written], place[:-1], place[1:])
    return fields


def _histories(schema: DataStruct, samples: SampleColumns, edges: np.ndarray) -> _Fields:
    """Histories from the newest to the oldest behaviour that a sample of the record sees."""
    fields: _Fields = {}
    newer = np.zeros(len(samples), np.int64)
    for number, (name, lists) in enumerate(samples.sequences.items()):
        ids, start, stop = spans(lists)
        begin = np.minimum.reduceat(start, edges[:-1])
        end = np.maximum.reduceat(stop, edges[:-1])
        sizes = np.diff(edges)
        window = np.minimum(start + schema.sequences[name].max_len, np.repeat(end, sizes))
        before, newer = newer, start - np.repeat(begin, sizes)
        _refuse((stop != window) | (number > 0) & (newer != before), name)
        fields[name] = wire.int64_lists(ids, begin, end)
    return fields | {NEWER: wire.int64_lists(newer, edges[:-1], edges[1:])}


def _several(schema: DataStruct, samples: SampleColumns, edges: np.ndarray) -> _Fields:
    """Fields of several values, with how many there are of each sample but the last."""
    fields: _Fields = {}
    first = _first(edges)
    for name, lists in samples.multi.items():
        ids, start, stop = spans(lists)
        if name in schema.stored_once:
            _refuse((start != start[first]) | (stop != stop[first]), name)
            fields[name] = wire.int64_lists(ids, start[edges[:-1]], stop[edges[:-1]])
            continue
        place = _edges(stop - start)
        within = np.arange(place[-1]) - np.repeat(place[:-1] - start, stop - start)
        fields[name] = wire.int64_lists(ids[within], place[edges[:-1]], place[edges[1:]])
        fields[name + COUNT] = wire.int64_lists(stop - start, edges[:-1], edges[1:] - 1)
    return fields


def _first(edges: np.ndarray) -> np.ndarray:
    """The first sample of the record that each sample is in."""
    return np.repeat(edges[:-1], np.diff(edges))


def _edges(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)])


def _refuse(differs: np.ndarray, name: str) -> None:
    if differs.any():
        sample = int(np.argmax(differs))
        raise DataError(f"{name}: sample {sample} does not fit what its record holds once")


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
