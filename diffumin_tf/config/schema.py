"""The schema of a record (`data_struct.json`): which columns there are and where they lie."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from diffumin_tf.errors import ConfigError, did_you_mean
from diffumin_tf.files import read_json

SCHEMA_FILE = "data_struct.json"

GROUPS = ("label", "auxiliary_info", "cat_feature", "dense_feature")
_RANGE = re.compile(r"^(?P<name>[^\[\]]+)\[(?P<start>\d+):(?P<stop>\d+)\]$")
_ELEMENT = re.compile(r"^(?P<name>[^\[\]]+)\[(?P<index>\d+)\]$")


@dataclasses.dataclass(frozen=True)
class SequenceField:
    """One field of the behaviour history, most recent first.

    Attributes:
        name: name of the field, e.g. `item_id_list`.
        max_len: behaviours at most.
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
        label, auxiliary_info, cat_feature, dense_feature: column names in record order.
        sequences: history fields by name, whichever way they are stored.
        id_spaces: explicit id space of a field; see `id_space`.
        source: where the schema came from, for messages.
    """

    label: tuple[str, ...]
    auxiliary_info: tuple[str, ...]
    cat_feature: tuple[str, ...]
    dense_feature: tuple[str, ...]
    sequences: dict[str, SequenceField]
    id_spaces: dict[str, str]
    source: str = "data_struct"

    @classmethod
    def load(cls, path: str) -> "DataStruct":
        """Reads a `data_struct.json` from any path that `tf.io.gfile` reads.

        Raises:
            ConfigError: the file is missing, is not JSON, or does not describe a schema.
        """
        return cls.from_dict(read_json(path), source=path)

    @classmethod
    def from_dict(cls, content: dict[str, Any], source: str = "data_struct") -> "DataStruct":
        """Builds the schema from the content of a `data_struct.json`."""
        known = (*GROUPS, "sequence_feature", "id_space")
        for key in content:
            if key not in known and not key.startswith("---"):
                raise ConfigError(f"{source}: unknown group {key!r}{did_you_mean(key, known)}")
        groups = {g: _expand(_columns(content, g, source), g, source) for g in GROUPS}
        if len(groups["label"]) != 1:
            raise ConfigError(
                f"{source}: group 'label' must name exactly one column, got {groups['label']}"
            )
        sequences = _fixed_sequences(groups["cat_feature"])
        block = content.get("sequence_feature", {})
        for name in _columns(content, "sequence_feature", source):
            if name in sequences or name in groups["cat_feature"]:
                raise ConfigError(f"{source}: {name!r} stands in two groups")
            sequences[name] = SequenceField(name, _max_len(block, source))
        spaces = content.get("id_space", {})
        if not isinstance(spaces, dict):
            raise ConfigError(f"{source}: id_space: must be an object, got {spaces!r}")
        named = {*groups["cat_feature"], *sequences}
        for name, space in spaces.items():
            if name not in named or not isinstance(space, str) or not space:
                raise ConfigError(
                    f"{source}: id_space: {name!r}: {space!r} must give the name of a space to a "
                    f"categorical column{did_you_mean(name, named)}"
                )
        return cls(**groups, sequences=sequences, id_spaces=dict(spaces), source=source)

    def to_dict(self) -> dict[str, Any]:
        """The content of an equal `data_struct.json`."""
        content: dict[str, Any] = {g: {"column": _collapse(getattr(self, g))} for g in GROUPS}
        variable = [f for f in self.sequences.values() if f.start is None]
        if variable:
            content["sequence_feature"] = {
                "column": [f.name for f in variable],
                "max_len": variable[0].max_len,
            }
        if self.id_spaces:
            content["id_space"] = dict(self.id_spaces)
        return content

    @property
    def variable_sequences(self) -> tuple[str, ...]:
        """Names of the history fields that have a record key of their own."""
        return tuple(f.name for f in self.sequences.values() if f.start is None)

    def id_space(self, field: str) -> str:
        """The id space of a field: fields of one space share ids and so embeddings.

        Without an entry in `id_space`, a history field belongs to the space of its name without
        `_list`, any other field to the space of its own name.
        """
        if field in self.id_spaces:
            return self.id_spaces[field]
        return field.removesuffix("_list") if field in self.sequences else field

    def position(self, group: str, column: str) -> int:
        """Index of a column within its group.

        Raises:
            ConfigError: there is no such column; names the nearest one.
        """
        columns = getattr(self, group)
        if column not in columns:
            raise ConfigError(
                f"{self.source}: {group} has no column {column!r}{did_you_mean(column, columns)}"
            )
        return columns.index(column)

    def sequence(self, name: str) -> SequenceField:
        """The history field of that name.

        Raises:
            ConfigError: there is no such field; names the nearest one.
        """
        if name not in self.sequences:
            raise ConfigError(
                f"{self.source}: no history field {name!r} (neither {name}[0:n] in cat_feature nor "
                f"in sequence_feature){did_you_mean(name, self.sequences)}"
            )
        return self.sequences[name]


def _columns(content: dict[str, Any], group: str, source: str) -> list[str]:
    block = content.get(group, {"column": []})
    columns = block.get("column") if isinstance(block, dict) else None
    if not isinstance(columns, list) or not all(isinstance(c, str) and c for c in columns):
        raise ConfigError(
            f"{source}: group {group!r} must be an object with a list of names in 'column', "
            f"got {block!r}"
        )
    return columns


def _expand(columns: list[str], group: str, source: str) -> tuple[str, ...]:
    expanded: list[str] = []
    for column in columns:
        match = _RANGE.match(column)
        if not match:
            expanded.append(column)
            continue
        start, stop = int(match["start"]), int(match["stop"])
        if start >= stop:
            raise ConfigError(f"{source}: {group}: empty range {column!r}")
        expanded.extend(f"{match['name']}[{i}]" for i in range(start, stop))
    if len(set(expanded)) != len(expanded):
        twice = next(c for c in expanded if expanded.count(c) > 1)
        raise ConfigError(f"{source}: {group}: column {twice!r} is listed twice")
    return tuple(expanded)


def _collapse(columns: Sequence[str]) -> list[str]:
    """The inverse of `_expand`: consecutive elements become one range."""
    collapsed: list[str] = []
    run: tuple[str, int, int] | None = None
    for column in (*columns, ""):
        match = _ELEMENT.match(column)
        if match and run and match["name"] == run[0] and int(match["index"]) == run[2]:
            run = (run[0], run[1], run[2] + 1)
            continue
        if run:
            collapsed.append(f"{run[0]}[{run[1]}:{run[2]}]")
        index = int(match["index"]) if match else 0
        run = (match["name"], index, index + 1) if match else None
        if not match and column:
            collapsed.append(column)
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


def _max_len(block: dict[str, Any], source: str) -> int:
    value = block.get("max_len")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(
            f"{source}: sequence_feature: 'max_len' must be a whole number of behaviours, "
            f"at least 1, got {value!r}"
        )
    return value
