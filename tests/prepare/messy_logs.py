"""Messy logs whose truth is known: made-up rows, written as the tools of this trade write them.

A maker draws the truth (texts, and times in ms since 1970) and writes it into files with the clock,
the zone and the spelling of a real log. `sample` says the slow and obvious way what the record of
an impression must hold. Nothing here uses the product.
"""

import dataclasses
import datetime
import random
import zoneinfo

import pyarrow as pa
import pyarrow.parquet as pq

SECOND, HOUR, DAY = 1000, 3_600_000, 86_400_000
T0 = 1_711_756_800_000  # 2024-03-30 00:00 in UTC, a Saturday; Berlin's clocks change a day later


@dataclasses.dataclass
class Log:
    """A spec, its files, and the truth about them.

    Attributes:
        shown: the good impressions in the order of the file: texts by field, `at` in ms, `label`.
        past: the events: texts by field, `at` (the last ms at which it is not seen yet), `place`
            (table, ties …, line; it orders events of equal `at`).
        users, items: rows of the side tables by id.
        several: fields of several values.
    """

    spec: dict
    files: dict[str, str | pa.Table]
    shown: list[dict]
    past: list[dict]
    users: dict[str, dict] = dataclasses.field(default_factory=dict)
    items: dict[str, dict] = dataclasses.field(default_factory=dict)
    several: list[str] = dataclasses.field(default_factory=list)

    def write(self, folder):
        for name, content in self.files.items():
            if isinstance(content, str):
                (folder / name).write_text(content)
            else:
                pq.write_table(content, folder / name)


def sample(log, shown):
    """What the record of an impression holds, as texts (lists of them: several values), numbers."""
    user, item = log.spec["impressions"]["user"], log.spec["impressions"]["item"]
    row = {name: [] for name in log.several} | log.users.get(shown[user], {})
    row |= log.items.get(shown[item], {}) | shown
    past = [e for e in log.past if e[user] == shown[user] and e["at"] < shown["at"]]
    newest = sorted(past, key=lambda e: (e["at"], *e["place"]), reverse=True)
    newest = [{**log.items.get(e[item], {}), **e} for e in newest[: log.spec["max_len"]]]
    return {
        "label": shown["label"],
        "time": shown["at"] // SECOND,
        "cat_feature": {name: row.get(name, "") for name in log.spec["cat_feature"]},
        "dense_feature": [row.get(name, 0) for name in log.spec.get("dense_feature", ())],
        "history": {n: [event.get(n, "") for event in newest] for n in log.spec["behaviour"]},
    }


def by_day(log):
    """The good impressions of every day to be written, in order."""
    offset = log.spec.get("utc_offset_hours", 0) * HOUR
    first, last = log.spec.get("days", ("0", "9"))
    days = {}
    for shown in log.shown:
        day = clock(shown["at"] + offset).strftime("%Y%m%d")
        if first <= day <= last:
            days.setdefault(day, []).append(shown)
    return days


def clock(at, zone="UTC"):
    """The date and time that a clock shows."""
    return datetime.datetime.fromtimestamp(at / 1000, zoneinfo.ZoneInfo(zone))


def csv(rows, columns):
    """Text of a CSV; a column is the key of a row, or a function of it."""
    cells = [[str(c(row) if callable(c) else row[c]) for c in columns.values()] for row in rows]
    return "".join(",".join(line) + "\n" for line in [list(columns), *cells])


def draw(rng, count, times, **choices):
    """Rows in no order: a user, an item, a time and one choice of each further field."""
    return [
        {
            **{"uid": f"u{rng.randrange(20)}", "sku": f"s{rng.randrange(40)}"},
            **{"at": rng.choice(times), "label": rng.randrange(2)},
            **{name: rng.choice(texts) for name, texts in choices.items()},
        }
        for _ in range(count)
    ]


def shown_table(**more):
    columns = {"user": "uid", "item": "sku", "time": "ts", "label": {"column": "label"}}
    return {"file": "shown.csv", **columns, **more}


def event_table(file, *ties, **more):
    return {"file": file, "user": "uid", "item": "sku", "order_by": ["ts", *ties], **more}


