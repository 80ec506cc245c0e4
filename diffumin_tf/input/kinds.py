"""What each column of the layout `columns` holds, by the first records."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import tensorflow as tf
from google.protobuf.message import DecodeError

from diffumin_tf.config.schema import GROUPS, DataStruct
from diffumin_tf.errors import DataError, did_you_mean
from diffumin_tf.input.columns import Features
from diffumin_tf.input.damage import DAMAGE, FileCheck, frames, lost_files_named
from diffumin_tf.input.parsing import FIRST, first_records


def with_kinds(schema: DataStruct, files: Sequence[str]) -> DataStruct:
    """The schema, with what the columns hold in the first records, in the layout `columns`.

    Raises:
        DataError: a column is in none of them, or holds what it cannot.
    """
    if schema.layout != "columns":
        return schema
    columns = [name for group in GROUPS for name in getattr(schema, group)]
    wanted = dict.fromkeys((*columns, *schema.ragged))
    kinds, keys, count = dict(schema.kinds), set(), 0
    for where, feature in itertools.islice(readable(files), FIRST):
        count += 1
        keys |= feature.keys()
        for name in wanted:
            stored = feature[name].WhichOneof("kind") if name in feature else None
            if stored and name not in kinds:
                kinds[name] = stored.removesuffix("_list")
                value = list(getattr(feature[name], stored).value[:1])
                _check_kind(schema, name, kinds[name], f"{where}: key {name!r} holds {value}")
        if kinds.keys() >= wanted.keys():
            break
    if not count:
        FileCheck(schema).look(files)  # names what is damaged so that its length shows it
        raise DataError(f"{files[0]}: no record can be read in {len(files)} files")
    for name in wanted:
        if name not in kinds:
            held = ", ".join(sorted(keys))
            raise DataError(
                f"{files[0]}: key {name!r} of {schema.source} holds nothing in the first {count:,} "
                f"records{did_you_mean(name, keys)}; they hold {held}; "
                f'where a key is right, say what it will hold: "kind": {{"{name}": "int64"}}'
            )
        _check_kind(schema, name, kinds[name], f"{schema.source}: kind of {name!r}")
    return dataclasses.replace(schema, kinds=kinds)


def readable(files: Sequence[str]) -> Iterator[tuple[str, Features]]:
    """Place and features of the first records, without what is damaged: others name that."""
    for file in files:
        with lost_files_named():
            if frames(file)[1]:
                continue
            try:
                for _, number, serialised in first_records([file]):
                    example = tf.train.Example.FromString(serialised)
                    yield f"{file}: record {number}", example.features.feature
            except (*DAMAGE, DecodeError):
                continue


def _check_kind(schema: DataStruct, name: str, kind: str, what: str) -> None:
    is_number = name in schema.label or name in schema.dense_feature
    if is_number and kind == "bytes":
        raise DataError(f"{what}: not texts but numbers are wanted")
    if schema.hashed and name in schema.categorical and kind != "int64":
        raise DataError(
            f'{what}: no int64, although {schema.source} says "hashed": true; leave that out, so '
            "that texts and floats become ids when they are read"
        )
