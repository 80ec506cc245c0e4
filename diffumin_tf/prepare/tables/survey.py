"""What the tables say about themselves and each other; what can only be a mistake is refused."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from diffumin_tf.prepare.spec.tables import FieldRule, RowFilter
from diffumin_tf.prepare.sql.plan import Plan
from diffumin_tf.prepare.sql.rows import good_rows
from diffumin_tf.prepare.sql.values import Values
from diffumin_tf.prepare.tables.duckdb_engine import DuckDBEngine
from diffumin_tf.prepare.tables.findings import FEW_ROWS, Findings
from diffumin_tf.prepare.tables.sources import Source

_LOW_MATCH = 0.5
_EXAMPLES = 2
_LOOKED_AT = 200_000  # impressions, for the candidate in its own history
# ['a', 'b'], ("a",), [1, 2] or {a,b}, as programs print a list; "[30,60)" is a range.
_PRINTED_LIST = r"[\[(] ?(['\"].*['\"],?|-?[0-9.]+(,? -?[0-9.]+)+) ?[\])]|\{.*\}"
_PRINTED_LIST += r"|\[-?[0-9.]+(,-?[0-9.]+){2,}\]"


def filters_and_lines(
    plan: Plan, engine: DuckDBEngine, sources: Sequence[Source], found: Findings
) -> None:
    """Filters that keep nothing or everything, and lines that quotes swallowed."""
    for k, table in enumerate(plan.spec.tables):
        facts = found.facts["tables"][sources[k].name]
        within = facts.get("lines_within_quotes", 0)
        if within > plan.spec.max_bad_fraction * facts["rows"]:
            found.refuse(
                "swallowed_lines",
                f"{sources[k].where}: {within} of {within + facts['rows']} lines lie inside of "
                'quoted cells; if no cell is quoted, set "quoting": "none"',
            )
        elif within:
            found.warn(f"{sources[k].name}: {within} lines lie inside of quoted cells")
        filtered = table if k else plan.spec.impressions_are_events
        where = getattr(filtered, "keep_where", None)
        if where:
            _filter(plan, engine, k, sources[k], where, found)


def _filter(
    plan: Plan, engine: DuckDBEngine, k: int, source: Source, where: RowFilter, found: Findings
) -> None:
    flag = "_kept" if k else "_event"
    (row,) = engine.rows(
        f"SELECT count(*) AS n, sum(CASE WHEN {flag} THEN 1 ELSE 0 END) AS kept "
        f"FROM row_{k} WHERE _fault IS NULL OR NOT {flag}"
    )
    rule = f"keep_where {where.column!r} equals {where.equals!r}"
    if not row["kept"]:
        raw = plan.dialect.column([f"raw {where.column}"])
        values = engine.rows(
            f"SELECT DISTINCT {raw} AS v FROM ({plan.texts(k)}) t "
            f"WHERE {raw} IS NOT NULL ORDER BY v LIMIT 5"
        )
        there = ", ".join(repr(value["v"]) for value in values) or "nothing"
        line = f"{source.where}: {rule} keeps no row; the column holds {there}"
        found.refuse("filter_keeps_nothing", line)
    elif row["kept"] == row["n"]:
        found.warn(f"{source.name}: {rule} keeps every row")


def printed_lists(
    plan: Plan, engine: DuckDBEngine, sources: Sequence[Source], found: Findings
) -> None:
    """Cells such as `['a', 'b']`, which would be one category, or be split at the wrong places."""
    for k, table in enumerate(plan.spec.tables):
        for field in table.fields:
            if not plan.spec.uses(field) or field.time or field.bucket or field.lists:
                continue
            raw = plan.dialect.column([f"raw {field.source}"])
            query = f"SELECT {raw} AS v FROM ({plan.texts(k)}) t WHERE {raw} IS NOT NULL LIMIT 1000"
            values = [row["v"] for row in engine.rows(query)]
            printed = [v for v in values if re.fullmatch(_PRINTED_LIST, v)]
            if len(printed) > len(values) / 2:
                found.refuse(
                    "printed_lists",
                    f"{sources[k].where}: {field.source!r} holds printed lists such as "
                    f"{printed[0]!r}; write the values with a separator, or as a list of Parquet",
                )


class _Side(NamedTuple):
    """One side of a join."""

    name: str
    value: str  # the column
    rows: str  # the relation


_Pairs = Iterator[tuple[_Side, _Side]]


def matches(plan: Plan, engine: DuckDBEngine, sources: Sequence[Source], found: Findings) -> None:
    """How many of the values on one side of every join and shared id space stand on the other."""
    spec = plan.spec
    # Another table of events may be the one that has them.
    is_only_past = len(spec.events) == 1 and not spec.impressions_are_events
    names = [source.name for source in sources]
    for here, there in _side_tables(plan, names):
        _match(engine, found, here, there, must=True)
    for here, there in _past(plan, names):
        _match(engine, found, here, there, must=is_only_past)
    for here, there in _shared_fields(plan, names):
        _match(engine, found, here, there, must=False)


def _side_tables(plan: Plan, names: Sequence[str]) -> _Pairs:
    spec, shown = plan.spec, plan.spec.impressions
    users = [_Side(f"{names[0]}.{shown.user}", "_u", "shown")]
    items = [_Side(f"{names[0]}.{shown.item}", "_i", "shown")]
    items += [
        _Side(f"{names[k]}.{e.item}", "_i", good_rows(k)) for k, e in enumerate(spec.events, 1)
    ]
    for table, rows, sides in ((spec.users, "person", users), (spec.items, "item", items)):
        for side in sides if table else ():
            yield side, _Side(f"{names[spec.tables.index(table)]}.{table.key}", "_key", rows)


def _past(plan: Plan, names: Sequence[str]) -> _Pairs:
    """Users and items of the impressions and of each table of events."""
    shown = plan.spec.impressions
    for k, table in enumerate(plan.spec.events, 1):
        for here, there, key in ((shown.user, table.user, "_u"), (shown.item, table.item, "_i")):
            mine = _Side(f"{names[0]}.{here}", key, "shown")
            yield mine, _Side(f"{names[k]}.{there}", key, good_rows(k))


def _shared_fields(plan: Plan, names: Sequence[str]) -> _Pairs:
    """Fields of events and of the candidate that share an id space."""
    spec = plan.spec

    def side(k: int, field: FieldRule) -> _Side:
        value = Values(spec, plan.dialect).whole(plan.dialect.column([field.name]))
        return _Side(f"{names[k]}.{field.name}", value, good_rows(k))

    fields = [(k, f) for k, table in enumerate(spec.tables) for f in table.fields]
    past = [(k, f) for k, f in fields if 1 <= k <= len(spec.events) and f.name in spec.behaviour]
    candidate = [
        (k, f)
        for k, f in fields
        if not 1 <= k <= len(spec.events) and f.name in spec.cat_feature and not f.several
    ]
    for k, field in past:
        for j, other in candidate:
            if spec.space(field.name) == spec.space(other.name):
                yield side(k, field), side(j, other)


def _match(engine: DuckDBEngine, found: Findings, here: _Side, there: _Side, must: bool) -> None:
    """Counts the rows whose value is among those of the other side; some `must` be."""
    with_values = (
        f"WITH h AS (SELECT {here.value} AS v, count(*) AS n FROM {here.rows} GROUP BY 1), "
        f"t AS (SELECT DISTINCT {there.value} AS v FROM {there.rows}) "
    )
    (row,) = engine.rows(
        f"{with_values} SELECT sum(n) AS total, sum(CASE WHEN t.v IS NOT NULL THEN n END) AS met "
        "FROM h LEFT JOIN t ON t.v = h.v WHERE h.v IS NOT NULL"
    )
    total, met = int(row["total"] or 0), int(row["met"] or 0)
    fact = {"what": f"{here.name} in {there.name}", "found": met, "of": total}
    fact["rate"] = met / max(total, 1)
    found.facts["joins"].append(fact)
    if not total or fact["rate"] >= _LOW_MATCH:
        return
    unmatched = (
        "SELECT {0}.v FROM {0} LEFT JOIN {1} ON {1}.v = {0}.v "
        "WHERE {1}.v IS NULL AND {0}.v IS NOT NULL"
    )
    lists = {"examples": unmatched.format("h", "t"), "examples_there": unmatched.format("t", "h")}
    for key, query in lists.items():
        listed = engine.rows(f"{with_values} {query} ORDER BY 1 LIMIT {_EXAMPLES}")
        fact[key] = [row["v"] for row in listed]
    texts = [", ".join(map(repr, fact[key])) or "none" for key in lists]
    line = (
        f"{fact['what']}: {met:,} of {total:,} rows match ({fact['rate']:.1%}); here for example "
        f"{texts[0]}, there {texts[1]}"
    )
    if met or not must:
        found.warn(line)
    else:
        found.refuse("no_match", f"{line}; write both alike")


def histories(plan: Plan, engine: DuckDBEngine, found: Findings) -> None:
    """Empty histories, and candidates that stand in their own history."""
    (row,) = engine.rows(
        "SELECT count(*) AS n, sum(CASE WHEN _seen = 0 THEN 1 ELSE 0 END) AS empty FROM sample"
    )
    share = int(row["empty"] or 0) / max(row["n"], 1)
    if share == 1:
        clocks = "; ".join(
            f"{name} reaches from {facts['time']['first']} to {facts['time']['last']}"
            for name, facts in found.facts["tables"].items()
            if "time" in facts
        )
        line = f"no impression has a behaviour before it: compare users and clocks: {clocks}"
        found.refuse("empty_histories", line)
    elif share > _LOW_MATCH:
        found.warn(f"{share:.0%} of the impressions have an empty history")
    buckets = max(1, -(-row["n"] // _LOOKED_AT))
    some = f"WHERE {plan.dialect.bucket_of('_u', str(buckets))} = 0"
    before = (
        "OVER (PARTITION BY _u, _i ORDER BY _t, _past "
        "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    )
    same = f"_same >= _seen - {plan.spec.max_len}"
    looked = engine.arrays(
        f"SELECT _label AS clicked, CASE WHEN {same} THEN 1 ELSE 0 END AS own, "
        f"CASE WHEN {same} THEN _t - _same_t ELSE 0 END AS lag FROM (SELECT *, "
        f"max(_n) {before} AS _same, max(CASE WHEN _past = 1 THEN _t END) {before} AS _same_t "
        f"FROM (SELECT _u, _i, _t, _label, _seen, 0 AS _past, NULL AS _n FROM sample {some} "
        f"UNION ALL SELECT _u, _i, _t, NULL, NULL, 1, _n FROM event {some}) b) c WHERE _past = 0"
    )
    clicked, own, lag = (np.asarray(looked[name]) for name in ("clicked", "own", "lag"))
    if len(own):
        _own_item(clicked == 1, own == 1, lag / 1000, found)


def _own_item(clicked: np.ndarray, own: np.ndarray, lag: np.ndarray, found: Findings) -> None:
    """Judges whether candidates stand in their own history because a clock is wrong.

    Args:
        clicked, own: bool [n].
        lag: float64 [n], seconds since the behaviour.
    """
    shares = {
        "clicked": float(own[clicked].mean()) if clicked.any() else 0.0,
        "not_clicked": float(own[~clicked].mean()) if (~clicked).any() else 0.0,
    }
    facts = found.facts["own_item"] = {**shares, "measured_on": len(own)}
    if own.sum() < FEW_ROWS:
        return
    lags = lag[own]
    median = facts["median_lag_seconds"] = float(np.median(lags))
    # Who comes back to an item does so after any time; a wrong clock is off by the same each time.
    alike = float((np.abs(lags - median) <= 1 + 0.001 * median).mean())
    leaks = shares["clicked"] - shares["not_clicked"] >= 0.3
    leaks &= shares["clicked"] >= 2 * shares["not_clicked"]
    line = (
        f"the candidate stands in its own history in {shares['clicked']:.0%} of the clicked "
        f"impressions and in {shares['not_clicked']:.0%} of the others, {median:,.0f} s before "
        "(median)"
    )
    if leaks or (alike >= 0.5 and own.mean() >= 0.2):
        found.refuse(
            "own_item",
            f"{line}: does the click itself lie in the past, by its time_unit or time_zone?",
        )
    elif shares["clicked"] > 1.5 * shares["not_clicked"] + 0.05:
        found.warn(f"{line}; right where users return to items, else compare the clocks")


def days(plan: Plan, engine: DuckDBEngine, found: Findings) -> None:
    """Examples and clicks by day, and how many candidates and users were never seen before it."""
    both = "SELECT {0}, _t FROM shown UNION ALL SELECT {0}, _t FROM event"
    first = f"SELECT {{0}}, min(_t) AS t FROM ({both}) f GROUP BY {{0}}"
    rows = engine.rows(
        f"WITH i AS ({first.format('_i')}), u AS ({first.format('_u')}), "
        "d AS (SELECT _day, min(_t) AS t FROM sample GROUP BY _day) "
        "SELECT s._day, avg(CASE WHEN i.t >= d.t THEN 1.0 ELSE 0.0 END) AS candidates, "
        "avg(CASE WHEN u.t >= d.t THEN 1.0 ELSE 0.0 END) AS users FROM sample s "
        "JOIN d ON d._day = s._day JOIN i ON i._i = s._i JOIN u ON u._u = s._u "
        "GROUP BY s._day ORDER BY s._day"
    )
    found.facts["new"] = {
        f"{row['_day']:08d}": {key: float(row[key]) for key in ("candidates", "users")}
        for row in rows
    }
