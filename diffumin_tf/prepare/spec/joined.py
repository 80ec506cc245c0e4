"""The spec of the adapter `joined`."""

from typing import Any, Literal

import pydantic

from diffumin_tf.errors import did_you_mean
from diffumin_tf.prepare.spec.common import FeaturesSpec, GroupSpec, Label, Name


class JoinedSpec(FeaturesSpec, GroupSpec):
    """A spec of the adapter `joined`, which reads Parquet that an engine joined.

    A row is a (user, day): columns of the user, `impressions` (a list of structs: label, time,
    `newer`, candidate and context columns) and the user's behaviours `<field>_list`, newest first;
    impression i sees `list[newer_i : newer_i + max_len]`. Or a row is an impression.
    """

    adapter: Literal["joined"]
    files: Name = "**/*.parquet"  # relative to --input
    impressions: Name | None = "impressions"  # None: a row is an impression
    user: Name
    label: Label
    time: Name = "time"
    time_unit: Literal["ms", "s"] | None = None  # needed by times that are numbers
    day: Name | None = None  # a column or a key of the path; None: the day of the time
    multi_feature: list[Name] = []
    missing: list[str] = []
    compression: Literal["", "GZIP"] = ""
    allow: list[Literal["time_range", "own_item"]] = []

    @pydantic.model_validator(mode="before")
    @classmethod
    def _alone(cls, content: Any) -> Any:
        """Rows that are impressions do not say what they share."""
        if not isinstance(content, dict) or content.get("impressions", "") is not None:
            return content
        if content.get("group", "none") != "none":
            raise ValueError(
                f"group: {content['group']!r} needs rows that list their impressions; "
                'with "impressions": null leave it out'
            )
        return {**content, "group": "none"}

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
