"""A small clean log, the ways in which users' logs differ from it, and what must come of that.

A step changes a `UserLog`; an expectation looks at what `prepare` made of it.
"""

import copy
import functools
import json
import pathlib
import re
import tempfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diffumin_tf.errors import ConfigError, DataError
from tests.prepare.prepared import prepare_on, read_samples, visible_files

DAY = 86_400_000
T0 = 1_709_251_200_000  # 2024-03-01 00:00 in UTC
SPEC = {
    "impressions": {
        **{"file": "shown.csv", "user": "uid", "item": "sku", "time": "ts", "time_unit": "ms"},
        "label": {"column": "clicked"},
        "fields": ["page", {"name": "hour", "time": "hour"}],
    },
    "events": [
        {
            **{"file": "views.csv", "user": "uid", "item": "sku"},
            **{"order_by": ["ts"], "time_unit": "ms"},
        }
    ],
    "users": {"file": "users.csv", "key": "uid", "fields": ["city"]},
    "items": {"file": "items.csv", "key": "sku", "fields": ["brand", "price"]},
    "cat_feature": ["uid", "city", "sku", "brand", "page", "hour"],
    "dense_feature": ["price"],
    **{"behaviour": ["sku", "brand"], "max_len": 50},
}


class UserLog:
    """40 users × 15 impressions over three days, 1,200 events of eight, 60 items.

    Attributes:
        frames: tables by name; each is written as `<name>.csv` when nobody wrote it before.
    """

    def __init__(self, folder):
        rng = np.random.default_rng(0)
        self.folder, self.spec, self._written = folder, copy.deepcopy(SPEC), set()
        folder.mkdir()
        uid, sku = np.repeat(np.arange(1, 41), 15), rng.integers(101, 161, 600)
        columns = {
            **{"uid": uid, "sku": sku, "ts": T0 + rng.integers(0, 3 * DAY, 600)},
            "clicked": (rng.random(600) < 0.2 + 0.4 * ((sku + uid) % 3 == 0)).astype(int),
            "page": rng.choice(["home", "search"], 600),
        }
        views = {
            **{"uid": rng.integers(1, 41, 1200), "sku": rng.integers(101, 161, 1200)},
            **{"ts": T0 + rng.integers(-5 * DAY, 3 * DAY, 1200)},
            **{"kind": rng.choice(["view", "cart"], 1200), "bought": rng.integers(0, 2, 1200)},
        }
        users = {"uid": range(1, 41), "city": [f"city {n % 5}" for n in range(40)]}
        items = {"sku": range(101, 161), "brand": [f"b{n % 7}" for n in range(60)]}
        items["price"] = (rng.random(60) * 100).round(2)
        named = {"shown": columns, "views": views, "users": users, "items": items}
        self.frames = {name: pd.DataFrame(table) for name, table in named.items()}
        for name in ("shown", "views"):
            frame = self.frames[name].sort_values("ts", kind="stable")
            self.frames[name] = frame.reset_index(drop=True)

    def written(self, table, **options):
        """Writes a table as CSV, if it was not; the path."""
        path = self.folder / f"{table}.csv"
        if table not in self._written:
            self.frames[table].to_csv(path, index=False, **options)
            self._written.add(table)
        return path

    def table(self, name):
        """The block of the spec that names a table."""
        blocks = {"shown": self.spec["impressions"], "views": self.spec["events"][0]}
        return blocks.get(name) or self.spec[name]

    def prepare(self, output):
        for table in self.frames:
            self.written(table)
        spec = self.folder.parent / f"{output.name}.json"
        spec.write_text(json.dumps(self.spec))
        return prepare_on("duckdb", str(spec), str(self.folder), str(output))


# Steps: functions of a log.


def column(place, change):
    """Replaces a column, `"views.ts"`, by a function of it, or makes it by one of the frame."""
    table, name = place.split(".")

    def step(log):
        frame = log.frames[table]
        frame[name] = change(frame[name] if name in frame else frame)

    return step


def cells(place, rows, value):
    """Sets a column of some rows."""

    def change(old):
        new = old.astype(object)
        new.iloc[rows] = value
        return new

    return column(place, change)


def frame(table, change):
    """Replaces a table by a function of it."""
    return lambda log: log.frames.update({table: change(log.frames[table])})


def key(path, value):
    """Sets a key of the spec, `"views.time_unit"`; None takes it away."""
    *tables, name = path.split(".")

    def step(log):
        block = log.table(tables[0]) if tables else log.spec
        block[name] = value
        if value is None:
            del block[name]

    return step


