"""The files of a table: which there are, what they are, which columns they have."""

import codecs
import csv
import dataclasses
import io
import json
import os
import posixpath
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from diffumin_tf.errors import DataError, did_you_mean
from diffumin_tf.prepare.files import filesystem

# What a file is shows in its first bytes, whatever its name says.
_MAGIC = {b"PAR1": "parquet", b"\x1f\x8b": "gzip", b"PK": "zip", b"\x28\xb5\x2f\xfd": "zstd"}
_OTHERS = {b"ORC": "ORC", b"Obj\x01": "Avro", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Members of a zip that are no table: folders, hidden files, what macOS adds.
_NO_TABLE = re.compile(r"^__MACOSX/|/$|(^|/)\.[^/]*$")
_HIVE = re.compile(r"/([^/=]+)=([^/]*)(?=/)")
_PIECE = 1 << 20
LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)

# A RuntimeError is an encrypted member of a zip, or a compression that zipfile does not know.
_UNREADABLE = (OSError, EOFError, RuntimeError, UnicodeError, zlib.error, zipfile.BadZipFile)


@dataclasses.dataclass(frozen=True)
class Source:
    """The files of one table, which are of one kind.

    Attributes:
        name: as in the spec.
        paths: local paths, or URIs of Parquet files; as a person knows them.
        files: what is read, one a path: the same, or a copy that is plain UTF-8.
        is_parquet: CSV otherwise.
        columns: types by name; those of a CSV and of Hive partitions are `string`.
        header: the columns of a CSV file, without those of Hive partitions.
        compression: of CSV files: "none", "gzip" or "zstd".
    """

    name: str
    paths: list[str]
    files: list[str]
    is_parquet: bool
    columns: dict[str, pa.DataType]
    header: list[str]
    has_header: bool = True
    delimiter: str = ","
    quoting: str = "minimal"
    compression: str = "none"

    @property
    def where(self) -> str:
        """The path of the file, or of the folder that its files have in common."""
        if len(self.paths) == 1 or "://" in self.paths[0]:
            return self.paths[0] if len(self.paths) == 1 else self.name
        return os.path.commonpath(self.paths)

    def position(self, column: str) -> tuple[str, ...]:
        """The steps to a column: its name, or those of a struct and its field for `a.b`.

        Raises:
            DataError: there is no such column.
        """
        if column in self.columns:
            return (column,)
        first, *rest = column.split(".")
        kind = self.columns.get(first)
        for step in rest if kind else ():
            if not pa.types.is_struct(kind) or kind.get_field_index(step) < 0:
                break
            kind = kind.field(step).type
        else:
            if rest and kind:
                return (first, *rest)
        there = did_you_mean(column, self.columns) or f"; it has {', '.join(self.columns)}"
        raise DataError(f"{self.where}: column {column!r} is not there{there}")

    def type_of(self, column: str) -> pa.DataType:
        """The type of a column, or of a field of a struct."""
        first, *rest = self.position(column)
        kind = self.columns[first]
        for step in rest:
            kind = kind.field(step).type
        return kind