def ties_and_duplicates(seed):
    """Sixty ms: equal times within and between tables; rows twice; impressions are events."""
    rng = random.Random(seed)
    times = range(T0, T0 + 60)
    shown = draw(rng, 600, times, tab=["home", "feed", ""], stars="12345", watched="01")
    shown += rng.sample(shown, 60)
    for row in shown:
        row["label"] = int(row["stars"] >= "4")
    first = draw(rng, 700, times, how=["tap", ""], no="012", rank=["-1.5", "0", "7e-1"])
    first += rng.sample(first, 200)
    second = draw(rng, 600, times, kind=["view", "cart"])
    past = [
        *({**e, "place": (0, int(e["no"]), float(e["rank"]), n)} for n, e in enumerate(first)),
        *({**e, "place": (1, n)} for n, e in enumerate(second) if e["kind"] == "view"),
        *({**e, "place": (2, n)} for n, e in enumerate(shown) if e["watched"] == "1"),
    ]
    keys = {"uid": "uid", "sku": "sku", "ts": "at"}
    spec = {
        "impressions": shown_table(
            label={"column": "stars", "at_least": 4}, fields=["tab"], outcomes=["watched"]
        )
        | {"time_unit": "ms"},
        "impressions_are_events": {"keep_where": {"column": "watched", "equals": 1}},
        "events": [
            event_table("first.csv", "no", "rank", time_unit="ms", fields=["how"]),
            event_table("second.csv", time_unit="ms")
            | {"keep_where": {"column": "kind", "equals": "view"}},
        ],
        **{"cat_feature": ["uid", "sku", "tab"], "behaviour": ["sku", "how", "tab"], "max_len": 7},
    }
    files = {
        "shown.csv": csv(shown, {**keys, "tab": "tab", "stars": "stars", "watched": "watched"}),
        "first.csv": csv(first, {**keys, "how": "how", "no": "no", "rank": "rank"}),
        "second.csv": csv(second, {**keys, "kind": "kind"}),
    }
    return Log(spec, files, shown, past)


