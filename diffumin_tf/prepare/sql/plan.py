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

from collections.abc import Iterator
from typing import NamedTuple

from diffumin_tf.prepare.spec.tables import Impressions, SideTable
from diffumin_tf.prepare.sql.rows import RowPlan

_LONGEST_BLOCK = 1024  # behaviours
_BUCKETS_AT_ONCE = 8


class Piece(NamedTuple):
    """What one file of the joined form holds: days, and buckets of users, both inclusive."""

    first: str
    last: str
    low: int
    high: int


class Plan(RowPlan):
    """All statements for a spec."""

    def join(self, shifts: dict[int, int], buckets: int = 1) -> Iterator[str]:
        """Makes `event`, `block` and `sample` of them.

        Args:
            shifts: milliseconds after which a behaviour of the k-th table counts; 0 when absent.
            buckets: of users; `_bucket` of all three, by which they are sorted.
        """
        bucket = f"{self.dialect.bucket_of('_u', str(buckets))} AS _bucket"
        order = " ORDER BY _bucket" if buckets > 1 else ""
        for name, query in (("event", self._events(shifts)), ("sample", self._samples())):
            bucketed = f"SELECT *, {bucket}\nFROM ({query}) q{order}"
            yield self.dialect.create(name, bucketed)
        # Lists that are being made do not go to the disk: some buckets at a time.
        yield self.dialect.create("block", self._blocks(f"_bucket < {_BUCKETS_AT_ONCE}"))
        for low in range(_BUCKETS_AT_ONCE, buckets, _BUCKETS_AT_ONCE):
            some = f"_bucket BETWEEN {low} AND {low + _BUCKETS_AT_ONCE - 1}"
            yield f"INSERT INTO block\n{self._blocks(some)}"

    def joined(self, where: str = "TRUE", bucket: str = "TRUE") -> str:
        """A query: the joined form of the samples that meet a condition.

        Args:
            bucket: the condition on `_bucket` that is part of it.
        """
        spec, shown, d = self.spec, self.spec.impressions, self.dialect
        listed = d.listed(d.struct(self.of_impression), "s._row")
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
        columns |= self.features_of(spec.users, "person")
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
    def of_impression(self) -> dict[str, str]:
        """What the joined form has of each impression; columns of `sample` and `item` by name."""
        # Without a number for the place of a row, samples are written in the order of their time.
        order = "s._row" if self.dialect.row_is_number else "s._t"
        shown = self.spec.impressions
        sample = {"order": order, "label": "s._label", "time": "s._t"}
        sample |= {"newer": "s._most - s._seen", shown.item: "s._i"}
        return sample | self.features_of(shown, "s") | self.features_of(self.spec.items, "item")

    @property
    def behaviours(self) -> dict[str, str]:
        """The columns of `event` by the names of the behaviour fields."""
        item, column = self.spec.impressions.item, self.dialect.column
        return {n: "_i" if n == item else column([n]) for n in self.spec.behaviour}

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

    def _blocks(self, where: str) -> str:
        behaviour = self.dialect.struct(self.behaviours)
        listed = f"{self.dialect.newest_first(behaviour, '_n')} AS h"
        block = f"CAST(floor(_n / {self._block}.0) AS BIGINT)"
        return (
            f"SELECT _u, {block} AS _b, max(_n) + 1 AS _end, {listed}, max(_bucket) AS _bucket\n"
            f"FROM event WHERE {where} GROUP BY _u, {block}"
        )

    # ------------------------------------------------------------------ impressions

    def _samples(self) -> str:
        """Impressions with `_seen`, the number of the user's behaviours that are earlier."""
        spec = self.spec
        names = ["_row", "_u", "_i", "_t", "_day", "_label"]
        names += map(self.dialect.column, ([n] for n in self.features_of(spec.impressions, "")))
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

    def features_of(self, table: Impressions | SideTable | None, alias: str) -> dict[str, str]:
        """The features that are fields of a table; columns of its relation by their names."""
        features = (*self.spec.cat_feature, *self.spec.dense_feature)
        names = [f.name for f in table.fields if f.name in features] if table else []
        return {name: self.dialect.column([alias, name]) for name in names}
