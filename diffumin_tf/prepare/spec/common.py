"""What the specs of several adapters take."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field as Key

from diffumin_tf.config.strict import StrictModel

Name = Annotated[str, Key(min_length=1)]
Names = Annotated[
    list[Name],
    Key(min_length=1),
    pydantic.BeforeValidator(lambda names: [names] if isinstance(names, str) else names),
]


Number = Annotated[float, Key(allow_inf_nan=False)]


class Label(StrictModel):
    """1 where the column is 1, or with `at_least` where it is at least that; else 0."""

    column: Name
    at_least: Number | None = None


class RecordSpec(StrictModel):
    """What every adapter takes."""

    parts: Annotated[int, Key(ge=1)] = 1
    compression: Literal["", "GZIP"] = ""


class GroupSpec(StrictModel):
    """What every adapter takes that knows which impressions share a history.

    Attributes:
        group: whether the impressions of a user and day share a record, or have one each.
    """

    group: Literal["user_day", "none"] = "user_day"


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


class FeaturesSpec(StrictModel):
    """What every adapter takes whose features a person names."""

    cat_feature: Annotated[list[Name], Key(min_length=1)]
    dense_feature: list[Name] = []
    behaviour: Annotated[list[Name], Key(min_length=1)]
    max_len: Annotated[int, Key(ge=1)]
    spaces: dict[str, Name] = {}
    utc_offset_hours: Annotated[float, Key(ge=-12, le=14)] = 0.0

    def space(self, field: str) -> str:
        """The id space of a field and of its history `<field>_list`."""
        return self.spaces.get(field) or self.spaces.get(f"{field}_list") or field
