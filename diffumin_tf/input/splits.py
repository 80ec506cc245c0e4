"""The files of the training, validation and test split."""

import itertools
import posixpath
import re
from collections.abc import Mapping

import tensorflow as tf

from diffumin_tf.config.schema import SCHEMA_FILE, DataStruct
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.files import read_json
from diffumin_tf.input import parsing
from diffumin_tf.input.records import PART_PREFIX

SPLITS = ("train", "valid", "test")
_DAY = re.compile(r"^\d{8}$")


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
    files = list_files(path, start, end, split)
    beside = posixpath.join(path, SCHEMA_FILE)
    if tf.io.gfile.exists(beside):
        written, here = DataStruct.load(beside).to_dict(), schema.to_dict()
        for group in sorted((written.keys() | here.keys()) - {"kind"}):  # which records show
            if written.get(group) != here.get(group):
                raise ConfigError(
                    f"{schema.source}: {group} differs from {beside}, with which the records "
                    f"were written: {here.get(group)} against {written.get(group)}"
                )
    return files


def list_files(path: str | None, start: int | None, end: int | None, split: str) -> list[str]:
    """The part files of a split, in order.

    Args:
        path: a folder of day partitions (`<path>/<yyyymmdd>/part-*`) or a glob of files.
        start, end: first and last day, inclusive; None leaves that end open.

    Raises:
        DataError: no file is found; says what was looked for and which days there are.
    """
    key = f"{split}_data_path"
    if not path:
        raise DataError(f"{key} is not set: give a folder of <yyyymmdd>/{PART_PREFIX}* or a glob")
    if any(c in path for c in "*?["):
        files = sorted(tf.io.gfile.glob(path))
        if not files:
            raise DataError(f"{key}: no file matches {path!r}")
        return files
    if not tf.io.gfile.isdir(path):
        raise DataError(f"{key}: {path!r} is no folder")
    files = [file for day in _days(path, start, end) for file in _parts(path, day)]
    if not files:
        days = _days(path)
        found = f"{days[0]} to {days[-1]} ({len(days)} days)" if days else "no day at all"
        raise DataError(
            f"{key}: {path!r} holds no records from {start or 'the first day'} to "
            f"{end or 'the last day'}; there is {found}"
        )
    return files


def empty_days(path: str, start: int | None, end: int | None) -> list[str]:
    """Day folders from start to end that hold no part file, or only files without a byte."""
    if any(c in path for c in "*?["):
        return []
    return [
        day
        for day in _days(path, start, end)
        if not any(tf.io.gfile.stat(file).length for file in _parts(path, day))
    ]


def _days(path: str, start: int | None = None, end: int | None = None) -> list[str]:
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(path))
    days = sorted(name for name in names if _DAY.match(name))
    return [day for day in days if (start or 0) <= int(day) <= (end or 99999999)]


def _parts(path: str, day: str) -> list[str]:
    return sorted(tf.io.gfile.glob(posixpath.join(path, day, PART_PREFIX + "*")))


def refuse_overlap(files: dict[str, list[str]]) -> None:
    """Raises ConfigError when a file belongs to two splits."""
    for one, other in itertools.combinations(files, 2):
        shared = sorted(set(files[one]) & set(files[other]))
        if shared:
            raise ConfigError(
                f"the {one} and {other} splits share {len(shared)} files ({shared[0]} …); set "
                f"{one}_data_start, {one}_data_end, {other}_data_start, {other}_data_end apart"
            )


def first_record(files: list[str], schema: DataStruct, cuts: Mapping[str, int]) -> tf.data.Dataset:
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