def coarse_clocks(seed):
    """Impressions in ms; events in seconds, µs, ns, minutes and days."""
    rng = random.Random(seed)
    times = range(T0 + 5 * HOUR, T0 + 3 * DAY)
    shown = draw(rng, 600, times)
    tables = [draw(rng, 400, times) for _ in range(5)]
    lengths = [SECOND, 1, 1, 60 * SECOND, DAY]
    past = []
    for table, (rows, length) in enumerate(zip(tables, lengths, strict=True)):
        # Shanghai's days: they begin eight hours before UTC's, and its clock never changes.
        shift = 8 * HOUR if length == DAY else 0
        for line, row in enumerate(rows):
            row["start"] = (row["at"] + shift) // length * length - shift
            past.append({**row, "at": row["start"] + length - 1, "place": (table, line)})
    keys = {"uid": "uid", "sku": "sku"}
    nanoseconds = pa.array([row["start"] * 10**6 for row in tables[2]], pa.timestamp("ns"))
    named = {name: [row[name] for row in tables[2]] for name in keys}
    spec = {
        "impressions": shown_table(time_unit="ms"),
        "events": [
            event_table("seconds.csv", time_unit="s"),
            event_table("micros.csv", time_unit="us"),
            event_table("nanos.parquet"),
            event_table("minutes.csv", time_zone="Asia/Kolkata"),
            event_table("days.csv", time_zone="Asia/Shanghai"),
        ],
        **{"cat_feature": ["uid", "sku"], "behaviour": ["sku"], "max_len": 100},
    }
    files = {
        "shown.csv": csv(shown, {**keys, "ts": "at", "label": "label"}),
        "seconds.csv": csv(tables[0], {**keys, "ts": lambda r: r["start"] // SECOND}),
        # Half a ms is not reached, so that rounding and cutting agree.
        "micros.csv": csv(tables[1], {**keys, "ts": lambda r: r["start"] * 1000 + r["at"] % 500}),
        "nanos.parquet": pa.table({**named, "ts": nanoseconds}),
        "minutes.csv": csv(tables[3], {**keys, "ts": wall("Asia/Kolkata", "%Y-%m-%d %H:%M")}),
        "days.csv": csv(tables[4], {**keys, "ts": wall("Asia/Shanghai", "%Y-%m-%d")}),
    }
    return Log(spec, files, shown, past)


def wall(zone, pattern):
    return lambda row: clock(row["start"], zone).strftime(pattern)


def time_zones(seed):
    """Date-times as text and as timestamps, in named zones, across Berlin's change to summer."""
    rng = random.Random(seed)
    times = range(T0, T0 + 3 * DAY)
    shown = draw(rng, 600, times, page=["home", "search"])
    texts, stamps = draw(rng, 700, times), draw(rng, 700, times, how=["tap", "swipe"])
    for row in shown:
        local = clock(row["at"] + 2 * HOUR)
        row |= {"hour": str(local.hour), "weekday": str(local.weekday())}
    past = [
        *({**e, "place": (0, n)} for n, e in enumerate(texts)),
        *({**e, "place": (1, n)} for n, e in enumerate(stamps)),
    ]

    def iso(row):  # Every row in a zone and a notation of its own.
        local = clock(row["at"], rng.choice(["UTC", "Asia/Shanghai", "America/New_York"]))
        text = local.isoformat(rng.choice("T "), "milliseconds")
        if local.utcoffset():
            return rng.choice([text, text[:-3] + text[-2:]])  # +08:00, +0800
        return rng.choice([text, text[:-6] + "Z"])

    def berlin(row):
        return clock(row["at"], "Europe/Berlin").strftime("%Y-%m-%d %H:%M:%S.%f")

    new_york = [clock(row["at"], "America/New_York").replace(tzinfo=None) for row in stamps]
    keys = {"uid": "uid", "sku": "sku"}
    hours = [{"name": name, "time": name} for name in ("hour", "weekday")]
    spec = {
        "impressions": shown_table(time_zone="Europe/Berlin", fields=["page", *hours]),
        "events": [
            event_table("texts.csv"),
            event_table("stamps.parquet", time_zone="America/New_York", fields=["how"]),
        ],
        "cat_feature": ["uid", "sku", "page", "hour", "weekday"],
        **{"behaviour": ["sku", "how"], "max_len": 20},
        **{"utc_offset_hours": 2, "days": ["20240331", "20240401"]},
    }
    named = {name: [row[name] for row in stamps] for name in ("uid", "sku", "how")}
    files = {
        "shown.csv": csv(shown, {**keys, "ts": berlin, "label": "label", "page": "page"}),
        "texts.csv": csv(texts, {**keys, "ts": iso}),
        "stamps.parquet": pa.table({**named, "ts": pa.array(new_york, pa.timestamp("us"))}),
    }
    return Log(spec, files, shown, past)


MISSING_SIDES = {
    "impressions": shown_table(time_unit="ms"),
    "events": [event_table("events.parquet", time_unit="ms")],
    "users": {"file": "users.csv", "key": "uid", "fields": ["age"]},
    "items": {
        **{"file": "items.csv", "key": "sku"},
        "fields": [
            *("brand", "price", {"name": "genres", "split": "|"}),
            {"name": "length", "column": "ms", "bucket": "log2"},
            {"name": "first", "column": "genres", "split": "|", "take": "first"},
        ],
    },
    "cat_feature": ["uid", "age", "sku", "brand", "genres", "length", "first"],
    "dense_feature": ["price"],
    **{"behaviour": ["sku", "brand", "first"], "max_len": 12},
    **{"missing": ["-1"], "max_bad_fraction": 0.2},
}


def missing_sides(seed):
    """Ids as floats, bad rows, missing values, users and items without a row, several values."""
    rng = random.Random(seed)
    times = range(T0, T0 + 2 * DAY)
    shown, events = draw(rng, 700, times), draw(rng, 900, times)
    for row in (*shown, *events):
        row["uid"] = row["uid"][1:]  # 0 … 19; the events lack the users 15 … 19
        row["sku"] = str(10_000_000_000 + 10 * int(row["sku"][1:]))
    for row in rng.sample(shown, 40):
        row[rng.choice(["uid", "sku"])] = ""
    for row in events:
        row["uid"] = str(int(row["uid"]) % 15)
    users = [{"uid": str(n), "age": rng.choice(["18", "", "-1"])} for n in range(5, 25)]
    items = [
        {
            **{"sku": str(10_000_000_000 + 10 * n), "brand": rng.choice(["b1", "b2", ""])},
            **{"price": rng.choice(["9.5", "", "soon", "-3"]), "ms": rng.choice(["0", "900", ""])},
            "genres": rng.sample(["drama", "crime", "07"], rng.randrange(4)),
        }
        for n in range(30)  # of 40
    ]
    twice = [{**items[n], "brand": "other"} for n in (3, 9)]  # bad rows: the first stays
    past = [{**e, "place": (0, n)} for n, e in enumerate(events)]
    files = {
        "shown.csv": csv(
            shown,
            {
                "uid": lambda r: r["uid"] and r["uid"] + ".0",
                "sku": lambda r: r["sku"] and f"{float(r['sku']):.9e}",
                **{"ts": "at", "label": "label"},
            },
        ),
        "events.parquet": pa.table(
            {
                "uid": pa.array([int(row["uid"]) for row in events], pa.float64()),
                "sku": pa.array([int(row["sku"]) for row in events], pa.float64()),
                "ts": [row["at"] for row in events],
            }
        ),
        "users.csv": csv(users, {"uid": "uid", "age": "age"}),
        "items.csv": csv(
            [*items, *twice],
            {
                **{name: name for name in ("sku", "brand", "price", "ms")},
                "genres": lambda r: "|".join(r["genres"]),
            },
        ),
    }
    lengths = {"0": "0", "900": "9", "": ""}  # ⌊log₂(1 + 900)⌋ = 9
    for row in items:
        row |= {"length": lengths[row["ms"]], "first": (row["genres"] or [""])[0]}
        row["price"] = float(row["price"]) if row["price"] in ("9.5", "-3") else 0
    for row in users:
        row["age"] = row["age"].replace("-1", "")
    good = [row for row in shown if row["uid"] and row["sku"]]
    sides = [{row[key]: row for row in side} for side, key in ((users, "uid"), (items, "sku"))]
    return Log(MISSING_SIDES, files, good, past, *sides, several=["genres"])


LOGS = [ties_and_duplicates, coarse_clocks, time_zones, missing_sides]
