"""The tables of a spec, read, looked at and joined by an engine."""

import dataclasses
import itertools
from collections.abc import Iterator

import pyarrow as pa

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.prepare.files import list_files
from diffumin_tf.prepare.spec.tables import Events, Impressions, TablesSpec
from diffumin_tf.prepare.sql.dialects import DIALECTS
from diffumin_tf.prepare.sql.plan import Piece, Plan
from diffumin_tf.prepare.sql.rows import RowPlan
from diffumin_tf.prepare.tables import accounts, clocks, plausible, sources, survey
from diffumin_tf.prepare.tables.duckdb_engine import DuckDBEngine
from diffumin_tf.prepare.tables.findings import Findings

_BUCKET_ROWS = 100_000  # impressions and behaviours of the users that share a bucket
# Of a part at most: what is in memory at once.
_PART_SAMPLES, _PART_VALUES = 50_000, 1_000_000


class Join:
    """The tables of a spec, read and looked at by an engine, and joined by it.

    Attributes:
        facts: what was found out about the data.
        days: impressions, and values of histories, by day (yyyymmdd).

    Raises:
        DataError: a table cannot be used, or holds what can only be a mistake.
    """

    def __init__(self, spec: TablesSpec, input_dir: str, engine: DuckDBEngine, work: str) -> None:
        self._spec, self._engine = spec, engine
        self._sources = open_sources(spec, input_dir, work)
        self.plan = plan = Plan(
            spec, engine.dialect, lambda k, column: self._sources[k].position(column)
        )
        for k, source in enumerate(self._sources):
            _check_kinds(plan, k, source)
            engine.add(k, source)
        found = Findings(spec.allow)
        self.facts = found.facts
        clocks.check_units(plan, engine, self._sources)
        survey.printed_lists(plan, engine, self._sources, found)
        for statement in plan.rows():
            engine.execute(statement)
        for k, source in enumerate(self._sources):
            found.facts["tables"][source.name] = accounts.account(plan, engine, k, source)
        survey.filters_and_lines(plan, engine, self._sources, found)
        shifts = clocks.clocks(plan, engine, self._sources, found)
        survey.matches(plan, engine, self._sources, found)
        rows = sum(t["rows"] for t in found.facts["tables"].values() if "time" in t)
        self._buckets = min(max(rows // _BUCKET_ROWS, spec.parts), engine.most_buckets)
        for statement in plan.join(shifts, self._buckets):
            engine.execute(statement)
        self.days = self._sizes()
        if spec.days:
            (row,) = engine.rows("SELECT count(*) AS n FROM shown")
            found.facts["outside_of_days"] = row["n"] - sum(n for n, _ in self.days.values())
        plausible.look(plan, engine, self._sources, found)
        survey.histories(plan, engine, found)
        survey.days(plan, engine, found)

    def _sizes(self) -> dict[str, tuple[int, int]]:
        length = f"max(_seen) - greatest(min(_seen) - {self._spec.max_len}, 0)"
        rows = self._engine.rows(
            "SELECT _day, sum(n) AS samples, sum(length) AS behaviours FROM (SELECT _day, "
            f"count(*) AS n, {length} AS length FROM sample GROUP BY _u, _day) g "
            "GROUP BY _day ORDER BY _day"
        )
        if not rows:
            raise DataError(
                f"{self._sources[0].where}: no impression lies within the days {self._spec.days}"
            )
        fields = len(self._spec.behaviour)
        return {
            f"{row['_day']:08d}": (int(row["samples"]), int(row["behaviours"]) * fields)
            for row in rows
        }

    def write(self, days: list[str], folder: str) -> list[str]:
        """Writes the joined form of some days; returns the files."""
        return self._engine.write(self.plan, list(self._pieces(days)), folder)

    def _pieces(self, days: list[str]) -> Iterator[Piece]:
        """First and last day, first and last bucket of each file: several small days, or a part."""
        together: list[str] = []
        samples = values = 0
        for day in days:
            n, size = self.days[day]
            parts = max(self._spec.parts, -(-n // _PART_SAMPLES), -(-size // _PART_VALUES))
            parts = min(parts, self._buckets)
            full = samples + n > _PART_SAMPLES or values + size > _PART_VALUES or parts > 1
            if together and full:
                yield Piece(together[0], together[-1], 0, self._buckets - 1)
                together, samples, values = [], 0, 0
            if parts == 1:
                together.append(day)
                samples, values = samples + n, values + size
                continue
            edges = [self._buckets * i // parts for i in range(parts + 1)]
            for low, high in itertools.pairwise(edges):
                yield Piece(day, day, low, high - 1)
        if together:
            yield Piece(together[0], together[-1], 0, self._buckets - 1)


def open_sources(spec: TablesSpec, input_dir: str, work: str) -> list[sources.Source]:
    """The files of every table of a spec; a second table of a file is named `file (2)`."""
    opened: list[sources.Source] = []
    for k, table in enumerate(spec.tables):
        paths = [file.path for file in list_files(input_dir, table.file)]
        before = sum(other.paths == paths for other in opened)
        needed = RowPlan(spec, DIALECTS["duckdb"]).columns(k)
        source = sources.open_source(
            paths, table.file, work, table.delimiter, table.quoting, needed=needed
        )
        name = f"{source.name} ({before + 1})" if before else source.name
        opened.append(dataclasses.replace(source, name=name))
    return opened


def _check_kinds(plan: Plan, k: int, source: sources.Source) -> None:
    """Columns of lists are named as such in the spec, and no others; nothing else is nested."""
    table = plan.spec.tables[k]
    lists = {f.source for f in table.fields if f.lists}
    for column in plan.columns(k):
        kind = source.type_of(column)
        where = f"{source.where}: column {column!r} holds"
        is_list = any(test(kind) for test in sources.LISTS)
        if is_list and column not in lists:
            raise ConfigError(
                f"{where} lists; a field of several values says "
                f'{{"name": "{column}", "lists": true}}'
            )
        if not is_list and column in lists:
            raise ConfigError(f"{where} {kind}, not lists")
        if pa.types.is_nested(kind.value_type if is_list else kind):
            advice = f"; name a field of it, such as {column}.{kind.field(0).name}"
            raise ConfigError(
                f"{where} {kind}, not values{advice if pa.types.is_struct(kind) else ''}"
            )
    if isinstance(table, Impressions | Events):
        column = clocks.time_column(table)
        kind = source.type_of(column)
        if kind in (pa.float16(), pa.float32()):
            raise ConfigError(
                f"{source.where}: column {column!r} holds {kind}, which is off by a minute or "
                "more; write times as int64, float64 or timestamps"
            )
