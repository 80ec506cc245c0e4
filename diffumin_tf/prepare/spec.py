"""The model of `prepare.json`: which tables there are and how they become records.

`"adapter": "tables"` (the default) joins a log of impressions with events and side tables::

    {
      "impressions": {"file": "shown.csv.gz", "user": "uid", "item": "video", "time": "ms",
                      "time_unit": "ms", "label": {"column": "rating", "at_least": 4},
                      "outcomes": ["watched"], "fields": ["tab", {"name": "hour", "time": "hour"}]},
      "impressions_are_events": {"keep_where": {"column": "watched", "equals": 1}},
      "events": [{"file": "earlier.csv", "user": "uid", "item": "video", "order_by": ["ms", "no"],
                  "time_unit": "ms", "fields": ["watched"]}],
      "users": {"file": "users.csv", "key": "uid", "fields": ["city"]},
      "items": {"file": "videos.parquet", "key": "video",
                "fields": ["author", {"name": "tag", "split": ",", "take": "first"},
                           {"name": "genres", "split": "|"},
                           {"name": "length", "column": "ms", "bucket": "log2"},
                           {"name": "fans", "log1p": true}]},
      "cat_feature": ["uid", "city", "video", "author", "tag", "length", "tab", "hour"],
      "dense_feature": ["fans"],
      "behaviour": ["video", "author", "tag", "watched"],
      "max_len": 100, "spaces": {}, "utc_offset_hours": 8, "days": ["20220425", "20220508"],
      "missing": ["-1"], "max_bad_fraction": 0.01, "allow": [], "compression": ""
    }

`"adapter": "eleme"` reads the public Ele.me files, see `ElemeSpec`; `"synthetic"` makes a log
up, see `SyntheticSpec`. `docs/data.md` explains every key.
"""

import zoneinfo
from typing import Annotated, Literal

import pydantic
from pydantic import Field as Key

from diffumin_tf.config.strict import Day, StrictModel, validate
from diffumin_tf.errors import ConfigError, did_you_mean, did_you_mean_of
from diffumin_tf.files import read_json
from diffumin_tf.synthetic.log import LogSpec

_Name = Annotated[str, Key(min_length=1)]
_Names = Annotated[
    list[_Name],
    Key(min_length=1),
    pydantic.BeforeValidator(lambda names: [names] if isinstance(names, str) else names),
]


class FieldRule(StrictModel):
    """How a column becomes a field; `"tag"` is short for `{"name": "tag"}`."""

    name: _Name
    column: _Name | None = None  # the name when absent
    time: Literal["hour", "weekday"] | None = None
    split: _Name | None = None
    lists: bool = False  # the column holds lists
    take: Literal["first"] | None = None  # of these; without it all values are kept
    bucket: Literal["log2"] | list[float] | None = None
    log1p: bool = False

    @pydantic.model_validator(mode="after")
    def _one_rule(self) -> "FieldRule":
        rules = [r for r in ("time", "split", "lists", "bucket", "log1p") if getattr(self, r)]
        if len(rules) > 1 or (self.time and self.column):
            raise ValueError(f"field {self.name!r}: {' and '.join(rules)} cannot go together")
        if self.take and not (self.split or self.lists):
            raise ValueError(f"field {self.name!r}: take goes with split or lists")
        if not isinstance(self.bucket, str | None) and self.bucket != sorted(set(self.bucket)):
            raise ValueError(f"field {self.name!r}: the edges {self.bucket} must rise")
        return self

    @property
    def source(self) -> str | None:
        """The column that is read, None for a time field."""
        return None if self.time else self.column or self.name

    @property
    def several(self) -> bool:
        """Whether the field holds several values."""
        return bool(self.split or self.lists) and self.take is None


_Field = Annotated[
    FieldRule,
    pydantic.BeforeValidator(lambda field: {"name": field} if isinstance(field, str) else field),
]


class RowFilter(StrictModel):
    """Rows whose `column` equals a text, or a number in value."""

    column: _Name
    equals: str | int | float | bool


class Label(StrictModel):
    """1 where the column is 1, or with `at_least` where it is at least that; else 0."""

    column: _Name
    at_least: float | None = None


class _Table(StrictModel):
    file: _Name  # a file, a folder, or a glob
    delimiter: Annotated[str, Key(min_length=1, max_length=1)] | None = None  # by the name
    quoting: Literal["minimal", "none"] = "minimal"
    fields: list[_Field] = []


