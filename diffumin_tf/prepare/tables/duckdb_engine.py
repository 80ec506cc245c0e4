"""DuckDB, in this process: reads raw tables and runs the plan within a memory limit."""

import contextlib
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset

from diffumin_tf.errors import DataError
from diffumin_tf.prepare.files import filesystem
from diffumin_tf.prepare.sql.dialects import DIALECTS
from diffumin_tf.prepare.sql.plan import Piece, Plan
from diffumin_tf.prepare.tables.sources import Source

MEMORY_LIMIT = "800MB"
_COUNTED = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
_FILE = re.compile(r"file = (.*)")
_REASONS = {"INVALID ENCODING": "bytes that are not UTF-8"}


class DuckDBEngine:
    """An engine: makes `raw_<k>` of sources, and runs statements.

    Args:
        work: an empty folder on a local disk, for what does not fit into memory.
        jobs: threads.
    """

    dialect = DIALECTS["duckdb"]
    most_buckets = 1024

    def __init__(self, work: str, jobs: int = 2, memory_limit: str = MEMORY_LIMIT) -> None:
        self._connection = duckdb.connect(
            posixpath.join(work, "tables.duckdb"),
            config={"threads": jobs, "memory_limit": memory_limit, "temp_directory": work},
        )
        self.execute("SET TimeZone = 'UTC'")
        self.execute("SET preserve_insertion_order = true")

    def __enter__(self) -> "DuckDBEngine":
        return self

    def __exit__(self, *exception) -> None:
        self._connection.close()

    def add(self, k: int, source: Source) -> None:
        """Makes `raw_<k>`, whose `_row` counts from 1 in the order of the files."""
        if source.is_parquet and "://" in source.files[0]:
            system, _ = filesystem(source.files[0])
            files = [filesystem(file)[1] for file in source.files]
            data = pyarrow.dataset.dataset(files, format="parquet", filesystem=system)
            self._connection.register(f"remote_{k}", data.scanner().to_reader())
            self.execute(f"CREATE TEMP TABLE copy_{k} AS SELECT * FROM remote_{k}")
            scan = f"copy_{k}"
        elif source.is_parquet:
            scan = (
                f"read_parquet({_paths(source.files)}, "
                f"binary_as_string = true, union_by_name = true, {_HIVE})"
            )
        else:
            quote = "''" if source.quoting == "none" else "'\"'"
            columns = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in source.header)
            scan = (
                f"read_csv({_paths(source.files)}, auto_detect = false, "
                f"header = {source.has_header}, delim = {_text(source.delimiter)}, "
                f"quote = {quote}, escape = {quote}, "
                f"columns = {{{columns}}}, compression = '{source.compression}', "
                f"store_rejects = true, rejects_limit = 0, "
                f"rejects_table = 'rejects_{k}', rejects_scan = 'scans_{k}', {_HIVE})"
            )
        numbered = f"SELECT row_number() OVER () AS _row, * FROM {scan}"
        self.execute(self.dialect.create(f"raw_{k}", numbered, stored=False))

    def execute(self, statement: str) -> duckdb.DuckDBPyConnection:
        """Runs a statement; a DataError says what the engine could not do."""
        with _refusals():
            return self._connection.execute(statement)

    def batches(self, query: str, size: int) -> Iterator[pa.RecordBatch]:
        """The result of a query, in order, `size` rows at a time, most of it never in memory."""
        with _refusals():
            yield from self._connection.sql(query).arrow(size)

    def rows(self, query: str) -> list[dict[str, Any]]:
        """The result of a query."""
        result = self.execute(query)
        names = [column[0] for column in result.description]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def arrays(self, query: str) -> dict[str, Any]:
        """The result of a query as numpy arrays."""
        return self.execute(query).fetchnumpy()

    def rejects(self, k: int, source: Source) -> list[dict[str, Any]]:
        """Records of CSV files that do not parse.

        Returns:
            For each the number of its `file`, the offset `at` which it begins in bytes, how many
            `lines` it spans, the `reason`, and its `text`.
        """
        if source.is_parquet:
            return []
        found = self.rows(
            f"SELECT file_path, line_byte_position AS at, any_value(error_type) AS kind, "
            f"any_value(csv_line) AS text, "
            f"max_by(error_message, coalesce(column_idx, 0)) AS message "
            f"FROM rejects_{k} JOIN scans_{k} USING (scan_id, file_id) GROUP BY ALL ORDER BY ALL"
        )
        for entry in found:
            counted = _COUNTED.search(entry["message"])
            entry["reason"] = _REASONS.get(entry["kind"], f"not CSV: {entry['message']}")
            if counted:
                entry["reason"] = f"{counted[2]} columns instead of {counted[1]}"
            entry["lines"] = entry["text"].rstrip("\r\n").count("\n") + 1
            entry["file"] = source.files.index(entry["file_path"])
        return found

    def write(self, plan: Plan, pieces: Sequence[Piece], folder: str) -> list[str]:
        """Writes the joined form of each piece as a Parquet file; returns the files."""
        os.makedirs(folder, exist_ok=True)
        files = []
        for piece in pieces:
            bucket = f"_bucket BETWEEN {piece.low} AND {piece.high}"
            where = f"_day BETWEEN {piece.first} AND {piece.last} AND {bucket}"
            name = f"{piece.first}-{piece.last}-{piece.low:04d}.parquet"
            files.append(posixpath.join(folder, name))
            query = f"{plan.joined(where, bucket)} ORDER BY 2, 1"  # the same bytes every time
            self.execute(f"COPY ({query}) TO {_text(files[-1])} (FORMAT parquet, COMPRESSION zstd)")
        return files


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise DataError(f"more memory is needed than memory_limit allows: {error}") from None
    except (
        duckdb.IOException,
        duckdb.InvalidInputException,
        duckdb.ConversionException,
    ) as error:
        if (file := _FILE.search(str(error))) and "state machine" in str(error):
            raise DataError(
                f"{file[1]}: lines end in \\n here and in \\r\\n (or \\r) there, perhaps inside of "
                "a cell; make them alike, as dos2unix does"
            ) from None
        raise DataError(f"cannot be read: {error}") from None


_HIVE = "hive_partitioning = true, hive_types_autocast = false"


def _text(text: str) -> str:
    return DIALECTS["duckdb"].literal(text)


def _paths(paths: list[str]) -> str:
    """Paths, none of which is taken for a pattern."""
    escaped = (_text(re.sub(r"([\[*?])", r"[\1]", path)) for path in paths)
    return f"[{', '.join(escaped)}]"
