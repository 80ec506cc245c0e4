"""The tables of a `TablesSpec` in memory: ids and numbers by field name, no texts."""

import posixpath
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from diffumin_tf.prepare import columns
from diffumin_tf.prepare.spec import (
    Events,
    FieldRule,
    Impressions,
    RowFilter,
    SideTable,
    TablesSpec,
)
from diffumin_tf.prepare.tables import BadLines, Chunk, read_table

_MS = {"ms": 1.0, "s": 1000.0}
_YEAR_10000_MS = 253_402_300_800_000  # A time beyond it is one in the wrong unit.

_Faults = Iterator[tuple[str, np.ndarray]]


class Table(NamedTuple):
    """One table, as frames of equally many rows.

    Attributes:
        keys: what joins and orders the rows: user and item ids int64, time in ms int64, …
        ids: categorical fields int64.
        values: dense fields float32.
    """

    keys: pd.DataFrame
    ids: pd.DataFrame
    values: pd.DataFrame

    def rows(self, indices: np.ndarray) -> "Table":
        return Table(*(frame.iloc[indices] for frame in self))

    def of(self, keys: pd.Series) -> "Table":
        """The row of each key of a side table; 0 where it has none."""
        return Table(*(frame.reindex(keys, fill_value=0) for frame in self))