def _check_zone(name: str) -> str:
    if name not in zoneinfo.available_timezones():
        near = did_you_mean(name, zoneinfo.available_timezones())
        raise ValueError(f"{name!r} is no time zone such as 'UTC' or 'Asia/Shanghai'{near}")
    return name


class _TimedTable(_Table):
    """A table whose rows have a user, an item and a time.

    `time_unit` is that of numbers, and has no default. `time_zone` is that of date-times that do
    not say theirs.
    """

    user: _Name
    item: _Name
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    time_zone: Annotated[str, pydantic.AfterValidator(_check_zone)] = "UTC"


class Impressions(_TimedTable):
    """The log of shown items: one row is one sample."""

    time: _Name
    day: _Name | None = None  # for logs whose days are not cut at local midnight
    label: Label
    outcomes: list[_Name] = []  # columns that are known only after the impression


class Events(_TimedTable):
    """A table of behaviours."""

    order_by: Annotated[list[_Name], Key(min_length=1)]  # the time; then what orders equal times
    keep_where: RowFilter | None = None


class ImpressionsAsEvents(StrictModel):
    """Impressions become behaviours of the user's later impressions."""

    keep_where: RowFilter | None = None


class SideTable(_Table):
    """A table with one row a user or item, joined by `key`."""

    key: _Name


class RecordSpec(StrictModel):
    """What every adapter takes."""

    parts: Annotated[int, Key(ge=1)] = 1
    compression: Literal["", "GZIP"] = ""


# What is refused unless `allow` names it; docs/data.md says when.
Refusal = Literal[
    "time_range",
    "no_match",
    "filter_keeps_nothing",
    "own_item",
    "empty_histories",
    "heavy_user",
    "swallowed_lines",
    "one_label",
    "printed_lists",
    "missing_words",
    "coarse_clock",
]


class TableSpec(RecordSpec):
    """What every adapter takes that reads tables."""

    missing: list[str] = []
    max_bad_fraction: Annotated[float, Key(ge=0, le=1)] = 0.01
    allow: list[Refusal] = []


class TablesSpec(TableSpec):
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

    @property
    def tables(self) -> list["_Table"]:
        """All tables, the impressions first."""
        return [t for t in (self.impressions, *self.events, self.users, self.items) if t]

    def uses(self, field: FieldRule) -> bool:
        """Whether a feature is made of the field."""
        return field.name in (*self.cat_feature, *self.behaviour, *self.dense_feature)

    @property
    def several(self) -> list[str]:
        """The categorical features that hold several values."""
        names = {f.name for table in self.tables for f in table.fields if f.several}
        return [name for name in self.cat_feature if name in names]

    @pydantic.model_validator(mode="after")
    def _names_fit(self) -> "TablesSpec":
        _check_outcomes(self)
        _check_names(self)
        _check_rules(self)
        if not self.events and not self.impressions_are_events:
            raise ValueError("neither 'events' nor 'impressions_are_events': there is no history")
        return self

    def space(self, field: str) -> str:
        """The id space of a field and of its history `<field>_list`."""
        return self.spaces.get(field) or self.spaces.get(f"{field}_list") or field


def _check_pattern(files: str) -> str:
    if files.count("{yyyymmdd}") != 1:
        raise ValueError(
            f"{files!r} is neither an object of days and their files nor a pattern that holds "
            "{yyyymmdd} once"
        )
    return files


class ElemeSpec(TableSpec):
    """A spec of the adapter `eleme`, which reads the public Ele.me release."""

    adapter: Literal["eleme"]
    files: Annotated[
        Annotated[dict[Day, _Names], Key(min_length=1), pydantic.Tag("days")]
        | Annotated[str, pydantic.AfterValidator(_check_pattern), pydantic.Tag("pattern")],
        pydantic.Discriminator(lambda files: "days" if isinstance(files, dict) else "pattern"),
    ]
    list_order: Literal["newest_first", "oldest_first", "auto"] = "auto"
    missing: list[str] = ["-99", "-1", "null", "NULL"]


class SyntheticSpec(LogSpec, RecordSpec):
    """A spec of the adapter `synthetic`, which needs no input: a log whose truth is known."""

    adapter: Literal["synthetic"]


