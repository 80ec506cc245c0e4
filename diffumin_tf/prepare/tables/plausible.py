"""What a table says about itself: labels, users, ids, fields and days that are implausible."""

import json
from collections.abc import Sequence

import pyarrow as pa

from diffumin_tf.input.raw_text import EXPONENT
from diffumin_tf.prepare.spec.tables import SideTable
from diffumin_tf.prepare.sql.plan import Plan
from diffumin_tf.prepare.sql.rows import good_rows
from diffumin_tf.prepare.tables.duckdb_engine import DuckDBEngine
from diffumin_tf.prepare.tables.findings import FEW_ROWS, Findings
from diffumin_tf.prepare.tables.sources import Source

_HEAVY, _ABSURD = 0.01, 0.2  # share of all events that one user has
_FEW_USERS = 20  # of so few, one may have a large share
_LOOKED_AT = 100_000  # rows, for the digits of ids
_OTHER_DAYS = 0.1  # share of impressions whose day is not that of their time


def look(plan: Plan, engine: DuckDBEngine, sources: Sequence[Source], found: Findings) -> None:
    """Warns of what may be a mistake, and refuses what can only be one."""
    _labels(plan, engine, sources[0].name, found)
    _heavy_users(engine, sources[0].name, found)
    _days(plan, engine, sources[0].name, found)
    for k, source in enumerate(sources):
        _repeated_rows(plan, engine, k, source, found)
        _empty_fields(plan, engine, k, source, found)
        _lost_digits(plan, engine, k, source, found)


def _labels(plan: Plan, engine: DuckDBEngine, name: str, found: Findings) -> None:
    (row,) = engine.rows("SELECT count(*) AS n, sum(_label) AS clicks FROM shown")
    if row["n"] >= FEW_ROWS and row["clicks"] in (0, row["n"]):
        label = plan.spec.impressions.label.column
        line = f"{name}: every {label!r} means {int(row['clicks'] > 0)} ({row['n']:,} impressions)"
        found.refuse("one_label", line)


def _heavy_users(engine: DuckDBEngine, name: str, found: Findings) -> None:
    """Users with a large share of all behaviours, or of the impressions."""
    for relation, what in (("event", "all behaviours"), ("shown", f"the impressions of {name}")):
        (total,) = engine.rows(f"SELECT count(*) AS n, count(DISTINCT _u) AS users FROM {relation}")
        if total["users"] < _FEW_USERS:
            continue
        most = max(_HEAVY, 10 / total["users"])  # of few users, each has more than 1 %
        heavy = engine.rows(
            f"SELECT _u, count(*) AS n FROM {relation} GROUP BY _u "
            f"HAVING count(*) > {most * total['n']} ORDER BY n DESC, _u LIMIT 20"
        )
        if relation == "event":
            found.facts["heavy_users"] = [
                {"user": row["_u"], "events": row["n"] / total["n"]} for row in heavy
            ]
        for row in (row for row in heavy if row["n"] > _ABSURD * total["n"]):
            found.refuse(
                "heavy_user",
                f"user {row['_u']!r} has {row['n'] / total['n']:.0%} of {what}; if that stands "
                f'for no user, "missing": {json.dumps([row["_u"]])} says so',
            )


def _days(plan: Plan, engine: DuckDBEngine, name: str, found: Findings) -> None:
    """A day of the publisher that is not the day of the time."""
    shown = plan.spec.impressions
    if not shown.day:
        return
    other = f"CASE WHEN _day <> {plan.local_day} THEN 1.0 ELSE 0.0 END"
    share = engine.rows(f"SELECT avg({other}) AS share FROM shown")[0]["share"] or 0.0
    if share > _OTHER_DAYS:
        found.warn(
            f"{name}: {share:.0%} of the impressions have another {shown.day!r} than the day of "
            f'their {shown.time!r}: is "utc_offset_hours" {plan.spec.utc_offset_hours:g} right?'
        )


def _repeated_rows(
    plan: Plan, engine: DuckDBEngine, k: int, source: Source, found: Findings
) -> None:
    """Rows that have user, item and time of another; they are kept."""
    facts = found.facts["tables"][source.name]
    if "time" not in facts:
        return
    (row,) = engine.rows(
        "SELECT sum(n - 1) AS n FROM "
        f"(SELECT count(*) AS n FROM {good_rows(k)} GROUP BY _u, _i, _t) s"
    )
    facts["duplicates"] = int(row["n"] or 0)
    # A user may well do the same twice in an hour; who orders equal times knows of them.
    has_ties = len(getattr(plan.spec.tables[k], "order_by", "")) > 1
    if row["n"] and not has_ties and facts["time"]["grain"] in ("millisecond", "second"):
        line = f"{int(row['n']):,} rows repeat user, item and time of another"
        found.warn(f"{source.name}: {line}")


def _empty_fields(
    plan: Plan, engine: DuckDBEngine, k: int, source: Source, found: Findings
) -> None:
    """Categories that no row has, separators that no cell has."""
    d, spec = plan.dialect, plan.spec
    fields = [f for f in spec.tables[k].fields if spec.uses(f)]
    fields = {f.name: f for f in fields if f.name not in spec.dense_feature}
    most = {
        n: f"max({d.size(d.column([n]))})" if f.several else f"count({d.column([n])})"
        for n, f in fields.items()
    }
    listed = ", ".join(f"{value} AS {d.column([name])}" for name, value in most.items())
    found_in = engine.rows(f"SELECT {listed} FROM {good_rows(k)}")[0] if fields else {}
    for name, n in found_in.items():
        if not n:
            found.warn(f"{source.name}: no row has a value of {name!r}")
        elif n == 1 and fields[name].split and fields[name].several:
            what = f"no cell of {fields[name].source!r} holds the separator {fields[name].split!r}"
            found.warn(f"{source.name}: {what}")


def _lost_digits(plan: Plan, engine: DuckDBEngine, k: int, source: Source, found: Findings) -> None:
    """Ids that a spreadsheet shortened (1.23457E+11), or that a float cannot hold."""
    table, d = plan.spec.tables[k], plan.dialect
    exact = {pa.float16(): 2**11, pa.float32(): 2**24}
    for name in [table.key] if isinstance(table, SideTable) else [table.user, table.item]:
        raw, kind = d.column([f"raw {name}"]), source.type_of(name)
        looked_at = "TRUE" if kind in exact else d.matches(raw, EXPONENT)
        (row,) = engine.rows(
            "SELECT count(*) AS n, min(t) AS example, "
            f"sum(CASE WHEN abs(v) > {exact.get(kind, 2**53)} "
            f"OR ({kind not in exact} AND floor(v / 1000) * 1000 = v) THEN 1 ELSE 0 END) AS lost "
            f"FROM (SELECT {raw} AS t, TRY_CAST({raw} AS DOUBLE) AS v FROM "
            f"(SELECT {raw} FROM ({plan.texts(k)}) a LIMIT {_LOOKED_AT}) b "
            f"WHERE {looked_at}) c"
        )
        if row["n"] >= FEW_ROWS and row["lost"] > row["n"] / 2:
            found.warn(
                f"{source.name}: {name!r} such as {row['example']!r} has lost digits, so that "
                "several ids became one: write ids as text or whole numbers"
            )
