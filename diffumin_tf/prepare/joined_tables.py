"""The tables of a `TablesSpec` in memory: ids and numbers by field name, no texts."""

import dataclasses
import posixpath
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from diffumin_tf.prepare import columns
from diffumin_tf.prepare.bad_lines import BadLines
from diffumin_tf.prepare.spec import (
    Events,
    FieldRule,
    Impressions,
    RowFilter,
    SideTable,
    TablesSpec,
)
from diffumin_tf.prepare.tables import Chunk, read_table

_MS = {"ms": 1.0, "s": 1000.0}
_YEAR_10000_MS = 253_402_300_800_000  # A time beyond it is one in the wrong unit.

_Columns = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Table:
    """One table, column by column.

    Attributes:
        keys: user and item ids int64 [n], time in ms int64 [n], …: what joins and orders the rows.
        ids: categorical fields int64 [n].
        values: dense fields float32 [n].
        bad: the account of the file.
    """

    keys: _Columns
    ids: _Columns
    values: _Columns
    bad: BadLines

    def __len__(self) -> int:
        return len(next(iter(self.keys.values())))


@dataclasses.dataclass(frozen=True)
class Lookup:
    """A side table: sorted keys int64 [n], fields [n + 1] whose last row is "not there"."""

    keys: np.ndarray
    ids: _Columns
    values: _Columns

    def rows(self, keys: np.ndarray) -> np.ndarray:
        """Row of each key int64 [m]; n where the table has no such key."""
        at = np.minimum(np.searchsorted(self.keys, keys), max(len(self.keys) - 1, 0))
        found = self.keys[at] == keys if len(self.keys) else np.zeros(len(keys), bool)
        return np.where(found, at, len(self.keys))


