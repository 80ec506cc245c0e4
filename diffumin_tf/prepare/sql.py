"""The SQL that makes the joined form of a `TablesSpec`: one plan for every engine.

Raw tables are relations `raw_0` (the impressions), `raw_1`, … in the order of `TablesSpec.tables`,
with a column `_row`: the place of a row in its table. A statement a step:

    row_<k>   a table's rows as texts and numbers; `_fault` says why a row cannot be used
    shown, person, item   what is left of impressions, users and items
    event     past behaviours with their item's fields; `_n` numbers those of a user from old to new
    block     behaviours of a user as lists, some at a time
    sample    impressions, and how many behaviours of the user were earlier
    joined    a row a (user, day)

No row ever holds a list for an impression, so heavy users cost what their behaviours cost.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

from diffumin_tf.prepare.dialects import DuckDB
from diffumin_tf.prepare.spec import (
    Events,
    FieldRule,
    Impressions,
    RowFilter,
    SideTable,
    TablesSpec,
)
from diffumin_tf.prepare.sql_values import DAY_MS, Values, as_day, filter_value

Position = Callable[[int, str], tuple[str, ...]]  # of a column of the k-th table

_LONGEST_BLOCK = 1024  # behaviours


class Piece(NamedTuple):
    """What one file of the joined form holds: days, and buckets of users, both inclusive."""

    first: str
    last: str
    low: int
    high: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """The statements for a spec.

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
        for name, table in (
            ("shown", spec.impressions),
            ("person", spec.users),
            ("item", spec.items),
        ):
            if table:
                good = (
                    f"SELECT * FROM row_{spec.tables.index(table)} WHERE _kept AND _fault IS NULL"
                )
                yield create(name, good, stored=False)

    def join(self, shifts: dict[int, int], buckets: int = 1) -> Iterator[str]:
        """Makes `event`, `block` and `sample` of them.

        Args:
            shifts: milliseconds after which a behaviour of the k-th table counts; 0 when absent.
            buckets: of users; `_bucket` of `block` and `sample`, by which they are sorted.
        """
        bucket = f"{self.dialect.bucket_of('_u', str(buckets))} AS _bucket"
        order = " ORDER BY _bucket" if buckets > 1 else ""
        yield self.dialect.create("event", self._events(shifts))
        for name, query in (("block", self._blocks()), ("sample", self._samples())):
            bucketed = f"SELECT *, {bucket}\nFROM ({query}) q{order}"
            yield self.dialect.create(name, bucketed)

    def joined(self, where: str = "TRUE", bucket: str = "TRUE") -> str:
        """A query: the joined form of the samples that meet a condition.

        Args:
            bucket: the condition on `_bucket` that is part of it.
        """
        spec, column, d = self.spec, self.dialect.column, self.dialect
        shown = spec.impressions
        sample = {"order": "s._row", "label": "s._label", "time": "s._t"}
        if not d.row_is_number:
            del sample["order"]
        sample |= {"newer": "s._most - s._seen", shown.item: "s._i"}
        own = [f.name for f in shown.fields if f.name in self.features]
        sample |= {name: f"s.{column([name])}" for name in own}
        sample |= {name: f"item.{column([name])}" for name in self._of(spec.items)}
        listed = d.listed(d.struct(sample), "s._row")
        item = "LEFT JOIN item ON item._key = s._i" if spec.items else ""
        length = f"_most - greatest(_least - {spec.max_len}, 0)"
        user_day = "OVER (PARTITION BY _u, _day)"
        groups = (
            f"SELECT _u, _day, {listed} AS impressions, _most, _most - ({length}) AS _oldest\n"
            f"  FROM (SELECT *, max(_seen) {user_day} AS _most, min(_seen) {user_day} AS _least\n"
            f"    FROM sample WHERE {where}) s {item} GROUP BY _u, _day, _most, _least"
        )
        blocks = f"flatten({d.newest_first('block.h', 'block._b')})"
        history = d.slice(blocks, "(max(block._end) - _most)", "(_most - _oldest)")
        wanted = d.numbers(
            f"CAST(floor(_oldest / {self._block}.0) AS BIGINT)",
            f"CAST(floor((_most - 1) / {self._block}.0) AS BIGINT)",
        )
        person = "LEFT JOIN person ON person._key = g._u" if spec.users else ""
        columns = {shown.user: "g._u", "day": "g._day", "impressions": "g.impressions"}
        columns |= {name: f"person.{column([name])}" for name in self._of(spec.users)}
        empty = f"CAST({d.no_values} AS {d.list_type})"
        columns |= {
            f"{name}_list": f"coalesce({d.each('h.h', name)}, {empty})" for name in self.behaviours
        }
        return (
            f"WITH g AS (\n  {groups}),\n"
            f"h AS (SELECT w._u, w._day, {history} AS h\n"
            f"  FROM (SELECT _u, _day, _most, _oldest, {wanted} AS _b FROM g WHERE _most > 0) w\n"
            f"  JOIN block ON block._u = w._u AND block._b = w._b AND {bucket}\n"
            f"  GROUP BY w._u, w._day, _most, _oldest)\n"
            f"SELECT {self._named(columns)}\n"
            f"FROM g LEFT JOIN h ON h._u = g._u AND h._day = g._day {person}"
        )

    @property
    def behaviours(self) -> dict[str, str]:
        """The columns of `event` by the names of the behaviour fields."""
        item, column = self.spec.impressions.item, self.dialect.column
        return {n: "_i" if n == item else column([n]) for n in self.spec.behaviour}

    # ------------------------------------------------------------------ rows of a table

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
            derived["_day"] = as_day(self.dialect.date(f"floor({self._local} / {DAY_MS}.0)"))

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
        hour, day = "3600000", f"{DAY_MS}"
        number = {
            "hour": f"CAST(floor({self._local} / {hour}.0) AS BIGINT) % 24",
            "weekday": f"(CAST(floor({self._local} / {day}.0) AS BIGINT) + 3) % 7",
        }[part]
        return f"CAST({number} AS {self.dialect.text_type})"

    @property
    def _local(self) -> str:
        return f"(_t + {round(self.spec.utc_offset_hours * 3_600_000)})"

    def _named(self, columns: dict[str, str]) -> str:
        listed = (f"{value} AS {self.dialect.column([name])}" for name, value in columns.items())
        return ",\n    ".join(listed)

    # ------------------------------------------------------------------ behaviours

    def _events(self, shifts: dict[int, int]) -> str:
        spec, ties = self.spec, max([0, *(len(e.order_by) - 1 for e in self.spec.events)])
        of_item = [f.name for f in spec.items.fields] if spec.items else []
        own = [n for n in spec.behaviour if n not in (spec.impressions.item, *of_item)]
        tables = [(1 + k, e) for k, e in enumerate(spec.events)]
        if spec.impressions_are_events:
            tables.append((0, spec.impressions))
        parts = []
        for place, (k, table) in enumerate(tables):
            names = [f.name for f in table.fields]
            columns = {"_u": "_u", "_i": "_i", "_t": f"_t + {shifts.get(k, 0)}", "_k": str(place)}
            for j in range(ties):
                has = k and j + 1 < len(table.order_by)
                columns[f"_tie{j}"] = f"_tie{j}" if has else "CAST(NULL AS DOUBLE)"
            columns["_row"] = "_row"
            for name in own:
                null = f"CAST(NULL AS {self.dialect.text_type})"
                columns[name] = self.dialect.column([name]) if name in names else null
            where = "_event AND" if k == 0 else "_kept AND"
            parts.append(
                f"SELECT {self._named(columns)}\n  FROM row_{k} WHERE {where} _fault IS NULL"
            )
        past = "\n  UNION ALL ".join(parts)
        order = ", ".join(["_t", "_k", *(f"_tie{j}" for j in range(ties)), "_row"])
        fields = "".join(
            f", item.{self.dialect.column([n])}" for n in of_item if n in spec.behaviour
        )
        join = "LEFT JOIN item ON item._key = past._i" if spec.items else ""
        number = f"row_number() OVER (PARTITION BY _u ORDER BY {order}) - 1"
        return (
            f"SELECT past.*{fields}\nFROM (SELECT *, {number} AS _n\n  FROM ({past}) p) past {join}"
        )

    @property
    def _block(self) -> int:
        return min(max(self.spec.max_len, 16), _LONGEST_BLOCK)

    def _blocks(self) -> str:
        behaviour = self.dialect.struct(self.behaviours)
        listed = f"{self.dialect.newest_first(behaviour, '_n')} AS h"
        block = f"CAST(floor(_n / {self._block}.0) AS BIGINT)"
        return (
            f"SELECT _u, {block} AS _b, max(_n) + 1 AS _end, {listed}\n"
            f"FROM event GROUP BY _u, {block}"
        )

    # ------------------------------------------------------------------ impressions

    def _samples(self) -> str:
        """Impressions with `_seen`, the number of the user's behaviours that are earlier."""
        spec, column = self.spec, self.dialect.column
        fields = [f.name for f in spec.impressions.fields if f.name in self.features]
        names = ["_row", "_u", "_i", "_t", "_day", "_label", *map(lambda n: column([n]), fields)]
        shown = ", ".join(names)
        nothing = ", ".join(
            {"_u": "_u", "_i": "_i", "_t": "_t"}.get(n, f"NULL AS {n}") for n in names
        )
        before = "ORDER BY _t, _past ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
        days = " AND _day BETWEEN {} AND {}".format(*map(int, spec.days)) if spec.days else ""
        return (
            f"SELECT {shown}, _seen\nFROM (SELECT {shown}, _past,\n"
            f"    CAST(sum(_past) OVER (PARTITION BY _u {before}) AS BIGINT) AS _seen\n"
            f"  FROM (SELECT {shown}, 0 AS _past FROM shown\n"
            f"    UNION ALL SELECT {nothing}, 1 FROM event) b) c\n"
            f"WHERE _past = 0{days}"
        )

    @property
    def features(self) -> tuple[str, ...]:
        return (*self.spec.cat_feature, *self.spec.dense_feature)

    def _of(self, table: SideTable | None) -> list[str]:
        names = [f.name for f in table.fields] if table else []
        return [name for name in names if name in self.features]
