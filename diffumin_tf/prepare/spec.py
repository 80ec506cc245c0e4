"""The model of `prepare.json`: which tables there are and how they become records.

`"adapter": "tables"` (the default) joins a log of impressions with events and side tables::

    {
      "impressions": {"file": "shown.csv.gz", "user": "uid", "item": "video", "time": "ms",
                      "time_unit": "ms", "label": {"column": "rating", "at_least": 4},
                      "outcomes": ["watched"], "fields": ["tab", {"name": "hour", "time": "hour"}]},
      "impressions_are_events": {"keep_where": {"column": "watched", "equals": 1}},
      "events": [{"file": "earlier.csv", "user": "uid", "item": "video", "order_by": ["ms", "no"],
                  "fields": ["watched"]}],
      "users": {"file": "users.csv", "key": "uid", "fields": ["city"]},
      "items": {"file": "videos.parquet", "key": "video",
                "fields": ["author", {"name": "tag", "split": ",", "take": "first"},
                           {"name": "length", "column": "ms", "bucket": "log2"},
                           {"name": "fans", "log1p": true}]},
      "cat_feature": ["uid", "city", "video", "author", "tag", "length", "tab", "hour"],
      "dense_feature": ["fans"],
      "behaviour": ["video", "author", "tag", "watched"],
      "max_len": 100, "spaces": {}, "utc_offset_hours": 8, "days": ["20220425", "20220508"],
      "missing": ["-1"], "max_bad_fraction": 0.01, "parts": 1, "compression": ""
    }

`"adapter": "eleme"` reads the public Ele.me files, see `ElemeSpec`; `"synthetic"` makes a log
up, see `SyntheticSpec`. `docs/data.md` explains
every key. Keys that start with `---` are separators; any other unknown key is an error.
"""

import contextlib
import datetime
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field as Key

from diffumin_tf.config.strict import StrictModel, validate
from diffumin_tf.errors import ConfigError, did_you_mean
from diffumin_tf.files import read_json

_Name = Annotated[str, Key(min_length=1)]
_Effect = Literal["interest", "preferred_shop", "popularity", "context", "position", "activity"]


def _check_day(day: str) -> str:
    with contextlib.suppress(ValueError):
        if datetime.datetime.strptime(day, "%Y%m%d").strftime("%Y%m%d") == day:
            return day
    raise ValueError(f"{day!r} is no day of the form yyyymmdd")


Day = Annotated[str, pydantic.AfterValidator(_check_day)]


class FieldRule(StrictModel):
    """How a column becomes a field; `"tag"` is short for `{"name": "tag"}`.

    Attributes:
        name: name of the field in the records.
        column: column of the table; the name when absent.
        time: take the local hour (0 … 23) or weekday (0 = Monday) of the row's time, not a column.
        split: separator of a column that holds several values, of which `take` says which count.
        take: `"first"`.
        bucket: number → category: `"log2"`, ⌊log₂(1 + max(x, 0))⌋, or a list of rising edges.
        log1p: dense fields: log(1 + max(x, 0)).
    """

    name: _Name
    column: _Name | None = None
    time: Literal["hour", "weekday"] | None = None
    split: _Name | None = None
    take: Literal["first"] = "first"
    bucket: Literal["log2"] | list[float] | None = None
    log1p: bool = False

    @pydantic.model_validator(mode="after")
    def _one_rule(self) -> "FieldRule":
        rules = [r for r in ("time", "split", "bucket", "log1p") if getattr(self, r)]
        if len(rules) > 1 or (self.time and self.column):
            raise ValueError(f"field {self.name!r}: {' and '.join(rules)} cannot go together")
        if isinstance(self.bucket, list) and self.bucket != sorted(set(self.bucket)):
            raise ValueError(f"field {self.name!r}: the edges {self.bucket} must rise")
        return self

    @property
    def source(self) -> str | None:
        """The column that is read, None for a time field."""
        return None if self.time else self.column or self.name


def _named(field: Any) -> Any:
    return {"name": field} if isinstance(field, str) else field


_Fields = list[Annotated[FieldRule, pydantic.BeforeValidator(_named)]]


class RowFilter(StrictModel):
    """Rows whose `column` equals a text, or a number in value."""

    column: _Name
    equals: str | int | float


class Label(StrictModel):
    """1 where the column is 1, or with `at_least` where it is at least that; else 0."""

    column: _Name
    at_least: float | None = None