class TableReader:
    """Reads the tables of a spec from a folder.

    Args:
        spec: the spec.
        input_dir: the folder.

    Attributes:
        bad: accounts of the files read so far, by file name.
        dropped: good rows that were left out, by reason.
    """

    def __init__(self, spec: TablesSpec, input_dir: str) -> None:
        self._spec = spec
        self._input_dir = input_dir
        self._categories = {*spec.cat_feature, *spec.behaviour}
        self.bad: dict[str, BadLines] = {}
        self.dropped: dict[str, int] = {}

    def impressions(self) -> Table:
        """The log: keys `user`, `item`, `time`, `day`, `label` and `is_event`."""
        shown = self._spec.impressions
        as_events = self._spec.impressions_are_events
        keep_where = as_events.keep_where if as_events else None

        def keys(chunk: Chunk) -> _Columns:
            value = columns.numbers(chunk.columns[shown.label.column])
            least = shown.label.at_least
            own = self._keys(chunk, shown, shown.time)
            if shown.day:
                own["day"] = columns.named_days(chunk.columns[shown.day])
            else:
                own["day"] = columns.local_days(own["time"], self._spec.utc_offset_hours)
            return {
                **own,
                "label": (value == 1 if least is None else value >= least).astype(np.int64),
                "is_event": np.full(len(chunk), bool(as_events)) & _matches(chunk, keep_where),
            }

        def faults(chunk: Chunk) -> Iterator[tuple[str, np.ndarray]]:
            yield from _key_faults(chunk, shown, [shown.time])
            if shown.day:
                yield f"{shown.day} is no day", columns.named_days(chunk.columns[shown.day]) == 0
            value = columns.numbers(chunk.columns[shown.label.column])
            if shown.label.at_least is None:
                yield f"label {shown.label.column} is neither 0 nor 1", ~np.isin(value, (0, 1))
            else:
                yield f"label {shown.label.column} is no number", np.isnan(value)

        wanted = [shown.user, shown.item, shown.time, shown.label.column]
        wanted += [shown.day] if shown.day else []
        return self._read(shown, wanted, keep_where, keys, faults)

    def events(self, table: Events) -> Table:
        """Behaviours, older to newer where times are equal: keys `user`, `item`, `time`."""

        def keys(chunk: Chunk) -> _Columns:
            order = {str(i): columns.numbers(chunk.columns[c]) for i, c in enumerate(order_by)}
            kept = {"is_event": _matches(chunk, table.keep_where)}
            return {**self._keys(chunk, table, table.order_by[0]), **order, **kept}

        def faults(chunk: Chunk) -> Iterator[tuple[str, np.ndarray]]:
            yield from _key_faults(chunk, table, table.order_by)

        order_by = table.order_by[1:]
        wanted = [table.user, table.item, *table.order_by]
        read = self._read(table, wanted, table.keep_where, keys, faults)
        rows = np.flatnonzero(read.keys["is_event"])
        if table.keep_where:
            self.dropped[f"{table.file}: not kept by keep_where"] = len(read) - len(rows)
        if order_by:
            last_is_primary = [read.keys[str(i)][rows] for i in reversed(range(len(order_by)))]
            rows = rows[np.lexsort(last_is_primary)]
        kept = {name: read.keys[name][rows] for name in ("user", "item", "time")}
        return Table(kept, {n: v[rows] for n, v in read.ids.items()}, {}, read.bad)

    def side_table(self, table: SideTable | None, space: str) -> Lookup:
        """A side table whose key lies in the id space `space`; empty for None."""
        if table is None:
            return Lookup(np.zeros(0, np.int64), {}, {})

        def keys(chunk: Chunk) -> _Columns:
            return {"key": columns.text_ids(space, chunk.columns[table.key])}

        def faults(chunk: Chunk) -> Iterator[tuple[str, np.ndarray]]:
            missing = columns.is_missing(chunk.columns[table.key])
            yield f"{table.key} is missing", missing
            key = keys(chunk)["key"].tolist()
            # `add` returns None: a key is a repetition unless it has just been added.
            twice = [k in seen or seen.add(k) is not None for k in key]
            yield f"{table.key} stands twice", np.array(twice, bool)

        seen: set[int] = set()
        read = self._read(table, [table.key], None, keys, faults)
        order = np.argsort(read.keys["key"])
        return Lookup(
            read.keys["key"][order],
            {name: np.append(column[order], 0) for name, column in read.ids.items()},
            {name: np.append(column[order], np.float32(0)) for name, column in read.values.items()},
        )

    def _read(
        self,
        table: Impressions | Events | SideTable,
        wanted: Sequence[str],
        keep_where: RowFilter | None,
        keys: Callable[[Chunk], _Columns],
        faults: Callable[[Chunk], Iterator[tuple[str, np.ndarray]]],
    ) -> Table:
        spec = self._spec
        categories = [f for f in table.fields if f.name in self._categories]
        dense = [f for f in table.fields if f.name in spec.dense_feature]
        numeric = [f.source for f in (*(f for f in categories if f.bucket), *dense)]
        sources = [f.source for f in (*categories, *dense) if f.source]
        filtered = [keep_where.column] if keep_where else []
        path = posixpath.join(self._input_dir, table.file)
        bad = self.bad[table.file] = BadLines(path, spec.max_bad_fraction)
        parts: list[tuple[_Columns, _Columns, _Columns]] = []
        for chunk in read_table(
            path,
            list(dict.fromkeys([*wanted, *sources, *filtered])),
            bad,
            delimiter=table.delimiter,
            missing=spec.missing,
        ):
            chunk = chunk.without(list(faults(chunk)), bad)
            not_numbers = [
                (f"{c} is no number", columns.not_numbers(chunk.columns[c])) for c in numeric
            ]
            chunk = chunk.without(not_numbers, bad)
            key = keys(chunk)
            ids = {f.name: self._ids(f, chunk, key.get("time")) for f in categories}
            parts.append((key, ids, {f.name: _dense(f, chunk) for f in dense}))
        bad.check()
        return Table(*(_concatenate([part[i] for part in parts]) for i in range(3)), bad)

    def _keys(self, chunk: Chunk, table: Impressions | Events, time: str) -> _Columns:
        shown = self._spec.impressions
        ms = columns.numbers(chunk.columns[time]) * _MS[table.time_unit]
        return {
            "user": columns.text_ids(self._spec.space(shown.user), chunk.columns[table.user]),
            "item": columns.text_ids(self._spec.space(shown.item), chunk.columns[table.item]),
            "time": np.rint(ms).astype(np.int64),
        }

    def _ids(self, field: FieldRule, chunk: Chunk, time_ms: np.ndarray | None) -> np.ndarray:
        space = self._spec.space(field.name)
        if field.time:
            part = columns.time_part(time_ms, field.time, self._spec.utc_offset_hours)
            return columns.integer_ids(space, part)
        texts = chunk.columns[field.source]
        if field.bucket:
            edges = None if field.bucket == "log2" else field.bucket
            bucket = columns.buckets(columns.numbers(texts), edges)
            return columns.integer_ids(space, bucket)
        return columns.text_ids(
            space, columns.first_value(texts, field.split) if field.split else texts
        )


def _dense(field: FieldRule, chunk: Chunk) -> np.ndarray:
    value = np.nan_to_num(columns.numbers(chunk.columns[field.source]))
    return (np.log1p(np.maximum(value, 0)) if field.log1p else value).astype(np.float32)


def _matches(chunk: Chunk, where: RowFilter | None) -> np.ndarray:
    if where is None:
        return np.ones(len(chunk), bool)
    texts = chunk.columns[where.column]
    if isinstance(where.equals, str):
        return np.array([text == where.equals for text in texts.to_pylist()], bool)
    return columns.numbers(texts) == where.equals


def _key_faults(
    chunk: Chunk, table: Impressions | Events, order_by: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    for column in (table.user, table.item):
        yield f"{column} is missing", columns.is_missing(chunk.columns[column])
    for column in order_by:
        yield f"{column} is no number", np.isnan(columns.numbers(chunk.columns[column]))
    ms = columns.numbers(chunk.columns[order_by[0]]) * _MS[table.time_unit]
    never = (ms < 0) | (ms >= _YEAR_10000_MS)
    yield f"{order_by[0]} is no time in {table.time_unit} since 1970", never


def _concatenate(parts: list[_Columns]) -> _Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
