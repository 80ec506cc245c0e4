"""The files of the training, validation and test split."""

import itertools
import posixpath
from collections.abc import Mapping

import tensorflow as tf

from diffumin_tf.config.schema import SCHEMA_FILE, DataStruct
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.files import read_json
from diffumin_tf.input import dataset, parsing

SPLITS = ("train", "valid", "test")


def has_split(config: TaskConfig, split: str) -> bool:
    """Whether the configuration names data for a split."""
    names = (f"{split}_data_path", f"{split}_data_start", f"{split}_data_end")
    return any(getattr(config, name) is not None for name in names)


def files_of(config: TaskConfig, schema: DataStruct, split: str) -> list[str]:
    """The files of a split, after a look whether they were written with this schema."""
    path = getattr(config, f"{split}_data_path") or config.train_data_path
    if not has_split(config, split):
        raise DataError(f"the {split} split is not configured: set {split}_data_start and _end")
    start, end = getattr(config, f"{split}_data_start"), getattr(config, f"{split}_data_end")
    files = dataset.list_files(path, start, end, split)
    beside = posixpath.join(path, SCHEMA_FILE)
    if tf.io.gfile.exists(beside):
        written, here = DataStruct.load(beside).to_dict(), schema.to_dict()
        for group in sorted(written.keys() | here.keys()):
            if written.get(group) != here.get(group):
                raise ConfigError(
                    f"{schema.source}: {group} differs from {beside}, with which the records "
                    f"were written: {here.get(group)} against {written.get(group)}"
                )
    return files


def refuse_overlap(files: dict[str, list[str]]) -> None:
    """Raises ConfigError when a file belongs to two splits."""
    for one, other in itertools.combinations(files, 2):
        shared = sorted(set(files[one]) & set(files[other]))
        if shared:
            raise ConfigError(
                f"the {one} and {other} splits share {len(shared)} files ({shared[0]} …); set "
                f"{one}_data_start, {one}_data_end, {other}_data_start, {other}_data_end apart"
            )


def first_record(
    files: list[str], schema: DataStruct, cuts: Mapping[str, int] | None = None
) -> tf.data.Dataset:
    """The first record of a split, parsed, so that a wrong schema shows before training."""
    first = parsing.read_records(files, cuts).take(1).batch(1)
    return first.map(lambda serialised: parsing.parse(schema, serialised))


def count_examples(config: TaskConfig, files: list[str]) -> int | None:
    """Samples of the training split by the manifest of `prepare`; None without one."""
    path = posixpath.join(config.train_data_path, "manifest.json")
    if not tf.io.gfile.exists(path):
        return None
    days = read_json(path).get("days", {})
    used = {posixpath.basename(posixpath.dirname(file)) for file in files}
    return sum(days[day]["examples"] for day in used if day in days) or None