class TableReader:
    """Reads the tables of a spec from a folder.

    Attributes:
        bad: accounts of the files read so far, by file name.
        dropped: good rows that were left out, by reason.
    """

    def __init__(self, spec: TablesSpec, input_dir: str) -> None:
        self._spec = spec
        self._input_dir = input_dir
        self.bad: dict[str, BadLines] = {}
        self.dropped: dict[str, int] = {}

    def impressions(self) -> Table:
        """The log: keys `user`, `item`, `time`, `day`, `label` and `is_event`."""
        shown = self._spec.impressions
        as_events = self._spec.impressions_are_events
        keep_where = as_events.keep_where if as_events else None
        label, least = shown.label.column, shown.label.at_least

        def keys(chunk: Chunk) -> dict[str, np.ndarray]:
            value = columns.numbers(chunk.columns[label])
            found = self._keys(chunk, shown, shown.time)
            if shown.day:
                found["day"] = columns.named_days(chunk.columns[shown.day])
            else:
                day = self._local_time(found["time"])
                found["day"] = (day.year * 10_000 + day.month * 100 + day.day).astype(np.int64)
            found["label"] = (value == 1 if least is None else value >= least).astype(np.int64)
            found["is_event"] = _matches(chunk, keep_where) & bool(as_events)
            return found

        def faults(chunk: Chunk) -> _Faults:
            yield from _key_faults(chunk, shown, [shown.time])
            if shown.day:
                yield f"{shown.day} is no day", columns.named_days(chunk.columns[shown.day]) == 0
            value = columns.numbers(chunk.columns[label])
            if least is None:
                yield f"label {label} is neither 0 nor 1", ~np.isin(value, (0, 1))
            else:
                yield f"label {label} is no number", np.isnan(value)

        wanted = [shown.user, shown.item, shown.time, label, shown.day]
        return self._read(shown, wanted, keep_where, keys, faults)

    def events(self, table: Events) -> Table:
        """Behaviours, older to newer where times are equal: keys `user`, `item`, `time`."""
        time, *ties = table.order_by

        def keys(chunk: Chunk) -> dict[str, np.ndarray]:
            order = {f"tie {i}": columns.numbers(chunk.columns[c]) for i, c in enumerate(ties)}
            kept = {"is_event": _matches(chunk, table.keep_where)}
            return {**self._keys(chunk, table, time), **order, **kept}

        def faults(chunk: Chunk) -> _Faults:
            yield from _key_faults(chunk, table, table.order_by)

        wanted = [table.user, table.item, *table.order_by]
        read = self._read(table, wanted, table.keep_where, keys, faults)
        kept = read.rows(np.flatnonzero(read.keys["is_event"]))
        if table.keep_where:
            self.dropped[f"{table.file}: not kept by keep_where"] = len(read.keys) - len(kept.keys)
        if ties:
            first_is_primary = [kept.keys[f"tie {i}"] for i in range(len(ties))]
            kept = kept.rows(np.lexsort(first_is_primary[::-1]))
        return kept

    def side_table(self, table: SideTable | None, space: str) -> Table:
        """A side table, indexed by its key in the id space `space`; empty for None."""
        if table is None:
            return Table(*(pd.DataFrame(index=np.zeros(0, np.int64)) for _ in range(3)))

        def keys(chunk: Chunk) -> dict[str, np.ndarray]:
            return {"key": columns.text_ids(space, chunk.columns[table.key])}

        def faults(chunk: Chunk) -> _Faults:
            yield f"{table.key} is missing", columns.is_missing(chunk.columns[table.key])
            key = pd.Series(keys(chunk)["key"])
            yield f"{table.key} stands twice", (key.duplicated() | key.isin(seen)).to_numpy()
            seen.update(key)

        seen: set[int] = set()
        read = self._read(table, [table.key], None, keys, faults)
        return Table(*(frame.set_index(read.keys["key"]) for frame in read))

    def _read(
        self,
        table: Impressions | Events | SideTable,
        wanted: Sequence[str | None],
        keep_where: RowFilter | None,
        keys: Callable[[Chunk], dict[str, np.ndarray]],
        faults: Callable[[Chunk], _Faults],
    ) -> Table:
        spec = self._spec
        categories = [f for f in table.fields if f.name in (*spec.cat_feature, *spec.behaviour)]
        dense = [f for f in table.fields if f.name in spec.dense_feature]
        numeric = [f.source for f in (*(f for f in categories if f.bucket), *dense)]
        wanted = [*wanted, *(f.source for f in (*categories, *dense))]
        wanted += [keep_where.column] if keep_where else []
        names = list(dict.fromkeys(filter(None, wanted)))
        bad = BadLines(posixpath.join(self._input_dir, table.file), spec.max_bad_fraction)
        self.bad[table.file] = bad
        parts = []
        for chunk in read_table(names, bad, delimiter=table.delimiter, missing=spec.missing):
            texts = chunk.columns
            not_numbers = [(f"{c} is no number", columns.not_numbers(texts[c])) for c in numeric]
            chunk = chunk.without([*faults(chunk), *not_numbers], bad)
            key = keys(chunk)
            ids = {f.name: self._ids(f, chunk, key.get("time")) for f in categories}
            values = {f.name: _dense(f, chunk) for f in dense}
            index = range(len(chunk))
            parts.append([pd.DataFrame(c, index=index) for c in (key, ids, values)])
        bad.check()
        return Table(*(pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True)))

    def _keys(self, chunk: Chunk, table: Impressions | Events, time: str) -> dict[str, np.ndarray]:
        shown = self._spec.impressions
        ms = columns.numbers(chunk.columns[time]) * _MS[table.time_unit]
        return {
            "user": columns.text_ids(self._spec.space(shown.user), chunk.columns[table.user]),
            "item": columns.text_ids(self._spec.space(shown.item), chunk.columns[table.item]),
            "time": np.rint(ms).astype(np.int64),
        }

    def _local_time(self, time_ms: np.ndarray) -> pd.DatetimeIndex:
        return columns.local_time(time_ms, self._spec.utc_offset_hours)

    def _ids(self, field: FieldRule, chunk: Chunk, time_ms: np.ndarray | None) -> np.ndarray:
        space = self._spec.space(field.name)
        if field.time:  # "hour" or "weekday"
            return columns.integer_ids(space, getattr(self._local_time(time_ms), field.time))
        texts = chunk.columns[field.source]
        if field.bucket:
            edges = None if field.bucket == "log2" else field.bucket
            return columns.integer_ids(space, columns.buckets(columns.numbers(texts), edges))
        if field.split:
            texts = pc.list_element(pc.split_pattern(texts, field.split, max_splits=1), 0)
        return columns.text_ids(space, texts)


def _dense(field: FieldRule, chunk: Chunk) -> np.ndarray:
    value = np.nan_to_num(columns.numbers(chunk.columns[field.source]))
    return (np.log1p(np.maximum(value, 0)) if field.log1p else value).astype(np.float32)


def _matches(chunk: Chunk, where: RowFilter | None) -> np.ndarray:
    if where is None:
        return np.ones(len(chunk), bool)
    texts = chunk.columns[where.column]
    if isinstance(where.equals, str):
        return pc.equal(texts, where.equals).to_numpy(zero_copy_only=False)
    return columns.numbers(texts) == where.equals


def _key_faults(chunk: Chunk, table: Impressions | Events, order_by: Sequence[str]) -> _Faults:
    for column in (table.user, table.item):
        yield f"{column} is missing", columns.is_missing(chunk.columns[column])
    for column in order_by:
        yield f"{column} is no number", np.isnan(columns.numbers(chunk.columns[column]))
    ms = columns.numbers(chunk.columns[order_by[0]]) * _MS[table.time_unit]
    never = (ms < 0) | (ms >= _YEAR_10000_MS)
    yield f"{order_by[0]} is no time in {table.time_unit} since 1970", never
