"""Digests of what a day's samples are made of: a day whose digest is the same may be kept."""

import hashlib

from diffumin_tf.prepare.sql.plan import Plan
from diffumin_tf.prepare.tables.duckdb_engine import DuckDBEngine


def digests_of_days(plan: Plan, engine: DuckDBEngine) -> dict[str, str]:
    """For each day a digest of its impressions, and of all behaviours that they may see.

    Users and items are left out: their tables change with every export, and a day keeps those of
    when it was made.
    """
    shown, seen = _impressions(plan, engine), _behaviours(plan, engine)
    contents = {day: f"{digest} {seen.get(day, 0)}" for day, digest in shown.items()}
    return {
        f"{day:08d}": hashlib.sha256(text.encode()).hexdigest() for day, text in contents.items()
    }


def _impressions(plan: Plan, engine: DuckDBEngine) -> dict[int, int]:
    spec, d = plan.spec, plan.dialect
    columns = ["s._u", "s._i", "s._t", "s._label"]
    columns += plan.features_of(spec.impressions, "s").values()
    return _by_day(engine, f"SELECT _day, {d.digest(columns)} AS digest FROM sample s")


def _behaviours(plan: Plan, engine: DuckDBEngine) -> dict[int, int]:
    """The sums, over the users of a day, of their behaviours before the last impression."""
    spec, d = plan.spec, plan.dialect
    of_item = {field.name for field in spec.items.fields} if spec.items else set()
    own = [column for name, column in plan.behaviours.items() if name not in of_item]
    so_far = "OVER (PARTITION BY _u ORDER BY _n ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    return _by_day(
        engine,
        f"SELECT g._day, e.digest FROM (SELECT _u, _n, sum({d.digest(['_u', '_t', '_n', *own])}) "
        f"{so_far} AS digest FROM event) e JOIN (SELECT _u, _day, max(_seen) - 1 AS _n "
        "FROM sample GROUP BY _u, _day) g ON g._u = e._u AND g._n = e._n",
    )


def _by_day(engine: DuckDBEngine, query: str) -> dict[int, int]:
    rows = engine.rows(f"SELECT _day, sum(digest) AS digest FROM ({query}) q GROUP BY _day")
    return {row["_day"]: int(row["digest"]) for row in rows}