class JoinedSpec(StrictModel):
    """A spec of the adapter `joined`, which reads Parquet that an engine joined.

    A row is a (user, day): columns of the user, `impressions` (a list of structs: label, time,
    `newer`, candidate and context columns) and the user's behaviours `<field>_list`, newest first;
    impression i sees `list[newer_i : newer_i + max_len]`. Or a row is an impression.
    """

    adapter: Literal["joined"]
    files: _Name = "**/*.parquet"  # relative to --input
    impressions: _Name | None = "impressions"  # None: a row is an impression
    user: _Name
    label: Label
    time: _Name = "time"
    time_unit: Literal["ms", "s"] | None = None  # needed by times that are numbers
    day: _Name | None = None  # a column or a key of the path; None: the day of the time
    cat_feature: Annotated[list[_Name], Key(min_length=1)]
    dense_feature: list[_Name] = []
    multi_feature: list[_Name] = []
    behaviour: Annotated[list[_Name], Key(min_length=1)]
    max_len: Annotated[int, Key(ge=1)]
    spaces: dict[str, _Name] = {}
    missing: list[str] = []
    utc_offset_hours: Annotated[float, Key(ge=-12, le=14)] = 0.0
    compression: Literal["", "GZIP"] = ""
    allow: list[Literal["time_range"]] = []

    @pydantic.model_validator(mode="after")
    def _names_fit(self) -> "JoinedSpec":
        features = [*self.cat_feature, *self.dense_feature, *self.multi_feature]
        for key, names in (("features", features), ("behaviour", self.behaviour)):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"{key}: {name!r} is listed twice")
        if self.label.column in features:
            raise ValueError(f"the label {self.label.column!r} is a feature too")
        known = [*features, *self.behaviour, *(f"{name}_list" for name in self.behaviour)]
        for name in self.spaces:
            if name not in known:
                raise ValueError(f"spaces: there is no field {name!r}{did_you_mean(name, known)}")
        return self

    def space(self, field: str) -> str:
        """The id space of a field and of its history `<field>_list`."""
        return self.spaces.get(field) or self.spaces.get(f"{field}_list") or field


_ADAPTERS = {
    "joined": JoinedSpec,
    "tables": TablesSpec,
    "eleme": ElemeSpec,
    "synthetic": SyntheticSpec,
}


def load_spec(path: str) -> TablesSpec | JoinedSpec | ElemeSpec | SyntheticSpec:
    """Reads a `prepare.json`.

    Raises:
        ConfigError: the file cannot be read, or is no spec; names file, key, value and remedy.
    """
    content = read_json(path)
    adapter = str(content.get("adapter", "tables"))
    if adapter not in _ADAPTERS:
        near = did_you_mean_of(adapter, _ADAPTERS)
        raise ConfigError(f"{path}: adapter: unknown adapter {adapter!r}{near}")
    return validate(_ADAPTERS[adapter], content, path)


def _check_names(spec: TablesSpec) -> None:
    shown = spec.impressions
    of_log, of_user, of_item = (
        [f.name for f in table.fields] if table else [] for table in (shown, spec.users, spec.items)
    )
    past = [f.name for table in spec.events for f in table.fields]
    past += of_log if spec.impressions_are_events else []
    candidate = [shown.user, shown.item, *of_log, *of_user, *of_item]
    for name in candidate:
        if candidate.count(name) > 1:
            raise ValueError(f"two fields are named {name!r}")
    for name in past:
        if name in (shown.user, shown.item, *of_user, *of_item):
            raise ValueError(f"field {name!r} of an event table is also a joined field")
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


def _check_outcomes(spec: TablesSpec) -> None:
    """No outcome of an impression is a feature of the same impression."""
    shown = spec.impressions
    sources = {f.name: None for table in (spec.users, spec.items) if table for f in table.fields}
    sources |= {f.name: f.source for f in shown.fields}
    for key in ("cat_feature", "dense_feature"):
        for name in getattr(spec, key):
            if sources.get(name, name) in (shown.label.column, *shown.outcomes):
                raise ValueError(
                    f"{key}: {name!r} is an outcome of the impression itself; only past outcomes "
                    "may be used, in 'behaviour'"
                )


def _check_rules(spec: TablesSpec) -> None:
    for table in (spec.impressions, *spec.events, spec.users, spec.items):
        for field in table.fields if table else ():
            if field.log1p and field.name in (*spec.cat_feature, *spec.behaviour):
                raise ValueError(f"field {field.name!r}: log1p makes no category")
            if field.name in spec.dense_feature and (
                field.time or field.split or field.lists or field.bucket
            ):
                raise ValueError(f"dense_feature: the rule of {field.name!r} makes a category")
            if field.several and field.name in spec.behaviour:
                raise ValueError(
                    f'behaviour: {field.name!r} holds several values; add "take": "first"'
                )
            if field.time and table in (spec.users, spec.items):
                raise ValueError(f"field {field.name!r}: a side table has no time")
