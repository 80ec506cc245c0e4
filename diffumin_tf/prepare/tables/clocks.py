"""The clocks of the tables: units, ranges, grains. A wrong one lets the label in."""

import datetime
import re
import zoneinfo
from collections.abc import Sequence

from diffumin_tf.errors import DataError
from diffumin_tf.prepare.spec.tables import Events, Impressions
from diffumin_tf.prepare.sql.plan import Plan
from diffumin_tf.prepare.sql.rows import good_rows
from diffumin_tf.prepare.sql.values import DATE_TIME, NUMBER
from diffumin_tf.prepare.tables.duckdb_engine import DuckDBEngine
from diffumin_tf.prepare.tables.findings import FEW_ROWS, Findings
from diffumin_tf.prepare.tables.sources import Source
from diffumin_tf.prepare.times import DAY_MS, FIRST_YEAR, HOUR_MS, LAST_YEAR, UNIT_MS

GRAINS = {"millisecond": 1, "second": 1000, "10-second step": 10_000, "minute": 60_000}
GRAINS |= {f"{n}-minute step": n * 60_000 for n in (5, 10, 15, 30)}
GRAINS |= {"hour": HOUR_MS, "day": DAY_MS}
_TWO_CLOCKS = 0.1  # share of whole seconds, of which milliseconds have a thousandth


def check_units(plan: Plan, engine: DuckDBEngine, sources: Sequence[Source]) -> None:
    """Refuses numbers as times without a unit, and such that lost digits, before any row is read.

    Raises:
        DataError: names the table, the column, a value, and the units that would fit.
    """
    for k, table in enumerate(plan.spec.tables):
        if not isinstance(table, Impressions | Events):
            continue
        column = time_column(table)
        raw = plan.dialect.column([f"raw {column}"])
        query = f"SELECT {raw} AS v FROM ({plan.texts(k)}) t WHERE {raw} IS NOT NULL LIMIT 1000"
        values = [row["v"].strip() for row in engine.rows(query)]
        numbers = [v for v in values if re.fullmatch(NUMBER, v)]
        dates = [v for v in values if re.fullmatch(DATE_TIME, v)]
        if table.time_unit and _lost_ms(numbers, table.time_unit) > 1000:
            raise DataError(
                f"{sources[k].where}: {column!r} such as {numbers[0]!r} has lost digits, as a "
                "spreadsheet does it; write whole numbers"
            )
        if not table.time_unit and len(numbers) > len(dates):
            raise DataError(
                f"{sources[k].where}: {column!r} holds numbers such as {numbers[0]}; "
                f"{_unit_for(float(numbers[0]))}"
            )


def _lost_ms(numbers: Sequence[str], unit: str) -> float:
    """What the last written digit of numbers such as 1.70925E+12 is worth; 0 if some are whole."""
    parts = [re.fullmatch(r"[0-9](?:[.]([0-9]+))?[eE][+]?([0-9]+)", text) for text in numbers]
    if not parts or not all(parts):
        return 0
    return 10.0 ** min(int(p[2]) - len(p[1] or "") for p in parts) * UNIT_MS[unit]


def _unit_for(
    value: float, otherwise: str = 'say their "time_unit": "s", "ms", "us" or "ns"'
) -> str:
    """The units that make of a number a time of our age, or another advice."""
    fitting = []
    for unit, factor in UNIT_MS.items():
        when = _datetime(value * factor)
        if when and FIRST_YEAR <= when.year <= LAST_YEAR:
            fitting.append(f'"time_unit": "{unit}" would make it {when:%Y-%m-%d %H:%M}')
    return "; ".join(fitting) or otherwise


def _datetime(ms: float) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc)
    except (OverflowError, ValueError, OSError):
        return None


def time_column(table: Impressions | Events) -> str:
    return table.time if isinstance(table, Impressions) else table.order_by[0]


def _offsets(zone: str, utc_offset_hours: float) -> list[int]:
    """The milliseconds by which clocks may be ahead of UTC where a day or an hour begins."""
    months = (datetime.datetime(2024, n, 1, tzinfo=zoneinfo.ZoneInfo(zone)) for n in range(1, 13))
    hours = {utc_offset_hours, *(m.utcoffset().total_seconds() / 3600 for m in months)}
    return sorted({0, *(round(h * HOUR_MS) for h in hours)})


def clocks(plan: Plan, engine: DuckDBEngine, sources: Sequence[Source], found: Findings) -> dict:
    """Time range and grain of every table; the milliseconds after which its behaviours count.

    A behaviour of a coarser clock than that of the impressions counts from the end of its second,
    minute, hour or day.
    """
    grains, shifts = {}, {}
    for k, table in enumerate(plan.spec.tables):
        if not isinstance(table, Impressions | Events):
            continue
        offsets = _offsets(table.time_zone, plan.spec.utc_offset_hours)
        whole = ", ".join(
            f"min(CASE WHEN {' OR '.join(f'(_t + {o}) % {ms} = 0' for o in offsets)} "
            f"THEN 1 ELSE 0 END) AS {plan.dialect.column([name])}"
            for name, ms in GRAINS.items()
        )
        (row,) = engine.rows(
            f"SELECT min(_t) AS first, max(_t) AS last, count(DISTINCT _t) AS n, {whole}, "
            f"avg(CASE WHEN _t % {GRAINS['second']} = 0 THEN 1.0 ELSE 0.0 END) AS whole_seconds "
            f"FROM {good_rows(k)}"
        )
        if row["first"] is None:
            continue
        grain = [name for name in GRAINS if row["n"] > 2 and row[name]]
        grains[k] = grain[-1] if grain else "millisecond"
        if row["n"] > FEW_ROWS and _TWO_CLOCKS < row["whole_seconds"] < 1:
            found.warn(
                f"{sources[k].name}: {row['whole_seconds']:.0%} of {time_column(table)!r} are "
                "whole seconds or coarser, the others are not: write times of one clock"
            )
        facts = found.facts["tables"][sources[k].name]
        first, last = _datetime(row["first"]), _datetime(row["last"])
        facts["time"] = {
            "first": first.isoformat(timespec="seconds"),
            "last": last.isoformat(timespec="seconds"),
            "grain": grains[k],
            "zone": table.time_zone,
        }
        if not FIRST_YEAR <= first.year <= last.year <= LAST_YEAR:
            raw = row["first"] / UNIT_MS[table.time_unit or "ms"]
            found.refuse(
                "time_range",
                f"{sources[k].where}: {time_column(table)!r} reaches from {first:%Y-%m-%d} to "
                f"{last:%Y-%m-%d}; {_unit_for(raw, 'look at its values')}",
            )
        elif last > datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1):
            found.warn(f"{sources[k].name}: {time_column(table)!r} reaches to {last:%Y-%m-%d}")
        if k and GRAINS[grains[k]] > GRAINS[grains.get(0, "millisecond")]:
            if "coarse_clock" in plan.spec.allow:
                found.facts["allowed"].append("coarse_clock")
                continue
            shifts[k] = GRAINS[grains[k]] - 1
            found.warn(
                f"{sources[k].name}: {time_column(table)!r} is in whole {grains[k]}s, the "
                f"impressions' time in {grains[0]}s: a behaviour counts from the end of its "
                f"{grains[k]}"
            )
    return shifts
