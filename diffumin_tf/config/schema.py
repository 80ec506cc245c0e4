"""The schema of a record (`data_struct.json`): which columns there are and where they lie."""

import collections
import dataclasses
import itertools
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, PositiveInt

from diffumin_tf.config.strict import StrictModel, validate
from diffumin_tf.errors import ConfigError, did_you_mean
from diffumin_tf.files import read_json

SCHEMA_FILE = "data_struct.json"

GROUPS = ("label", "auxiliary_info", "cat_feature", "dense_feature")
# Keys of a record of several impressions: how many behaviours are newer than what each sees, and,
# after the name of a field of several values, how many values each has.
NEWER, COUNT = "newer", "_count"
_RANGE = re.compile(r"^(?P<name>[^\[\]]+)\[(?P<start>\d+):(?P<stop>\d+)\]$")
_ELEMENT = re.compile(r"^(?P<name>[^\[\]]+)\[(?P<index>\d+)\]$")

Name = Annotated[str, Field(min_length=1)]


class Group(StrictModel):
    """The columns of one group, with ranges such as `a[0:50]` written out."""

    column: list[Name] = []

    @pydantic.field_validator("column")
    @classmethod
    def _written_out(cls, columns: list[str]) -> list[str]:
        written = [name for column in columns for name in _expand(column)]
        for name, count in collections.Counter(written).items():
            if count > 1:
                raise ValueError(f"column {name!r} is listed twice")
        return written


class SequenceGroup(Group):
    """History fields that have a record key of their own, and how long they are at most."""

    max_len: PositiveInt


class SchemaFile(StrictModel):
    """The content of a `data_struct.json`.

    Attributes:
        layout: `groups`: a record key for each group, and one for each field of any length;
            `columns`: one for each column, whose texts and whole numbers become ids when read.
        hashed: in the layout `columns`: whether categorical columns hold ids of 63 bits already.
        kind: in the layout `columns`: what a column holds, where the first records do not say it.
        stored_once: columns and fields that a record of several impressions holds once.
    """

    label: Group
    auxiliary_info: Group = Group()
    cat_feature: Group = Group()
    dense_feature: Group = Group()
    sequence_feature: SequenceGroup = SequenceGroup(max_len=1)
    multi_feature: Group = Group()
    id_space: dict[str, Name] = {}
    layout: Literal["groups", "columns"] = "groups"
    hashed: bool = False
    kind: dict[str, Literal["int64", "float", "bytes"]] = {}
    stored_once: list[Name] = []

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "SchemaFile":
        if len(self.label.column) != 1:
            raise ValueError(f"label: must name exactly one column, got {self.label.column}")
        columns, histories = self.cat_feature.column, self.sequence_feature.column
        fixed = _fixed_sequences(columns)
        keys = {NEWER, *(f"{name}{COUNT}" for name in self.multi_feature.column)}
        for name in histories:
            if name in keys:
                raise ValueError(f"sequence_feature: {name!r} is a record key too; rename it")
            if name in fixed or name in columns:
                raise ValueError(f"sequence_feature: {name!r} stands in cat_feature too")
        self._check_multi({*fixed, *histories}, {*keys, *GROUPS})
        named = {*columns, *fixed, *histories, *self.multi_feature.column}
        for name in self.id_space:
            if name not in named:
                near = did_you_mean(name, named)
                raise ValueError(f"id_space: {name!r} is no categorical column{near}")
        only_in = {"hashed": "columns", "kind": "columns", "stored_once": "groups"}
        for key, layout in only_in.items():
            if getattr(self, key) and self.layout != layout:
                raise ValueError(f'{key}: is for "layout": "{layout}" alone; leave it out')
        named |= {name for group in GROUPS for name in getattr(self, group).column}
        for name in self.kind:
            if name not in named:
                raise ValueError(f"kind: {name!r} is no column{did_you_mean(name, named)}")
        may_be = named - {*self.label.column, *fixed, *histories}
        for name in self.stored_once:
            if name not in may_be:
                near = did_you_mean(name, may_be)
                raise ValueError(f"stored_once: {name!r} is no column{near}")
        return self

    def _check_multi(self, histories: set[str], keys: set[str]) -> None:
        """A field of several values has a record key of its own: no other group may use it."""
        taken = {"a history field": histories, "a record key": keys}
        taken |= {f"a column of {group}": getattr(self, group).column for group in GROUPS}
        for name in self.multi_feature.column:
            if match := _ELEMENT.match(name):
                raise ValueError(f"multi_feature: {name!r}: write {match['name']!r} for all values")
            for what, names in taken.items():
                if name in names:
                    raise ValueError(f"multi_feature: {name!r} is {what} too; rename one of them")


@dataclasses.dataclass(frozen=True)
class SequenceField:
    """One field of the behaviour history, most recent first.

    Attributes:
        start: first column in `cat_feature` when the field is stored as fixed columns; None when
            it is stored under a record key of its own with variable length.
    """

    name: str
    max_len: int
    start: int | None = None


