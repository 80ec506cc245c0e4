"""Files in a folder, on a local disk or in an object store that `pyarrow.fs` reads."""

import itertools
import posixpath
import re
import urllib.parse
from typing import NamedTuple

import pyarrow as pa
from pyarrow import fs

from diffumin_tf.errors import DataError, did_you_mean
from diffumin_tf.paths import from_where

_NULL_KEY = "__HIVE_DEFAULT_PARTITION__"
_PARTS = re.compile(r"(\*\*/|\*\*|\*|\?|\[[^]/]+\])")
_GLOB = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


class SourceFile(NamedTuple):
    """A file of an input.

    Attributes:
        folder: the input, a path or a URI.
        name: its path within the folder.
        stat: size, and time of modification in ns since 1970; equal for an unchanged file.
    """

    folder: str
    name: str
    stat: list[int]

    @property
    def path(self) -> str:
        return posixpath.join(self.folder, self.name)

    @property
    def size(self) -> int:
        return self.stat[0]

    @property
    def keys(self) -> dict[str, str | None]:
        """What the folders of the path say, as in `dt=2022-05-01/`."""
        pairs = [folder.split("=", 1) for folder in self.name.split("/")[:-1] if "=" in folder]
        return {key: None if v == _NULL_KEY else urllib.parse.unquote(v) for key, v in pairs}

    def open(self) -> pa.NativeFile:
        system, base = filesystem(self.folder)
        return system.open_input_file(posixpath.join(base, self.name))


def list_files(folder: str, pattern: str) -> list[SourceFile]:
    """The files that a pattern names, in order of their names.

    Args:
        folder: a path, or a URI such as `gs://bucket/log`.
        pattern: a file, a folder, or a glob, in which `**` stands for any folders, relative to the
            folder; what begins with `.` or `_` is passed over unless the pattern names it.

    Raises:
        DataError: there is none; says what there is.
    """
    try:
        system, base = filesystem(folder)
        found = _found(system, base, pattern.rstrip("/"))
        there = [] if found else list(_below(system, base))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{folder}: cannot be read: {error}") from None
    if not found:
        near = did_you_mean(pattern, there) or f"; there are {', '.join(sorted(there)[:3])} …"
        where = f"{folder}{from_where(folder)}"
        raise DataError(f"{where}: no file fits {pattern!r}{near if there else ''}")
    return [SourceFile(folder, name, stat) for name, stat in sorted(found.items())]


def filesystem(path: str) -> tuple[fs.FileSystem, str]:
    """What reads a path or a URI, and what the path is there."""
    if "://" in path:
        return fs.FileSystem.from_uri(path)
    return fs.LocalFileSystem(), path


def _found(system: fs.FileSystem, base: str, pattern: str) -> dict[str, list[int]]:
    """The files that a pattern names, and the `stat` of each."""
    info = system.get_file_info(posixpath.join(base, pattern))
    if info.type == fs.FileType.File:
        return {pattern: [info.size, info.mtime_ns]}
    head, glob = pattern, "**"
    if info.type == fs.FileType.NotFound:
        steps = pattern.split("/")
        fixed = list(itertools.takewhile(lambda step: not re.search(r"[*?[]", step), steps))
        head, glob = "/".join(fixed), "/".join(steps[len(fixed) :])
    fits = re.compile("".join(map(_expression, _PARTS.split(glob))) + "(?:/.*)?").fullmatch
    below = _below(system, posixpath.join(base, head))
    return {posixpath.join(head, name): stat for name, stat in below.items() if fits(name)}


def _below(system: fs.FileSystem, folder: str) -> dict[str, list[int]]:
    """The files in a folder that are not hidden, and the `stat` of each."""
    infos = system.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=True))
    stats = {
        posixpath.relpath(info.path, folder): [info.size, info.mtime_ns]
        for info in infos
        if info.type == fs.FileType.File and not info.path.endswith(".crc")
    }
    if log := next((name for name in stats if "_delta_log/" in name), None):
        raise DataError(
            f"{posixpath.join(folder, log)}: this is a Delta table, whose files hold rows that "
            "were deleted; write it as plain Parquet"
        )
    return {name: stat for name, stat in stats.items() if not re.search(r"(^|/)[._]", name)}


def _expression(part: str) -> str:
    """A part of a glob as a regular expression."""
    if part[:1] == "[" and part[-1] == "]":
        return part.replace("[!", "[^")
    return _GLOB.get(part, re.escape(part))
