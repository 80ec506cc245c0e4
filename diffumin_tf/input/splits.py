"""The files of the training, validation and test split."""

import collections
import itertools
import posixpath
import re
from collections.abc import Sequence

import tensorflow as tf

from diffumin_tf.config.schema import SCHEMA_FILE, DataStruct
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.files import read_json
from diffumin_tf.input.records import PART_PREFIX
from diffumin_tf.paths import from_where, has_wildcards

SPLITS = ("train", "valid", "test")
# A folder of a day: `20220501`, or as Hive and Spark write it, `dt=2022-05-01`.
_DAY = re.compile(r"(?:\w+=)?(\d{4})(-?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])")
_HIDDEN = ("_", ".")  # files that engines write beside the data


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
    for beside in schemas_beside(path, files):
        written, here = DataStruct.load(beside).to_dict(), schema.to_dict()
        ignored = {"kind"}  # which records show
        if "stored_once" not in written:  # then its records are of one impression
            ignored.add("stored_once")
        for group in sorted((written.keys() | here.keys()) - ignored):
            if written.get(group) != here.get(group):
                raise ConfigError(
                    f"{schema.source}: {group} differs from {beside}, with which the records "
                    f"were written: {here.get(group)} against {written.get(group)}"
                )
    return files


def list_files(path: str | None, start: int | None, end: int | None, split: str) -> list[str]:
    """The part files of a split, in order.

    Args:
        path: a folder of day partitions (`<path>/<day>/part-*`, the day as `20220501` or
            `dt=2022-05-01`), or a glob of files, of which names that begin with `_` or `.` are
            left out.
        start, end: first and last day, inclusive; None leaves that end open. With a glob, they
            count for the folders that its files lie in.

    Raises:
        DataError: no file is found; says what was looked for and which days there are. Or a day is
            asked for, and a file of the glob lies in no folder named after one.
    """
    key = f"{split}_data_path"
    if not path:
        raise DataError(f"{key} is not set: give a folder of <yyyymmdd>/{PART_PREFIX}* or a glob")
    if is_glob(path):
        every = matched(path)
        if not every:
            raise DataError(f"{key}: no file matches {path!r}{from_where(path)}")
        if start is None and end is None:
            return every
        if nowhere := [file for file in every if not _day_folder(file)]:
            raise DataError(
                f"{key}: {path!r} matches {nowhere[0]}, which lies in no folder named after a day "
                f"(20220501, dt=2022-05-01): {split}_data_start and {split}_data_end cannot say "
                "whether it is meant; rename its folder, or leave both out"
            )
        files = [file for file in every if _is_between(_day_folder(file), start, end)]
        days = sorted({_day_of(_day_folder(file)) for file in every})
    else:
        if not tf.io.gfile.isdir(path):
            raise DataError(f"{key}: {path!r}{from_where(path)} is no folder")
        days = list(map(_day_of, _day_folders(path)))
        folders = _day_folders(path, start, end)
        files = [file for folder in folders for file in parts_of(folder)]
    if not files:
        found = f"{days[0]} to {days[-1]} ({len(days)} days)" if days else "no day at all"
        raise DataError(
            f"{key}: {path!r}{from_where(path)} holds no records from "
            f"{start or 'the first day'} to {end or 'the last day'}; there is {found}"
        )
    return files


def is_glob(path: str) -> bool:
    """Whether a path is a pattern of files, and not a folder of such a name."""
    return has_wildcards(path) and not tf.io.gfile.isdir(path)


def matched(path: str) -> list[str]:
    """The files of a glob, without those that engines write beside the data."""
    files = sorted(tf.io.gfile.glob(path))
    return [file for file in files if not posixpath.basename(file).startswith(_HIDDEN)]


def schemas_beside(path: str, files: Sequence[str]) -> list[str]:
    """The schemas beside the days of some files, or beside the files of a glob without days."""
    candidates = [posixpath.join(folder, SCHEMA_FILE) for folder in _roots(path, files)]
    return [file for file in candidates if tf.io.gfile.exists(file)]


def empty_days(
    path: str, files: Sequence[str], start: int | None, end: int | None
) -> list[str] | None:
    """Names of day folders from start to end that hold no part file, or only files without a byte.

    Of a glob, those between the first and the last day of its files count; None where these do not
    lie in folders named after days.

    Args:
        files: what `list_files` found.
    """
    if is_glob(path):
        if not all(map(_day_folder, files)):
            return None
        days = [_day_of(_day_folder(file)) for file in files]
        start, end = start or min(days), end or max(days)
    filled = {_day_folder(file) for file in files if tf.io.gfile.stat(file).length}
    folders = [f for root in _roots(path, files) for f in _day_folders(root, start, end)]
    return [posixpath.basename(folder) for folder in folders if folder not in filled]


def _roots(path: str, files: Sequence[str]) -> list[str]:
    """The folder of the days; of a glob, where its days or else its files lie."""
    if not is_glob(path):
        return [path]
    days = ((_day_folder(file), posixpath.dirname(file)) for file in files)
    return sorted({posixpath.dirname(day) if day else folder for day, folder in days})


def _day_folder(file: str) -> str | None:
    """The innermost folder of a file that is named after a day."""
    folder = posixpath.dirname(file)
    while posixpath.basename(folder):
        if _DAY.fullmatch(posixpath.basename(folder)):
            return folder
        folder = posixpath.dirname(folder)
    return None


def _day_of(folder: str) -> int:
    year, _, month, day = _DAY.fullmatch(posixpath.basename(folder)).groups()
    return int(year + month + day)


def _is_between(folder: str, start: int | None, end: int | None) -> bool:
    return (start or 0) <= _day_of(folder) <= (end or 99999999)


def _day_folders(path: str, start: int | None = None, end: int | None = None) -> list[str]:
    """The folders of days within a folder, by day."""
    names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(path))
    folders = [posixpath.join(path, name) for name in names if _DAY.fullmatch(name)]
    return sorted((f for f in folders if _is_between(f, start, end)), key=_day_of)


def parts_of(folder: str) -> list[str]:
    """The part files of a day, in order."""
    names = tf.io.gfile.listdir(folder)  # a glob would read `[` in the name of the folder
    return sorted(posixpath.join(folder, name) for name in names if name.startswith(PART_PREFIX))


def refuse_overlap(files: dict[str, list[str]]) -> None:
    """Raises ConfigError when a file belongs to two splits."""
    for one, other in itertools.combinations(files, 2):
        both = (set(map(posixpath.normpath, files[split])) for split in (one, other))
        shared = sorted(set.intersection(*both))
        if shared:
            raise ConfigError(
                f"the {one} and {other} splits share {len(shared)} files ({shared[0]} …); set "
                f"{one}_data_start, {one}_data_end, {other}_data_start, {other}_data_end apart"
            )


def count_examples(config: TaskConfig, files: list[str]) -> int | None:
    """Samples of the training split by the manifests of `prepare`; None without one.

    Nor is there a count where a glob leaves out files of a day.
    """
    total = 0
    for folder, count in collections.Counter(map(_day_folder, files)).items():
        path = folder and posixpath.join(posixpath.dirname(folder), "manifest.json")
        if not path or not tf.io.gfile.exists(path):
            return None
        day = read_json(path).get("days", {}).get(posixpath.basename(folder))
        if day is None or is_glob(config.train_data_path) and count < len(parts_of(folder)):
            return None
        total += day["examples"]
    return total or None