@dataclasses.dataclass(frozen=True)
class DataStruct:
    """Columns of a record by group, with ranges such as `a[0:50]` written out.

    Attributes:
        sequences: history fields by name, whichever way they are stored.
        id_spaces: explicit id space of a field; see `id_space`.
        source: where the schema came from, for messages.
        multi_feature: fields of several values, each 0 to many ids, whose order means nothing.
        layout, hashed, kinds, stored_once: as in `SchemaFile`.
    """

    label: tuple[str, ...]
    auxiliary_info: tuple[str, ...]
    cat_feature: tuple[str, ...]
    dense_feature: tuple[str, ...]
    sequences: dict[str, SequenceField]
    id_spaces: dict[str, str]
    source: str = "data_struct"
    multi_feature: tuple[str, ...] = ()
    layout: str = "groups"
    hashed: bool = False
    kinds: dict[str, str] = dataclasses.field(default_factory=dict)
    stored_once: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str) -> "DataStruct":
        """Reads a `data_struct.json`; a ConfigError says why it describes no schema."""
        return cls.from_dict(read_json(path), source=path)

    @classmethod
    def from_dict(cls, content: dict[str, Any], source: str = "data_struct") -> "DataStruct":
        """Builds the schema from the content of a `data_struct.json`."""
        file = validate(SchemaFile, content, source)
        groups = {name: tuple(getattr(file, name).column) for name in GROUPS}
        sequences = _fixed_sequences(groups["cat_feature"])
        for name in file.sequence_feature.column:
            sequences[name] = SequenceField(name, file.sequence_feature.max_len)
        return cls(
            **groups,
            sequences=sequences,
            id_spaces=dict(file.id_space),
            source=source,
            multi_feature=tuple(file.multi_feature.column),
            layout=file.layout,
            hashed=file.hashed,
            kinds=dict(file.kind),
            stored_once=tuple(file.stored_once),
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of an equal `data_struct.json`."""
        content: dict[str, Any] = {g: {"column": _collapse(getattr(self, g))} for g in GROUPS}
        if variable := self.variable_sequences:
            max_len = self.sequences[variable[0]].max_len
            content["sequence_feature"] = {"column": list(variable), "max_len": max_len}
        if self.multi_feature:
            content["multi_feature"] = {"column": _collapse(self.multi_feature)}
        if self.id_spaces:
            content["id_space"] = dict(self.id_spaces)
        if self.layout != "groups":
            content |= {"layout": self.layout, "hashed": self.hashed, "kind": dict(self.kinds)}
        if self.stored_once:
            content["stored_once"] = list(self.stored_once)
        return content

    @property
    def variable_sequences(self) -> tuple[str, ...]:
        """Names of the history fields that have a record key of their own."""
        return tuple(f.name for f in self.sequences.values() if f.start is None)

    @property
    def ragged(self) -> tuple[str, ...]:
        """Names of all that has a record key of its own and any number of ids in a record."""
        return self.variable_sequences + self.multi_feature

    @property
    def categorical(self) -> tuple[str, ...]:
        """Names of all columns and fields whose values are ids."""
        return self.cat_feature + self.ragged

    def id_space(self, field: str) -> str:
        """The id space of a field: fields of one space share ids and so embeddings.

        Without an entry in `id_space`, a history field belongs to the space of its name without
        `_list`, any other field to the space of its own name.
        """
        if field in self.id_spaces:
            return self.id_spaces[field]
        return field.removesuffix("_list") if field in self.sequences else field

    def position(self, group: str, column: str) -> int:
        """Index of a column within its group; a ConfigError names the nearest one."""
        columns = getattr(self, group)
        if column not in columns:
            others = self.multi_feature if group == "cat_feature" else ()
            near = did_you_mean(column, (*columns, *others))
            raise ConfigError(f"{self.source}: {group} has no column {column!r}{near}")
        return columns.index(column)

    def sequence(self, name: str) -> SequenceField:
        """The history field of that name; a ConfigError names the nearest one."""
        if name not in self.sequences:
            raise ConfigError(
                f"{self.source}: no history field {name!r} (neither {name}[0:n] in cat_feature nor "
                f"in sequence_feature){did_you_mean(name, self.sequences)}"
            )
        return self.sequences[name]


def _expand(column: str) -> list[str]:
    match = _RANGE.match(column)
    if not match:
        return [column]
    indices = range(int(match["start"]), int(match["stop"]))
    if not indices:
        raise ValueError(f"empty range {column!r}")
    return [f"{match['name']}[{i}]" for i in indices]


def _collapse(columns: Sequence[str]) -> list[str]:
    """The inverse of `_expand`: consecutive elements become one range."""

    def run_of(numbered: tuple[int, str]) -> tuple[str, int | None]:
        match = _ELEMENT.match(numbered[1])
        return (match["name"], int(match["index"]) - numbered[0]) if match else (numbered[1], None)

    collapsed = []
    for (name, offset), run in itertools.groupby(enumerate(columns), run_of):
        numbers = [number for number, _ in run]
        start, stop = numbers[0], numbers[-1] + 1
        collapsed.append(name if offset is None else f"{name}[{start + offset}:{stop + offset}]")
    return collapsed


def _fixed_sequences(columns: Sequence[str]) -> dict[str, SequenceField]:
    """Fields stored as consecutive columns `name[0]`, `name[1]`, …"""
    found: dict[str, SequenceField] = {}
    for position, column in enumerate(columns):
        match = _ELEMENT.match(column)
        if not match:
            continue
        field = found.get(match["name"])
        index = int(match["index"])
        if field is None and index == 0:
            found[match["name"]] = SequenceField(match["name"], 1, position)
        elif field and index == field.max_len and position == field.start + index:
            found[match["name"]] = dataclasses.replace(field, max_len=index + 1)
    return found
