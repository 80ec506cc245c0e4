"""Tables on disk → chunks of text columns: CSV, CSV.gz, a CSV inside a zip, Parquet."""

import contextlib
import csv
import dataclasses
import gzip
import io
import itertools
import posixpath
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from diffumin_tf.errors import DataError, did_you_mean
from diffumin_tf.prepare.bad_lines import BadLines

CHUNK_ROWS = 8192
ALWAYS_MISSING = ("", "NaN", "nan")

_Row = tuple[int, Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some consecutive good rows of a table.

    Attributes:
        lines: int64 [n], line of the file that each row begins at, from 1.
        columns: texts [n] by column name; the empty text is a missing value.
        rows: the rows as read, for quoting.
    """

    lines: np.ndarray
    columns: dict[str, pa.Array]
    rows: list[Sequence[str]]

    def __len__(self) -> int:
        return len(self.rows)

    def keep(self, mask: np.ndarray) -> "Chunk":
        """The rows where `mask` bool [n] is true."""
        if mask.all():
            return self
        columns = {name: texts.filter(pa.array(mask)) for name, texts in self.columns.items()}
        return Chunk(self.lines[mask], columns, list(itertools.compress(self.rows, mask)))

    def without(self, faults: Iterable[tuple[str, np.ndarray]], bad: BadLines) -> "Chunk":
        """Leaves out faulty rows and books each under its first fault.

        Args:
            faults: pairs of a reason and a mask bool [n].
            bad: the account of the file.
        """
        good = np.ones(len(self), bool)
        for reason, mask in faults:
            for row in np.flatnonzero(mask & good):
                bad.add(reason, int(self.lines[row]), ",".join(self.rows[row]))
            good &= ~mask
        return self.keep(good)


def read_table(
    path: str,
    columns: Sequence[str],
    bad: BadLines,
    *,
    header: Sequence[str] | None = None,
    delimiter: str = ",",
    quoting: int = csv.QUOTE_MINIMAL,
    missing: Sequence[str] = (),
    chunk_rows: int = CHUNK_ROWS,
) -> Iterator[Chunk]:
    """Reads columns of a table as text, chunk by chunk, and books lines that do not parse.

    Args:
        path: a file; `.gz`, `.zip` (holding one file) and `.parquet` say how to open it.
        columns: names of the wanted columns.
        bad: account of this file; the caller ends with `bad.check()`.
        header: names of all columns when the file has no header line; a first line that repeats
            them is passed over.
        delimiter, quoting: dialect of a CSV, as in the `csv` module.
        missing: texts that mean a missing value, besides `""`, `NaN` and `nan`.
        chunk_rows: rows at most in one chunk.

    Raises:
        DataError: the file cannot be read, or lacks a wanted column.
    """
    with _reading(path):
        if path.endswith(".parquet"):
            names, rows = list(columns), _parquet_rows(path, columns, bad)
        else:
            names, rows = _csv_rows(path, header, delimiter, quoting, bad)
        positions = {name: _position(path, names, name) for name in columns}
        while True:
            read = list(itertools.islice(rows, chunk_rows))
            if not read:
                return
            try:
                yield _chunk(read, positions, missing)
            except UnicodeEncodeError:
                yield _chunk(_decodable(read, bad), positions, missing)


def missing_as_empty(texts: pa.Array, missing: Sequence[str]) -> pa.Array:
    """The texts with `""` for every one that means a missing value."""
    absent = pc.is_in(texts, value_set=pa.array([*ALWAYS_MISSING, *missing], pa.string()))
    return pc.if_else(absent, "", texts)


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turns every way in which a file can be unreadable into one DataError."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


def _csv_rows(
    path: str, header: Sequence[str] | None, delimiter: str, quoting: int, bad: BadLines
) -> tuple[list[str], Iterator[_Row]]:
    """The column names, and a stream of the rows that have as many columns as there are names."""
    text = io.TextIOWrapper(_open(path), "utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=delimiter, quoting=quoting)
    if header:
        return list(header), _whole_rows(reader, list(header), delimiter, bad)
    names = next(reader, None)
    if not names:
        raise DataError(f"{path}: holds no header line")
    return names, _whole_rows(reader, names, delimiter, bad)


def _whole_rows(reader, names: list[str], delimiter: str, bad: BadLines) -> Iterator[_Row]:
    width = len(names)
    while True:
        before = reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row, reason = [], f"not CSV: {error}"
        else:
            if before == 0 and row == names:
                continue
            reason = f"{len(row)} columns instead of {width}" if len(row) != width else ""
        spanned = reader.line_num - before
        bad.lines += spanned if reason else 1
        if reason:
            bad.add(reason, before + 1, delimiter.join(row), spanned)
        else:
            yield before + 1, row


def _open(path: str) -> io.BufferedIOBase:
    if path.endswith(".gz"):
        return gzip.open(path)
    if not path.endswith(".zip"):
        return open(path, "rb")
    archive = zipfile.ZipFile(path)
    names = [
        name
        for name in archive.namelist()
        if not name.startswith("__MACOSX/")
        and not name.endswith("/")
        and not posixpath.basename(name).startswith(".")
    ]
    if len(names) != 1:
        raise DataError(f"{path}: must hold exactly one file, holds {names}")
    try:
        return archive.open(names[0])
    except RuntimeError as error:  # an encrypted member, or a compression zipfile does not know
        raise DataError(f"{path}: cannot be read: {error}") from None


def _parquet_rows(path: str, columns: Sequence[str], bad: BadLines) -> Iterator[_Row]:
    file = pq.ParquetFile(path)
    for name in columns:
        _position(path, file.schema_arrow.names, name)
    for batch in file.iter_batches(CHUNK_ROWS, columns=list(columns)):
        texts = [pc.fill_null(batch.column(n).cast(pa.string()), "").to_pylist() for n in columns]
        yield from enumerate(zip(*texts, strict=True), bad.lines + 1)
        bad.lines += batch.num_rows


def _position(path: str, names: Sequence[str], name: str) -> int:
    if names.count(name) != 1:
        trouble = "stands twice in the header" if name in names else "is not there"
        raise DataError(f"{path}: column {name!r} {trouble}{did_you_mean(name, names)}")
    return names.index(name)


def _decodable(read: list[_Row], bad: BadLines) -> list[_Row]:
    """Leaves out rows with bytes that are not UTF-8 (surrogates, after `surrogateescape`)."""
    good = []
    for line, row in read:
        text = ",".join(row)
        try:
            text.encode()
        except UnicodeEncodeError:
            bad.add("bytes that are not UTF-8", line, text)
        else:
            good.append((line, row))
    return good


def _chunk(read: list[_Row], positions: dict[str, int], missing: Sequence[str]) -> Chunk:
    rows = [row for _, row in read]
    columns = {
        name: missing_as_empty(pa.array([row[position] for row in rows], pa.string()), missing)
        for name, position in positions.items()
    }
    return Chunk(np.array([line for line, _ in read], np.int64), columns, rows)
