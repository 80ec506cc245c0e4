"""Files in a folder, on a local disk or in an object store that `pyarrow.fs` reads."""

import posixpath
import re
import urllib.parse
from typing import NamedTuple

import pyarrow as pa
from pyarrow import fs

from diffumin_tf.errors import DataError

_NULL_KEY = "__HIVE_DEFAULT_PARTITION__"
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
        filesystem, base = _filesystem(self.folder)
        return filesystem.open_input_file(posixpath.join(base, self.name))


def list_files(folder: str, pattern: str) -> list[SourceFile]:
    """The files that a pattern names, in order of their names.

    Args:
        folder: a path, or a URI such as `gs://bucket/log`.
        pattern: a file, a folder, or a glob, in which `**` stands for any folders; what begins
            with `.` or `_` is passed over.

    Raises:
        DataError: there is none.
    """
    try:
        filesystem, base = _filesystem(folder)
        infos = filesystem.get_file_info(fs.FileSelector(base, recursive=True))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{folder}: cannot be read: {error}") from None
    stats = {
        posixpath.relpath(info.path, base): [info.size, info.mtime_ns]
        for info in infos
        if info.type == fs.FileType.File
    }
    names = [name for name in sorted(stats) if not re.search(r"(^|/)[._]", name)]
    wanted = re.compile(_expression(pattern.rstrip("/")) + "(?:/.*)?")
    found = [SourceFile(folder, name, stats[name]) for name in names if wanted.fullmatch(name)]
    if not found:
        others = f"; there are {', '.join(names[:3])} …" if names else ""
        raise DataError(f"{folder}: no file fits {pattern!r}{others}")
    return found


def _filesystem(folder: str) -> tuple[fs.FileSystem, str]:
    if "://" in folder:
        return fs.FileSystem.from_uri(folder)
    return fs.LocalFileSystem(), folder


def _expression(pattern: str) -> str:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return "".join(_GLOB.get(part, re.escape(part)) for part in parts)
