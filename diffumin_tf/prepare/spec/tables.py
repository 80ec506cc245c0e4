"""The spec of the adapter `tables`, which joins a log of impressions with events and side tables.

An example with every key::

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
      "missing": ["-1"], "max_bad_fraction": 0.01, "allow": [], "compression": "",
      "group": "user_day"
    }
"""

import zoneinfo
from collections.abc import Sequence
from typing import Annotated, Literal

import pydantic
from pydantic import Field as Key

from diffumin_tf.config.strict import Day, StrictModel
from diffumin_tf.errors import did_you_mean
from diffumin_tf.prepare.spec.common import FeaturesSpec, GroupSpec, Label, Name, Number, TableSpec


class FieldRule(StrictModel):
    """How a column becomes a field; `"tag"` is short for `{"name": "tag"}`."""

    name: Name
    column: Name | None = None  # the name when absent
    time: Literal["hour", "weekday"] | None = None
    split: Name | None = None
    lists: bool = False  # the column holds lists
    take: Literal["first"] | None = None  # of these; without it all values are kept
    bucket: Literal["log2"] | list[Number] | None = None
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

    column: Name
    equals: str | int | Number | bool


class _Table(StrictModel):
    file: Name  # a file, a folder, or a glob
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

    user: Name
    item: Name
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    time_zone: Annotated[str, pydantic.AfterValidator(_check_zone)] = "UTC"


class Impressions(_TimedTable):
    """The log of shown items: one row is one sample."""

    time: Name
    day: Name | None = None  # for logs whose days are not cut at local midnight
    label: Label
    outcomes: list[Name] = []  # columns that are known only after the impression


class Events(_TimedTable):
    """A table of behaviours."""

    order_by: Annotated[list[Name], Key(min_length=1)]  # the time; then what orders equal times
    keep_where: RowFilter | None = None


class ImpressionsAsEvents(StrictModel):
    """Impressions become behaviours of the user's later impressions."""

    keep_where: RowFilter | None = None


class SideTable(_Table):
    """A table with one row a user or item, joined by `key`."""

    key: Name


class TablesSpec(TableSpec, FeaturesSpec, GroupSpec):
    """A spec of the adapter `tables`; the module docstring shows one."""

    adapter: Literal["tables"] = "tables"
    impressions: Impressions
    impressions_are_events: ImpressionsAsEvents | None = None
    events: list[Events] = []
    users: SideTable | None = None
    items: SideTable | None = None
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
        if self.days and self.days[0] > self.days[1]:
            raise ValueError(f"days: {self.days[0]} is after {self.days[1]}; the first comes first")
        return self


# Columns of the joined form and of the plan that makes it, in lower case.
_JOINED = frozenset(("order", "newer", "label", "time", "day", "impressions"))
_PLANNED = "_row _kept _key _nth _u _i _t _k _n _b _end _label _day _date _fault _event _past _seen"
_PLANNED = frozenset(_PLANNED.split())


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
    _check_collisions(spec, candidate, past)
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


def _check_collisions(spec: TablesSpec, candidate: Sequence[str], past: Sequence[str]) -> None:
    """No field is named like a column of the joined form, or like another but for case."""
    features = (*spec.cat_feature, *spec.dense_feature)
    own = {*_JOINED, *(f"{name}_list".lower() for name in spec.behaviour)}
    spelt: dict[str, str] = {}
    for name in (*candidate, *past):
        lower = name.lower()
        if lower in _PLANNED or (lower in own and name in features):
            raise ValueError(
                f"field {name!r}: the join has a column of this name; "
                f'take another: {{"name": "the_{name.strip("_")}", "column": "{name}"}}'
            )
        if spelt.setdefault(lower, name) != name:
            raise ValueError(
                f"fields {spelt[lower]!r} and {name!r} differ in case alone, and are one in SQL"
            )


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
