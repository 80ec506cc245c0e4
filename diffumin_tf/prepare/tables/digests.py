"""Digests of all that a day's samples are made of: a day whose digest is the same may be kept."""

import hashlib

import numpy as np

from diffumin_tf.prepare.sql.plan import Plan
from diffumin_tf.prepare.tables.duckdb_engine import DuckDBEngine
from diffumin_tf.prepare.times import HOUR_MS


def digests_of_days(plan: Plan, engine: DuckDBEngine) -> dict[str, str]:
    """For each day a digest of its impressions, and of all behaviours before the last of them."""
    behaviour = plan.dialect.digest(["_u", "_t", "_n", *plan.behaviours.values()])
    hours, sums = _by_hour(engine, behaviour)
    within = _within_last_hour(engine, behaviour)
    found = {}
    for day in _impressions(plan, engine):
        before = sums[np.searchsorted(hours, day["last"] // HOUR_MS)]
        content = f"{day['sum']} {before} {within.get(day['_day'], 0)}"
        found[f"{day['_day']:08d}"] = hashlib.sha256(content.encode()).hexdigest()
    return found


def _impressions(plan: Plan, engine: DuckDBEngine) -> list[dict]:
    """Each `_day` with the `sum` of the digests of its impressions, and the `last` time."""
    spec, d = plan.spec, plan.dialect
    columns = ["s._row"] if d.row_is_number else []
    columns += ["s._u", "s._i", "s._t", "s._label"]
    joins = ""
    for table, alias, key in (
        (spec.impressions, "s", None),
        (spec.items, "item", "_i"),
        (spec.users, "person", "_u"),
    ):
        columns += plan.features_of(table, alias).values()
        joins += f" LEFT JOIN {alias} ON {alias}._key = s.{key}" if table and key else ""
    return engine.rows(
        f"SELECT _day, sum({d.digest(columns)}) AS sum, max(_t) AS last FROM sample s{joins} "
        "GROUP BY _day ORDER BY _day"
    )


def _by_hour(engine: DuckDBEngine, behaviour: str) -> tuple[np.ndarray, np.ndarray]:
    """The n hours with behaviours, and n + 1 sums of the digests of all before the i-th hour."""
    found = engine.arrays(
        f"SELECT hour, CAST(sum(dig) % 1000000007 AS BIGINT) AS sum FROM (SELECT "
        f"{_hour('_t')} AS hour, {behaviour} AS dig FROM event) e GROUP BY hour ORDER BY hour"
    )
    sums = np.cumsum(np.asarray(found["sum"], object))
    return np.asarray(found["hour"]), np.concatenate([[0], sums])


def _within_last_hour(engine: DuckDBEngine, behaviour: str) -> dict[int, int]:
    """By day the sum of what lies before its last impression, and in the same hour."""
    rows = engine.rows(
        f"SELECT d._day, sum({behaviour}) AS sum FROM "
        "(SELECT _day, max(_t) AS last FROM sample GROUP BY _day) d JOIN event ON "
        f"{_hour('event._t')} = {_hour('d.last')} AND event._t < d.last GROUP BY d._day"
    )
    return {row["_day"]: int(row["sum"]) for row in rows}


def _hour(ms: str) -> str:
    return f"CAST(floor({ms} / {HOUR_MS}.0) AS BIGINT)"