def content(table, change):
    """Replaces the bytes of a written CSV by a function of its text (or bytes, if that fails)."""

    def step(log):
        path = log.written(table)
        new = change(path.read_text())
        path.write_bytes(new.encode() if isinstance(new, str) else new)

    return step


def file(table, name, write, pattern=None):
    """`write(frame, path)` writes a table under another name, which the spec has as a pattern."""

    def step(log):
        log.table(table)["file"] = pattern or name
        (log.folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(log.frames[table], log.folder / name)
        log._written.add(table)

    return step


def parquet(table, name=None, **types):
    """Writes a table as Parquet, columns cast to Arrow types."""

    def write(data, path):
        written = pa.Table.from_pandas(data, preserve_index=False)
        for column_name, kind in types.items():
            place = written.schema.get_field_index(column_name)
            cast = written[column_name].cast(kind)
            written = written.set_column(place, column_name, cast)
        pq.write_table(written, path)

    return file(table, name or f"{table}.parquet", write)


def no_unit(table):
    return key(f"{table}.time_unit", None)


# Expectations: functions of an outcome and of a folder for another one.


class Outcome:
    """What became of a log: `error`, or `manifest` and `samples`."""

    def __init__(self, log, output):
        self.log, self.output, self.error = log, output, None
        try:
            self.manifest = log.prepare(output)
        except (DataError, ConfigError) as error:
            self.error = str(error)

    @property
    def files(self):
        assert self.error is None, self.error
        return visible_files(self.output)

    @property
    def samples(self):
        assert self.error is None, self.error
        return {day: read_samples(self.output, day) for day in self.manifest["days"]}

    @property
    def data(self):
        assert self.error is None, self.error
        return self.manifest["data"]


def tolerant(fraction):
    return key("max_bad_fraction", fraction)


def refused(*parts, allow=None, also=()):
    """An error with all these patterns; with `allow` the same log is taken, and that is noted.

    Args:
        also: what else must be allowed.
    """

    def expect(outcome, output):
        assert outcome.error is not None, outcome.data["warnings"]
        for part in parts:
            assert re.search(part, outcome.error), (part, outcome.error)
        if allow:
            assert f'"allow": ["{allow}"]' in outcome.error
            outcome.log.spec["allow"] = [allow, *also]
            insisted = Outcome(outcome.log, output)
            assert allow in insisted.data["allowed"]

    return expect


def warned(*parts):
    """One warning has all these patterns."""

    def expect(outcome, _):
        told = outcome.data["warnings"]
        assert any(all(re.search(part, w) for part in parts) for w in told), (parts, told)

    return expect


def counted(file, **facts):
    """What the manifest says of a file; of a dict, only the named keys."""

    def expect(outcome, _):
        found = outcome.data["tables"][file]
        for name, value in facts.items():
            assert found[name] == value, (name, found)

    return expect


def equal_to(*steps):
    """The samples are those of the clean log after these steps."""

    def expect(outcome, _):
        files, samples = _clean_after(*_flat(list(steps)))
        if outcome.files != files:  # which takes far less time to see than that samples are equal
            _same(outcome.samples, samples)

    return expect


@functools.cache
def _clean_after(*steps):
    """The files of a clean log after some steps, and the samples they hold."""
    with tempfile.TemporaryDirectory() as folder:
        log = UserLog(pathlib.Path(folder, "in"))
        for step in steps:
            step(log)
        clean = Outcome(log, pathlib.Path(folder, "out"))
        return clean.files, clean.samples


def _same(found, expected):
    assert {day: len(samples) for day, samples in found.items()} == {
        day: len(samples) for day, samples in expected.items()
    }
    for day, samples in expected.items():
        differing = [n for n, sample in enumerate(samples) if found[day][n] != sample]
        assert not differing, (day, len(differing), found[day][differing[0]], samples[differing[0]])


EQUAL = equal_to()


def case(name, steps, *expectations):
    """A row of a table of faults: its name, what was done to the log, what must come of it.

    Args:
        steps: one step, or a list of steps and of such lists.
    """
    return pytest.param(_flat(steps), expectations, id=name.replace(" ", "-"))


def _flat(steps):
    return [s for part in steps for s in _flat(part)] if isinstance(steps, list) else [steps]


def check(folder, steps, expectations):
    """Spoils a log in an empty folder by the steps, and holds what comes of it to expectations."""
    log = UserLog(folder / "in")
    for step in steps:
        step(log)
    outcome = Outcome(log, folder / "out")
    for expect in expectations:
        expect(outcome, folder / "insisted")
