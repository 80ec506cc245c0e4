"""Tables on disk → chunks of text columns: CSV, CSV.gz, a CSV inside a zip, Parquet."""

import collections
import csv
import dataclasses
import gzip
import io
import itertools
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from diffumin_tf.errors import DataError, did_you_mean

CHUNK_ROWS = 8192
QUOTED_LINES = 5
QUOTE_LENGTH = 120
# Members of a zip that are no table: folders, hidden files, what macOS adds.
_NO_TABLE = re.compile(r"^__MACOSX/|/$|(^|/)\.[^/]*$")

# A RuntimeError is an encrypted member of a zip, or a compression that zipfile does not know.
_UNREADABLE = (OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, pa.ArrowException)

_Row = tuple[int, Sequence[str]]


class BadLines:
    """The lines of one input file that cannot be used: counted by reason, a few quoted.

    Attributes:
        max_fraction: share of bad lines above which `check` fails.
        lines: lines read so far, good and bad, without the header; kept by the reader.
        first: the first bad lines as `{"line", "reason", "text"}`, by line number from 1.
    """

    def __init__(self, path: str, max_fraction: float = 0.01) -> None:
        self.path = path
        self.max_fraction = max_fraction
        self.lines = 0
        self.by_reason: collections.Counter[str] = collections.Counter()
        self.first: list[dict[str, Any]] = []

    def add(self, reason: str, line: int, text: str, lines: int = 1) -> None:
        """Counts a bad record that begins at `line` and spans `lines` lines."""
        self.by_reason[reason] += lines
        if len(self.first) < QUOTED_LINES or line < self.first[-1]["line"]:
            self.first.append({"line": line, "reason": reason, "text": _quote(text)})
            self.first = sorted(self.first, key=lambda entry: entry["line"])[:QUOTED_LINES]

    def check(self) -> None:
        """Fails when too many lines are bad, or when there is no good one.

        Raises:
            DataError: one message with the counts and the quoted lines.
        """
        if not self.lines:
            raise DataError(f"{self.path}: holds no rows")
        bad = self.by_reason.total()
        if bad < self.lines and bad <= self.max_fraction * self.lines:
            return
        counts = ", ".join(f"{reason}: {n}" for reason, n in self.by_reason.items())
        quotes = "".join(f"\n  line {e['line']}: {e['reason']}: {e['text']}" for e in self.first)
        raise DataError(
            f"{self.path}: {bad} of {self.lines} lines are bad, more than max_bad_fraction "
            f"{self.max_fraction:g} allows ({counts}); nothing of this file was kept{quotes}"
        )

    def to_dict(self) -> dict[str, Any]:
        bad = self.by_reason.total()
        return {"lines": self.lines, "bad": bad, "by_reason": self.by_reason, "first": self.first}


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

    def without(self, faults: Iterable[tuple[str, np.ndarray]], bad: BadLines) -> "Chunk":
        """Leaves out rows with faults (a reason, a mask bool [n]); counts each under its first."""
        good = np.ones(len(self), bool)
        for reason, mask in faults:
            for row in np.flatnonzero(mask & good):
                bad.add(reason, int(self.lines[row]), ",".join(self.rows[row]))
            good &= ~mask
        columns = {name: texts.filter(pa.array(good)) for name, texts in self.columns.items()}
        return Chunk(self.lines[good], columns, list(itertools.compress(self.rows, good)))


def read_table(
    columns: Sequence[str],
    bad: BadLines,
    *,
    header: Sequence[str] | None = None,
    delimiter: str = ",",
    quoting: int = csv.QUOTE_MINIMAL,
    missing: Sequence[str] = (),
    chunk_rows: int = CHUNK_ROWS,
) -> Iterator[Chunk]:
    """Reads columns of a table as text, chunk by chunk, and counts lines that do not parse.

    Args:
        bad: account and path of the file, whose `.gz`, `.zip` (holding one file) or `.parquet` says
            how to open it; the caller ends with `bad.check()`.
        header: names of all columns when the file has no header line; a first line that repeats
            them is passed over.
        delimiter, quoting: dialect of a CSV, as in the `csv` module.
        missing: texts that mean a missing value, besides `""`, `NaN` and `nan`.

    Raises:
        DataError: the file cannot be read, or lacks a wanted column.
    """
    try:
        if bad.path.endswith(".parquet"):
            names, rows = columns, _parquet_rows(columns, bad)
        else:
            names, rows = _csv_rows(header, delimiter, quoting, bad)
        positions = {name: _position(bad.path, names, name) for name in columns}
        while read := list(itertools.islice(rows, chunk_rows)):
            try:
                yield _chunk(read, positions, missing)
            except UnicodeEncodeError:
                yield _chunk(_decodable(read, bad), positions, missing)
    except _UNREADABLE as error:
        raise DataError(f"{bad.path}: cannot be read: {error}") from None


def missing_as_empty(texts: pa.Array, missing: Sequence[str]) -> pa.Array:
    """The texts with `""` for every one that means a missing value."""
    absent = pc.is_in(texts, value_set=pa.array(["", "NaN", "nan", *missing], pa.string()))
    return pc.if_else(absent, "", texts)


def _csv_rows(
    header: Sequence[str] | None, delimiter: str, quoting: int, bad: BadLines
) -> tuple[Sequence[str], Iterator[_Row]]:
    """The column names, and a stream of the rows that have as many columns as there are names."""
    text = io.TextIOWrapper(_open(bad.path), "utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=delimiter, quoting=quoting)
    names = header or next(reader, None)
    if not names:
        raise DataError(f"{bad.path}: holds no header line")
    return names, _whole_rows(reader, list(names), delimiter, bad)


def _whole_rows(reader, names: list[str], delimiter: str, bad: BadLines) -> Iterator[_Row]:
    while True:
        before = reader.line_num
        try:
            row = next(reader)
            fault = f"{len(row)} columns instead of {len(names)}" if len(row) != len(names) else ""
        except StopIteration:
            return
        except csv.Error as error:
            row, fault = [], f"not CSV: {error}"
        if before == 0 and row == names:
            continue
        if fault:
            spanned = reader.line_num - before
            bad.lines += spanned
            bad.add(fault, before + 1, delimiter.join(row), spanned)
        else:
            bad.lines += 1
            yield before + 1, row


def _open(path: str) -> io.BufferedIOBase:
    if path.endswith(".gz"):
        return gzip.open(path)
    if not path.endswith(".zip"):
        return open(path, "rb")
    archive = zipfile.ZipFile(path)
    names = [name for name in archive.namelist() if not _NO_TABLE.search(name)]
    if len(names) != 1:
        raise DataError(f"{path}: must hold exactly one file, holds {names}")
    return archive.open(names[0])


def _parquet_rows(columns: Sequence[str], bad: BadLines) -> Iterator[_Row]:
    file = pq.ParquetFile(bad.path)
    for name in columns:
        _position(bad.path, file.schema_arrow.names, name)
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
            good.append((line, row))
        except UnicodeEncodeError:
            bad.add("bytes that are not UTF-8", line, text)
    return good


def _chunk(read: list[_Row], positions: dict[str, int], missing: Sequence[str]) -> Chunk:
    rows = [row for _, row in read]
    columns = {
        name: missing_as_empty(pa.array([row[position] for row in rows], pa.string()), missing)
        for name, position in positions.items()
    }
    return Chunk(np.array([line for line, _ in read], np.int64), columns, rows)


def _quote(text: str) -> str:
    """The text, shortened, with undecodable bytes written as escapes."""
    printable = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return printable if len(printable) <= QUOTE_LENGTH else printable[: QUOTE_LENGTH - 1] + "…"
