"""Faults of times and days: read as they are, held apart from the label, warned of or refused."""

import pandas as pd
import pyarrow as pa
import pytest

from tests.prepare.faults import (
    EQUAL,
    case,
    cells,
    check,
    column,
    counted,
    equal_to,
    key,
    no_unit,
    parquet,
    refused,
    warned,
)

HOUR = 3_600_000
SECONDS = column("views.ts", lambda ts: ts // 1000)
MICROS = column("views.ts", lambda ts: ts * 1000)
DT = key("shown.day", "dt")


def stamps(ms, zone="UTC"):
    return pd.to_datetime(ms, unit="ms", utc=True).dt.tz_convert(zone)


def text(pattern, zone="UTC"):
    """Date-times of a column of ms, as text; `%L` stands for milliseconds."""
    return lambda ms: [
        t.strftime(pattern.replace("%L", f"{t.microsecond // 1000:03d}")) for t in stamps(ms, zone)
    ]


def day(pattern):
    """A column with the day of every impression, as text."""
    return [column("shown.dt", lambda shown: text(pattern)(shown["ts"])), DT]


def clicks(shift_ms):
    """The events are the clicks themselves, five seconds later on a clock that is off."""

    def step(log):
        clicked = log.frames["shown"].query("clicked == 1")
        views = clicked[["uid", "sku", "ts"]].assign(ts=clicked["ts"] + 5000 + shift_ms)
        log.frames["views"] = views.sort_values("ts")

    return step


def shown_as_views(log):
    """The events are the impressions; none of its own millisecond is seen."""
    log.frames["views"] = log.frames["shown"][["uid", "sku", "ts"]].copy()
    log.spec["allow"] = ["own_item"]


NUMBERS = {  # how a time in ms is written: unit, change; the samples stay the same
    "us": ("us", lambda ts: ts * 1000),
    "ns": ("ns", lambda ts: ts * 10**6),
    "ms with .0": ("ms", lambda ts: ts.astype(float)),
    "ms with an exponent": ("ms", lambda ts: [f"{t:.12e}" for t in ts]),
    "s with a fraction": ("s", lambda ts: [f"{t / 1000:.3f}" for t in ts]),
}
TEXTS = {  # the same as text: pattern, zone it is in, key time_zone
    "T and Z": ("%Y-%m-%dT%H:%M:%S.%LZ", "UTC", None),
    "a blank and no zone": ("%Y-%m-%d %H:%M:%S.%L", "UTC", None),
    "microseconds": ("%Y-%m-%d %H:%M:%S.%L000", "UTC", None),
    "+08:00": ("%Y-%m-%dT%H:%M:%S.%L+08:00", "Asia/Shanghai", None),
    "+0800": ("%Y-%m-%d %H:%M:%S.%L+0800", "Asia/Shanghai", None),
    "a named zone": ("%Y-%m-%d %H:%M:%S.%L", "America/New_York", "America/New_York"),
    "blanks and UTC": ("%Y-%m-%d %H:%M:%S.%L UTC", "UTC", None),
    "+00": ("%Y-%m-%d %H:%M:%S.%L456+00", "UTC", None),
    "a zone of its own before the named one": ("%Y-%m-%d %H:%M:%S.%LZ", "UTC", "Asia/Tokyo"),
}
STAMPS = {  # the same as Parquet timestamps: type, zone it is in, key time_zone
    "ms": (pa.timestamp("ms"), None, None),
    "us": (pa.timestamp("us"), None, None),
    "ns": (pa.timestamp("ns"), None, None),
    "us in UTC": (pa.timestamp("us", "UTC"), "UTC", None),
    "ns in Shanghai": (pa.timestamp("ns", "Asia/Shanghai"), "Asia/Shanghai", None),
    "us of a named zone": (pa.timestamp("us"), "Asia/Shanghai", "Asia/Shanghai"),
}


def as_stamps(table, kind, zone=None, key_zone=None):
    def change(ms):
        times = stamps(ms, zone or "UTC")
        return times if zone and not key_zone else times.dt.tz_localize(None)

    zoned = [key(f"{table}.time_zone", key_zone)] if key_zone else []
    return [column(f"{table}.ts", change), parquet(table, ts=kind), no_unit(table), zoned]


CASES = [
    *(
        case(f"{table} in {n}", [column(f"{table}.ts", f), key(f"{table}.time_unit", unit)], EQUAL)
        for n, (unit, f) in NUMBERS.items()
        for table in ("shown", "views")
    ),
    *(
        case(
            f"{table} as text with {name}",
            [column(f"{table}.ts", text(pattern, zone)), no_unit(table)]
            + ([key(f"{table}.time_zone", own)] if own else []),
            EQUAL,
        )
        for name, (pattern, zone, own) in TEXTS.items()
        for table in ("shown", "views")[: 2 if own else 1]
    ),
    *(case(f"timestamps in {n}", as_stamps("views", *how), EQUAL) for n, how in STAMPS.items()),
    case("impressions as timestamps", as_stamps("shown", *STAMPS["us in UTC"]), EQUAL),
    case(
        "views of two clocks",
        column("views.ts", lambda ts: ts.where(ts % 2 == 0, ts // 1000 * 1000)),
        warned(r"views\.csv: .*% of 'ts' are whole seconds"),
    ),
    case("ms, no unit", no_unit("views"), refused(r"views\.csv", "'ts'", 'time_unit": "ms"')),
    case(
        "impressions in s, no unit",
        [column("shown.ts", lambda ts: ts // 1000), no_unit("shown")],
        refused(r"shown\.csv", "'ts'", 'time_unit": "s"'),
    ),
    case(
        "s said to be ms",
        SECONDS,
        refused(
            r"views\.csv", "'ts'", "1970", 'time_unit": "s"', allow="time_range", also=["own_item"]
        ),
    ),
    case("ms said to be s", key("views.time_unit", "s"), refused(r"views\.csv", "time_unit")),
    *(
        case(
            f"events in {unit} at the times of impressions",
            [shown_as_views, column("views.ts", change), key("views.time_unit", unit)],
            equal_to(shown_as_views),
        )
        for unit, change in (("us", lambda ts: ts * 1000), ("ns", lambda ts: ts * 10**6))
    ),
    case("us said to be ms", MICROS, refused(r"views\.csv", "time_unit")),
    case("ms said to be us", key("shown.time_unit", "us"), refused(r"shown\.csv", "1970", '"ms"')),
    case(
        "every third time in s",
        column("views.ts", lambda ts: ts.where(ts.index % 3 > 0, ts // 1000)),
        refused(r"views\.csv", "'ts'", "1970"),
    ),
    case(
        "times that a spreadsheet shortened",
        column("views.ts", lambda ts: ts.map("{:.5E}".format)),
        refused(r"views\.csv", "'ts'", r"\.\d{5}E\+12", "digits"),
    ),
    case(
        "32-bit floats",
        [column("views.ts", lambda ts: ts.astype("float32")), parquet("views")],
        refused(r"views\.parquet", "'ts'", "float"),
    ),
    case("a time of the year 1", cells("views.ts", [3], "0001-01-01"), counted("views.csv", bad=1)),
    case("a time of the year 0", cells("views.ts", [3], "0000-01-01"), counted("views.csv", bad=1)),
    *(
        case(
            f"events in steps of {ms} ms",
            column("views.ts", lambda ts, ms=ms: ts // ms * ms),
            warned(r"views\.csv", step),
        )
        for ms, step in ((10_000, "10-second"), (900_000, "15-minute"))
    ),
    case(
        "the day before the month",
        [column("views.ts", text("%d.%m.%Y %H:%M")), no_unit("views")],
        refused(r"views\.csv", "ts", r"\d\d\.\d\d\.2024"),
    ),
    case(
        "an unknown zone",
        key("views.time_zone", "Asia/Shangai"),
        refused("time_zone", "'Asia/Shangai'", "'Asia/Shanghai'"),
    ),
    case("two events without a time", cells("views.ts", [3, 9], ""), counted("views.csv", bad=2)),
    case("events in s", [SECONDS, key("views.time_unit", "s")], warned(r"views\.csv", "second")),
    *(
        case(
            f"events in {grain}s",
            [column("views.ts", text(pattern)), no_unit("views")],
            warned(r"views\.csv", grain),
        )
        for grain, pattern in (("minute", "%Y-%m-%d %H:%M"), ("day", "%Y-%m-%d"))
    ),
    case("dates", as_stamps("views", pa.date32()), warned(r"views\.parquet", "day")),
    case("the click before its impression", clicks(-60_000), refused("clicked", allow="own_item")),
    case(
        "impressions in local time",
        clicks(-8 * HOUR),
        refused("clicked", "8 h|28,79", "time_zone", allow="own_item"),
    ),
    case(
        "all events after the impressions",
        column("views.ts", lambda ts: ts + 10**9),
        refused("shown.csv.*2024-03-01", "views.csv.*2024-03-07", allow="empty_histories"),
    ),
    *(
        case(f"days written {pattern}", day(pattern), EQUAL)
        for pattern in ("%Y%m%d", "%Y-%m-%d", "%Y-%-m-%-d", "%Y%m%d.0", "%Y-%m-%d 00:00:00")
    ),
    case(
        "days that are not those of the times",
        [column("shown.dt", lambda shown: text("%Y%m%d")(shown["ts"] + 10 * HOUR)), DT],
        warned(r"shown\.csv", "'dt'", "'ts'", "utc_offset_hours"),
    ),
    case(
        "days as dates",
        [column("shown.dt", lambda shown: stamps(shown["ts"]).dt.date), parquet("shown"), DT],
        EQUAL,
    ),
    *(
        case(f"days written {pattern}", day(pattern), refused(r"shown\.csv", "dt", "2024"))
        for pattern in ("%d.%m.%Y", "%-m/%-d/%Y", "%Y%-m%-d")
    ),
]


@pytest.mark.parametrize(("steps", "expectations"), CASES)
def test_no_faulty_time_passes_in_silence(tmp_path, steps, expectations):
    check(tmp_path, steps, expectations)