def open_source(
    paths: Sequence[str],
    name: str,
    work: str,
    delimiter: str | None = None,
    quoting: str = "minimal",
    header: Sequence[str] = (),
    needed: Sequence[str] | None = None,
) -> Source:
    """Looks at the files of a table; unpacks into the folder `work` what no engine reads.

    Args:
        header: columns of CSV files that have no header line.
        needed: the columns that are read; files of Parquet may differ in the others.

    Raises:
        DataError: a file cannot be read, is of another kind than the others or of one that is not
            read at all, or has other columns than the first.
    """
    opened = []
    for number, path in enumerate(paths):
        try:
            kind, file = _unpacked(
                path, posixpath.join(work, f"{zlib.crc32(name.encode())}-{number}")
            )
            if kind == "parquet":
                columns = _parquet_columns(path)
                head = []
            else:
                head = list(header) or _header(path, file, kind, delimiter or _delimiter(path))
                columns = dict.fromkeys(head, pa.string())
        except (*_UNREADABLE, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot be read: {error}") from None
        columns |= {key: pa.string() for key, _ in _HIVE.findall(path)}
        opened.append((kind, file, columns, head))
    _check_alike(paths, opened, needed)
    kind, _, columns, head = opened[0]
    columns = {
        name: _kind_of(name, paths, [others[name] for _, _, others, _ in opened])
        for name in columns
        if all(name in others for _, _, others, _ in opened)
    }
    _check_case(paths[0], columns)
    return Source(
        name,
        list(paths),
        [file for _, file, _, _ in opened],
        kind == "parquet",
        columns,
        head,
        not header,
        delimiter or _delimiter(paths[0]),
        quoting,
        kind,
    )


def _check_alike(
    paths: Sequence[str], opened: Sequence[tuple], needed: Sequence[str] | None
) -> None:
    """All files are of the first one's kind, and have its columns where they are needed."""
    kind, _, columns, _ = opened[0]
    for path, (other, _, others, _) in zip(paths, opened, strict=True):
        if other == kind == "parquet" and needed is not None:
            steps = {name if name in columns else name.split(".")[0] for name in needed}
            if steps & others.keys() == steps & columns.keys():
                continue
        if other != kind or list(others) != list(columns):
            differing = sorted(set(others) ^ set(columns)) or ["the order of its columns"]
            differing = [f"kind ({other}, {kind})"] if other != kind else differing
            raise DataError(
                f"{path}: differs from {paths[0]} in {', '.join(differing)}; the files of one "
                "table must be of one kind and have the same columns in the same order"
            )


def _kind_of(column: str, paths: Sequence[str], kinds: Sequence[pa.DataType]) -> pa.DataType:
    """The type of a column whose types in the files may differ, as all-null ones do."""
    known = {kind: path for path, kind in zip(paths, kinds, strict=True)}
    known.pop(pa.null(), None)

    def family(kind: pa.DataType):
        if pa.types.is_timestamp(kind):
            return "timestamp", kind.tz is None
        return pa.types.is_nested(kind), pa.types.is_boolean(kind), pa.types.is_date(kind)

    (first, path), *others = known.items() or [(pa.null(), "")]
    for kind, other in others:
        if family(kind) != family(first):
            raise DataError(f"{other}: column {column!r} holds {kind}, and {first} in {path}")
    return min(known, key=lambda kind: kind not in (pa.float16(), pa.float32()), default=first)


def _check_case(path: str, names: Iterable[str]) -> None:
    spelt: dict[str, str] = {}
    for name in names:
        if (other := spelt.setdefault(name.lower(), name)) != name:
            raise DataError(
                f"{path}: columns {other!r} and {name!r} differ in case alone, and are one in SQL"
            )


def repeats_header(source: Source) -> bool:
    """Whether the first of the CSV files, said to have no header line, has one after all."""
    try:
        first = next(pieces(source.files[0], source.compression), b"")
    except (*_UNREADABLE, pa.ArrowException) as error:
        raise DataError(f"{source.paths[0]}: cannot be read: {error}") from None
    line = first.removeprefix(codecs.BOM_UTF8).partition(b"\n")[0].rstrip(b"\r")
    return line == source.delimiter.join(source.header).encode()


def count_lines(
    source: Source, number: int, offsets: Sequence[int] = ()
) -> tuple[int, int, dict[int, int]]:
    """Goes through one of the CSV files.

    Returns:
        The number of its lines, of those that are blank, and the line (from 1) that begins at each
        offset, in bytes of what is unpacked.
    """
    lines, blank, position, at = 0, 0, 0, {}
    wanted, last = sorted(offsets), b"\n"
    try:
        for piece in pieces(source.files[number], source.compression):
            while wanted and wanted[0] <= position + len(piece):
                offset = wanted.pop(0)
                at[offset] = lines + piece.count(b"\n", 0, offset - position) + 1
            lines += piece.count(b"\n")
            blank += len(re.findall(rb"\n(?=\n)", (last + piece).replace(b"\r", b"")))
            position, last = position + len(piece), piece[-1:]
    except (*_UNREADABLE, pa.ArrowException) as error:
        raise DataError(f"{source.paths[number]}: cannot be read: {error}") from None
    return lines + (last != b"\n"), blank, at


def pieces(file: str, compression: str) -> Iterator[bytes]:
    codec = None if compression == "none" else compression
    with pa.input_stream(file, compression=codec) as stream:
        while piece := stream.read(_PIECE):
            yield piece


def _unpacked(path: str, target: str) -> tuple[str, str]:
    """The kind of a file (a compression, or "parquet"), and a file of that kind to read."""
    with _open(path) as file:
        first = file.read(8)
    kind = next((k for magic, k in _MAGIC.items() if first.startswith(magic)), "none")
    other = next((k for magic, k in _OTHERS.items() if first.startswith(magic)), None)
    if other:
        raise DataError(f"{path}: is {other}; give CSV (plain, gzip, zstd, zip) or Parquet")
    if kind == "parquet":
        return kind, path
    if kind == "none" and path.endswith((".parquet", ".pq")):
        raise DataError(f"{path}: is no Parquet file: it begins with {first!r}")
    is_wide = first[:2] in _UTF16
    if kind in ("gzip", "zstd") and "://" not in path:
        inner = next(pieces(path, kind), b"")
        if inner[:2] in _UTF16:
            with pa.input_stream(path, compression=kind) as packed, open(target, "wb") as copy:
                text = io.TextIOWrapper(packed, "utf-16", newline="")
                while piece := text.read(_PIECE):
                    copy.write(piece.encode())
            return "none", target
    if kind != "zip" and not is_wide and "://" not in path:
        return kind, path
    with _open(path) as file:
        if kind == "zip":
            archive = zipfile.ZipFile(file)
            names = [name for name in archive.namelist() if not _NO_TABLE.search(name)]
            if len(names) != 1:
                raise DataError(f"{path}: must hold exactly one file, holds {names}")
            file = archive.open(names[0])
            kind, is_wide = "none", file.peek(2)[:2] in _UTF16
        with open(target, "wb") as copy:
            if is_wide:
                text = io.TextIOWrapper(io.BufferedReader(file), "utf-16", newline="")
                while piece := text.read(_PIECE):
                    copy.write(piece.encode())
            else:
                shutil.copyfileobj(file, copy)
    return kind, target


def _open(path: str) -> pa.NativeFile:
    system, inside = filesystem(path)
    return system.open_input_file(inside)


def _parquet_columns(path: str) -> dict[str, pa.DataType]:
    with _open(path) as file:
        schema = pq.read_schema(file)
    twice = [name for name in schema.names if schema.names.count(name) > 1]
    if twice:
        raise DataError(f"{path}: column {twice[0]!r} stands twice")
    return dict(zip(schema.names, schema.types, strict=True))


def _delimiter(path: str) -> str:
    return "\t" if re.search(r"\.(tsv|tab)(\.|$)", path) else ","


def _header(path: str, file: str, compression: str, delimiter: str) -> list[str]:
    line = b""
    for piece in pieces(file, compression):
        line += piece
        if b"\n" in line:
            break
    text = line.removeprefix(codecs.BOM_UTF8).partition(b"\n")[0].decode(errors="replace")
    text = text.rstrip("\r")
    if "\r" in text:
        raise DataError(f"{path}: its lines end with CR alone; write LF or CR LF")
    names = next(csv.reader([text], delimiter=delimiter), [])
    names = [name or f"unnamed {place}" for place, name in enumerate(names)]  # pandas' index
    if not names:
        raise DataError(f"{path}: holds no header line")
    if len(names) == 1:
        for other in (c for c in ",\t;|" if c != delimiter and c in text):
            advice = f'set "delimiter": {json.dumps(other)}'
            raise DataError(f"{path}: the header {text!r} has no {delimiter!r}; {advice}")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{path}: column {twice[0]!r} stands twice in the header")
    return names