class _Table(StrictModel):
    file: _Name
    delimiter: Annotated[str, Key(min_length=1, max_length=1)] = ","
    fields: _Fields = []


class Impressions(_Table):
    """The log of shown items: one row is one record.

    Attributes:
        user, item, time: columns of the user id, the item id and the time in `time_unit` since
            1970.
        day: column that names the day of the partition (yyyymmdd or yyyy-mm-dd), for logs whose
            publisher cuts days otherwise than at local midnight; the local day of `time` when
            absent.
        label: what counts as a click.
        outcomes: columns that are known only afterwards; with the label's, they are never features
            of the same impression.
    """

    user: _Name
    item: _Name
    time: _Name
    time_unit: Literal["ms", "s"] = "ms"
    day: _Name | None = None
    label: Label
    outcomes: list[_Name] = []

    @property
    def known_afterwards(self) -> set[str]:
        """Columns that are no features of the same impression."""
        return {self.label.column, *self.outcomes}


class Events(_Table):
    """A table of behaviours.

    Attributes:
        order_by: the time column, then columns that order rows of equal time, older to newer.
        keep_where: only these rows are behaviours.
    """

    user: _Name
    item: _Name
    order_by: Annotated[list[_Name], Key(min_length=1)]
    time_unit: Literal["ms", "s"] = "ms"
    keep_where: RowFilter | None = None


class ImpressionsAsEvents(StrictModel):
    """Impressions become behaviours of the user's later impressions."""

    keep_where: RowFilter | None = None


class SideTable(_Table):
    """A table with one row a user or item, joined by `key`."""

    key: _Name


class _Spec(StrictModel):
    missing: list[str] = []
    max_bad_fraction: Annotated[float, Key(ge=0, le=1)] = 0.01
    parts: Annotated[int, Key(ge=1)] = 1
    compression: Literal["", "GZIP"] = ""


class TablesSpec(_Spec):
    """A spec of the adapter `tables`; the module docstring shows one."""

    adapter: Literal["tables"] = "tables"
    impressions: Impressions
    impressions_are_events: ImpressionsAsEvents | None = None
    events: list[Events] = []
    users: SideTable | None = None
    items: SideTable | None = None
    cat_feature: Annotated[list[_Name], Key(min_length=1)]
    dense_feature: list[_Name] = []
    behaviour: Annotated[list[_Name], Key(min_length=1)]
    max_len: Annotated[int, Key(ge=1)]
    spaces: dict[str, _Name] = {}
    utc_offset_hours: Annotated[float, Key(ge=-12, le=14)] = 0.0
    days: Annotated[list[Day], Key(min_length=2, max_length=2)] | None = None

    @pydantic.model_validator(mode="after")
    def _names_fit(self) -> "TablesSpec":
        _check_names(self)
        return self

    def space(self, field: str) -> str:
        """The id space of a field and of its history `<field>_list`."""
        return self.spaces.get(field) or self.spaces.get(f"{field}_list") or field


class ElemeSpec(_Spec):
    """A spec of the adapter `eleme`, which reads the public Ele.me release.

    Attributes:
        files: the file or files of each day, `{"20220407": "D1_0.csv"}`, or a pattern such as
            `"eleme_{yyyymmdd}.zip"`.
        list_order: order of the behaviour lists in the files; `"auto"` compares the first and the
            last entry of each row's `timediff_list`.
    """

    adapter: Literal["eleme"]
    files: dict[Day, list[_Name]] | _Name
    list_order: Literal["newest_first", "oldest_first", "auto"] = "auto"
    missing: list[str] = ["-99", "-1", "null", "NULL"]

    @pydantic.field_validator("files", mode="before")
    @classmethod
    def _files_of_days(cls, files: Any) -> Any:
        if isinstance(files, str) and files.count("{yyyymmdd}") == 1:
            return files
        if not isinstance(files, dict) or not files:
            raise ValueError(
                f"{files!r} is neither an object of days and their files nor a pattern that holds "
                "{yyyymmdd} once"
            )
        listed = {day: [f] if isinstance(f, str) else f for day, f in files.items()}
        for day, names in listed.items():
            _check_day(day)
            if not names or not isinstance(names, list) or not all(map(_is_name, names)):
                raise ValueError(f"day {day}: {names!r} is no file name or list of file names")
        return listed


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


