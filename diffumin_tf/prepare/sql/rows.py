"""SQL that reads the rows of raw tables: texts, what they mean, and why a row cannot be used."""

import dataclasses
from collections.abc import Callable, Iterator

from diffumin_tf.prepare.spec.tables import (
    Events,
    FieldRule,
    Impressions,
    RowFilter,
    SideTable,
    TablesSpec,
)
from diffumin_tf.prepare.sql.dialects import DuckDB
from diffumin_tf.prepare.sql.values import Values, as_day, filter_value
from diffumin_tf.prepare.times import DAY_MS, HOUR_MS

Position = Callable[[int, str], tuple[str, ...]]  # of a column of the k-th table


def good_rows(k: int) -> str:
    """What stands after FROM for the rows of the k-th table that count."""
    return f"row_{k} WHERE _kept AND _fault IS NULL"


@dataclasses.dataclass(frozen=True)
class RowPlan:
    """The statements that make `row_<k>`, `shown`, `person` and `item`, see `plan.py`.

    Attributes:
        position: the steps to a column of the k-th table, see `Source.position`.
    """

    spec: TablesSpec
    dialect: DuckDB
    position: Position = lambda table, column: (column,)

    def rows(self) -> Iterator[str]:
        """Makes `row_<k>` of every table, and `shown`, `person`, `item`."""
        create, spec = self.dialect.create, self.spec
        for k, table in enumerate(spec.tables):
            yield create(f"row_{k}", self._rows_of(k, table))
        named = {"shown": spec.impressions, "person": spec.users, "item": spec.items}
        for name, table in named.items():
            if table:
                good = good_rows(spec.tables.index(table))
                yield create(name, f"SELECT * FROM {good}", stored=False)

    def columns(self, k: int) -> list[str]:
        """The columns of the k-th table that are read."""
        table = self.spec.tables[k]
        if isinstance(table, SideTable):
            names = [table.key]
        elif isinstance(table, Events):
            names = [table.user, table.item, *table.order_by]
            names += [table.keep_where.column] if table.keep_where else []
        else:
            names = [table.user, table.item, table.time, table.label.column, table.day]
            as_events = self.spec.impressions_are_events
            names += [as_events.keep_where.column] if as_events and as_events.keep_where else []
        names += [field.source for field in table.fields if self.spec.uses(field)]
        return list(dict.fromkeys(filter(None, names)))

    def numeric_fields(self, k: int) -> list[FieldRule]:
        """The fields of the k-th table that are read as numbers."""
        fields = filter(self.spec.uses, self.spec.tables[k].fields)
        return [f for f in fields if f.bucket or f.name in self.spec.dense_feature]

    def _numbers(self, k: int) -> list[str]:
        """The columns of the k-th table that are read as numbers."""
        table = self.spec.tables[k]
        names = [field.source for field in self.numeric_fields(k)]
        where = self._filter_of(table)
        if where and not isinstance(filter_value(where), str):
            names.append(where.column)
        if isinstance(table, Impressions):
            names.append(table.label.column)
        if isinstance(table, Events):
            names += table.order_by[1:]
        return list(dict.fromkeys(names))

    def _filter_of(self, table: Impressions | Events | SideTable) -> RowFilter | None:
        if isinstance(table, Events):
            return table.keep_where
        as_events = self.spec.impressions_are_events
        return as_events.keep_where if as_events and isinstance(table, Impressions) else None

    def _rows_of(self, k: int, table: Impressions | Events | SideTable) -> str:
        values, raw, number = Values(self.spec, self.dialect), self._raw, self._number
        columns, derived = {"_row": "_row", "_kept": "TRUE"}, {}
        if isinstance(table, SideTable):
            columns["_key"] = values.key(raw(table.key))
            derived["_nth"] = "row_number() OVER (PARTITION BY _key ORDER BY _row)"
            faults = {
                "_key IS NULL": f"{table.key} is missing",
                "_nth > 1": f"{table.key} stands twice",
            }
        else:
            time = table.time if isinstance(table, Impressions) else table.order_by[0]
            columns["_u"], columns["_i"] = values.key(raw(table.user)), values.key(raw(table.item))
            columns["_t"] = values.time(raw(time), table.time_unit, table.time_zone)
            kind = f"time in {table.time_unit} since 1970" if table.time_unit else "date-time"
            faults = {
                "_u IS NULL": f"{table.user} is missing",
                "_i IS NULL": f"{table.item} is missing",
                "_t IS NULL": f"{time} is no {kind}",
            }
        where = self._filter_of(table)
        kept = where and values.keeps(where, raw(where.column), number(where.column))
        if isinstance(table, Events):
            columns["_kept"] = kept or "TRUE"
            for j, column in enumerate(table.order_by[1:]):
                columns[f"_tie{j}"] = number(column)
                faults[f"_tie{j} IS NULL"] = f"{column} is no number"
        if isinstance(table, Impressions):
            columns["_event"] = kept or str(bool(self.spec.impressions_are_events)).upper()
            self._of_impressions(values, columns, derived, faults)
        for field in filter(self.spec.uses, table.fields):
            if field.time:
                derived[field.name] = self._clock(field.time)
                continue
            columns[field.name] = values.field(field, raw(field.source), number(field.source))
            if field in self.numeric_fields(k):
                is_bad = f"{raw(field.source)} IS NOT NULL AND {number(field.source)} IS NULL"
                columns[f"_bad {field.name}"] = f"({is_bad})"
        cases = " ".join(f"WHEN {w} THEN {self.dialect.literal(why)}" for w, why in faults.items())
        query = f"SELECT {self._named(columns)}\n  FROM ({self._parsed(k)})"
        query = f"SELECT *, {self._named(derived)}\n  FROM ({query})" if derived else query
        return f"SELECT *, CASE {cases} END AS _fault\nFROM ({query})"

    def _of_impressions(self, values: Values, columns: dict, derived: dict, faults: dict) -> None:
        shown = self.spec.impressions
        columns["_label"] = values.label(shown.label, self._number(shown.label.column))
        what = "neither 0 nor 1" if shown.label.at_least is None else "no number"
        faults["_label IS NULL"] = f"label {shown.label.column} is {what}"
        if shown.day:
            columns["_day"] = as_day("_date")
            faults["_day IS NULL"] = f"{shown.day} is no day"
        else:
            derived["_day"] = self.local_day

    def _parsed(self, k: int) -> str:
        """A query: the texts of the k-th table, and the numbers and dates among them."""
        values = Values(self.spec, self.dialect)
        columns = {f"number {n}": values.number(self._raw(n)) for n in self._numbers(k)}
        if k == 0 and self.spec.impressions.day:
            columns["_date"] = values.date(self._raw(self.spec.impressions.day))
        more = f", {self._named(columns)}" if columns else ""
        return f"SELECT *{more}\n  FROM ({self.texts(k)})"

    def _number(self, column: str) -> str:
        return self.dialect.column([f"number {column}"])

    def _raw(self, column: str) -> str:
        return self.dialect.column([f"raw {column}"])

    def texts(self, k: int) -> str:
        """A query: the columns of the k-th table that are read, as texts and lists of texts."""
        values, d = Values(self.spec, self.dialect), self.dialect
        lists = {f.source for f in self.spec.tables[k].fields if f.lists}
        columns = {"_row": "_row"}
        for name in self.columns(k):
            found = d.column(self.position(k, name))
            as_list = f"CAST({found} AS {d.list_type})"
            columns[f"raw {name}"] = as_list if name in lists else values.text(found)
        return f"SELECT {self._named(columns)}\n  FROM raw_{k}"

    def _clock(self, part: str) -> str:
        """The local hour, or the weekday with Monday as 0, as text."""
        number = {
            "hour": f"CAST(floor({self._local} / {HOUR_MS}.0) AS BIGINT) % 24",
            "weekday": f"(CAST(floor({self._local} / {DAY_MS}.0) AS BIGINT) + 3) % 7",
        }[part]
        return f"CAST({number} AS {self.dialect.text_type})"

    @property
    def local_day(self) -> str:
        """The day of `_t` on the local clock, as the number yyyymmdd."""
        return as_day(self.dialect.date(f"floor({self._local} / {DAY_MS}.0)"))

    @property
    def _local(self) -> str:
        return f"(_t + {round(self.spec.utc_offset_hours * HOUR_MS)})"

    def _named(self, columns: dict[str, str]) -> str:
        listed = (f"{value} AS {self.dialect.column([name])}" for name, value in columns.items())
        return ",\n    ".join(listed)