class SyntheticSpec(StrictModel):
    """A spec of the adapter `synthetic`, which needs no input: a log whose truth is known.

    Attributes:
        samples_per_day: impressions by day.
        users, items, history_len, min_history_len, seed, click_rate: as in
            `diffumin_tf.synthetic.log.generate`.
        effects: weights of `diffumin_tf.synthetic.log.Effects` that differ from its defaults.
    """

    adapter: Literal["synthetic"]
    samples_per_day: Annotated[dict[Day, Annotated[int, Key(ge=1)]], Key(min_length=1)]
    users: Annotated[int, Key(ge=1)] = 20_000
    items: Annotated[int, Key(ge=1)] = 8_000
    history_len: Annotated[int, Key(ge=1)] = 50
    min_history_len: Annotated[int, Key(ge=0)] = 0
    seed: Annotated[int, Key(ge=0)] = 0
    click_rate: Annotated[float, Key(gt=0, lt=1)] = 0.25
    effects: dict[_Effect, float] = {}
    parts: Annotated[int, Key(ge=1)] = 1
    compression: Literal["", "GZIP"] = ""


Spec = TablesSpec | ElemeSpec | SyntheticSpec
_ADAPTERS: dict[str, type[Spec]] = {
    "tables": TablesSpec,
    "eleme": ElemeSpec,
    "synthetic": SyntheticSpec,
}


def load_spec(path: str) -> Spec:
    """Reads a `prepare.json`.

    Raises:
        ConfigError: the file cannot be read, or is no spec; names file, key, value and remedy.
    """
    content = read_json(path)
    adapter = content.get("adapter", "tables")
    if adapter not in _ADAPTERS:
        near = did_you_mean(str(adapter), list(_ADAPTERS)) or f"; one of {list(_ADAPTERS)}"
        raise ConfigError(f"{path}: adapter: unknown adapter {adapter!r}{near}")
    return validate(_ADAPTERS[adapter], content, path)


def _check_names(spec: TablesSpec) -> None:
    shown = spec.impressions
    joined = [f.name for table in (spec.users, spec.items) if table for f in table.fields]
    own = [f.name for f in shown.fields]
    candidate = [shown.user, shown.item, *own, *joined]
    _no_outcome_is_a_feature(spec, joined)
    for name in candidate:
        if candidate.count(name) > 1:
            raise ValueError(f"two fields are named {name!r}")
    past = [f.name for table in spec.events for f in table.fields]
    if spec.impressions_are_events:
        past += own
    for name in past:
        if name in (shown.user, shown.item, *joined):
            raise ValueError(f"field {name!r} of an event table is also a joined field")
    of_item = [f.name for f in spec.items.fields] if spec.items else []
    known = {
        "cat_feature": candidate,
        "dense_feature": candidate[2:],
        "behaviour": [shown.item, *of_item, *past],
        "spaces": [*spec.cat_feature, *spec.behaviour, *(f"{b}_list" for b in spec.behaviour)],
    }
    for key, names in known.items():
        asked = list(getattr(spec, key))
        for name in asked:
            if name not in names:
                raise ValueError(f"{key}: no table gives {name!r}{did_you_mean(name, names)}")
            if asked.count(name) > 1:
                raise ValueError(f"{key}: {name!r} is listed twice")
    _rules_fit_their_use(spec)
    if not spec.events and not spec.impressions_are_events:
        raise ValueError("neither 'events' nor 'impressions_are_events': there is no history")


def _no_outcome_is_a_feature(spec: TablesSpec, joined: list[str]) -> None:
    shown = spec.impressions
    sources = {f.name: f.source for f in shown.fields}
    for key in ("cat_feature", "dense_feature"):
        for name in getattr(spec, key):
            if name not in joined and sources.get(name, name) in shown.known_afterwards:
                raise ValueError(
                    f"{key}: {name!r} is an outcome of the impression itself; only past outcomes "
                    "may be used, in 'behaviour'"
                )


def _rules_fit_their_use(spec: TablesSpec) -> None:
    for table in (spec.impressions, *spec.events, spec.users, spec.items):
        for field in table.fields if table else ():
            if field.log1p and field.name in (*spec.cat_feature, *spec.behaviour):
                raise ValueError(f"field {field.name!r}: log1p makes no category")
            if field.name in spec.dense_feature and (field.time or field.split or field.bucket):
                raise ValueError(f"dense_feature: the rule of {field.name!r} makes a category")
            if field.time and table in (spec.users, spec.items):
                raise ValueError(f"field {field.name!r}: a side table has no time")
