"""Spark, on this machine or on a cluster: the same plan for logs that one machine does not hold."""

import os
import posixpath
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from diffumin_tf.errors import DataError
from diffumin_tf.prepare.files import list_files
from diffumin_tf.prepare.sql.dialects import DIALECTS
from diffumin_tf.prepare.sql.plan import Piece, Plan
from diffumin_tf.prepare.tables.sources import Source, pieces

_FAILURES = (PySparkException, Py4JJavaError)  # of a statement; of a task, as reading a file is
_CORRUPT = "_corrupt"
_NOT_UTF8 = "\ufffd"  # what Spark reads where bytes are not UTF-8


class SparkEngine:
    """An engine like `DuckDBEngine`.

    Args:
        work: a folder on a local disk.
        jobs: cores, where there is no `master`.
        master: URL of a Spark master; this process and `jobs` cores without one.

    Raises:
        DataError: Java is not there.
    """

    dialect = DIALECTS["spark"]
    most_buckets = 1  # Spark deals out the work by itself

    def __init__(self, work: str, jobs: int = 2, master: str | None = None) -> None:
        if not (master or shutil.which("java") or os.environ.get("JAVA_HOME")):
            raise DataError("--engine spark needs Java 17 or later: no java is on the PATH")
        builder = SparkSession.builder.appName("diffumin prepare")
        if master:
            builder = builder.master(master)
        else:
            settings = {
                "spark.driver.bindAddress": "127.0.0.1",
                "spark.driver.host": "127.0.0.1",
                "spark.local.dir": posixpath.join(work, "spark"),
                "spark.sql.shuffle.partitions": str(jobs),
                "spark.ui.enabled": "false",
                "spark.ui.showConsoleProgress": "false",
            }
            builder = builder.master(f"local[{jobs}]").config(map=settings)
        settings = {
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.ansi.enabled": "true",
            "spark.sql.parquet.compression.codec": "zstd",
            "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
            "spark.sql.legacy.parquet.nanosAsLong": "true",  # else it refuses what pandas writes
        }
        self._session = builder.config(map=settings).getOrCreate()
        self._session.sparkContext.setLogLevel("ERROR")
        self._work = work

    def __enter__(self) -> "SparkEngine":
        return self

    def __exit__(self, *exception) -> None:
        self._session.stop()

    def add(self, k: int, source: Source) -> None:
        """Makes `raw_<k>`, whose `_row` sorts like the rows of the files."""
        if source.is_parquet:
            data = self._session.read.option("mergeSchema", True).parquet(
                *self._absolute(source.files)
            )
            place = ["_metadata.file_path", "_metadata.row_index", "CAST(0 AS BIGINT)"]
            columns = [_told(name, source.columns.get(name), t) for name, t in data.dtypes]
        else:
            data = self._csv(source)
            data.select("*").createOrReplaceTempView(f"csv_{k}")
            place = ["_metadata.file_path", "_metadata.file_block_start"]
            place.append("monotonically_increasing_id()")
            bad = self._bad(source)
            data, columns = data.where(f"NOT ({bad})").drop(_CORRUPT), ["*"]
        row = ", ".join(f"{p} AS p{i}" for i, p in enumerate(place))
        data.selectExpr(f"struct({row}) AS _row", *columns).createOrReplaceTempView(f"raw_{k}")

    def _csv(self, source: Source):
        fields = ", ".join(f"`{name}` STRING" for name in [*source.header, _CORRUPT])
        reader = self._session.read.schema(fields).options(
            sep=source.delimiter,
            header=source.has_header,
            quote='"' if source.quoting == "minimal" else "",
            escape='"',
            multiLine=source.quoting == "minimal",
            columnNameOfCorruptRecord=_CORRUPT,
        )
        return reader.csv(self._absolute(self._plain(source)))

    def _plain(self, source: Source) -> list[str]:
        """Files that Spark can read: it knows compression by the name alone."""
        endings = {"gzip": ".gz", "zstd": ".zst", "none": ""}
        if all(file.endswith(endings[source.compression]) for file in source.files):
            return source.files
        copies = []
        for number, file in enumerate(source.files):
            copies.append(posixpath.join(self._work, f"plain-{abs(hash(source.name))}-{number}"))
            with open(copies[-1], "wb") as copy:
                copy.writelines(pieces(file, source.compression))
        return copies

    @staticmethod
    def _absolute(paths: Sequence[str]) -> list[str]:
        return [p if "://" in p else f"file://{os.path.abspath(p)}" for p in paths]

    def _bad(self, source: Source) -> str:
        cells = ", ".join(f"`{name}`" for name in source.header)
        return f"{_CORRUPT} IS NOT NULL OR contains(concat_ws('', {cells}), '{_NOT_UTF8}')"

    def execute(self, statement: str):
        """Runs a statement; a DataError says what the engine could not do."""
        try:
            return self._session.sql(statement)
        except _FAILURES as error:
            raise _data_error(error) from None

    def rows(self, query: str) -> list[dict[str, Any]]:
        """The result of a query."""
        try:
            return [row.asDict() for row in self.execute(query).collect()]
        except _FAILURES as error:
            raise _data_error(error) from None

    def arrays(self, query: str) -> dict[str, Any]:
        """The result of a query as numpy arrays."""
        data = self.execute(query)
        try:
            rows = data.collect()
        except _FAILURES as error:
            raise _data_error(error) from None
        return {name: np.array([row[i] for row in rows]) for i, name in enumerate(data.columns)}

    def rejects(self, k: int, source: Source) -> list[dict[str, Any]]:
        """Records of CSV files that do not parse, see `DuckDBEngine.rejects`; without places."""
        if source.is_parquet:
            return []
        cells = ", ".join(f"`{name}`" for name in source.header)
        found = self.rows(
            f"SELECT {_CORRUPT} IS NULL AS is_read, coalesce({_CORRUPT}, "
            f"concat_ws('{source.delimiter}', {cells})) AS text FROM csv_{k} "
            f"WHERE {self._bad(source)}"
        )
        reasons = (f"other than {len(source.header)} columns", "bytes that are not UTF-8")
        return [
            {
                "file": 0,
                "at": 0,
                "lines": row["text"].count("\n") + 1,
                "reason": reasons[row["is_read"]],
                "text": row["text"],
            }
            for row in found
        ]

    def write(self, plan: Plan, pieces: Sequence[Piece], folder: str) -> list[str]:
        """Writes the joined form of the days of some pieces, a folder a day; returns the files."""
        days = " OR ".join(f"_day BETWEEN {p.first} AND {p.last}" for p in pieces)
        data = self.execute(plan.joined(f"({days})"))
        by = "day", data.columns[0]
        data = data.repartition(len(pieces), *by).sortWithinPartitions(*by)
        try:
            data.write.mode("overwrite").partitionBy("day").parquet(*self._absolute([folder]))
        except _FAILURES as error:
            raise _data_error(error) from None
        return [file.path for file in list_files(folder, "")]


def _told(name: str, kind: pa.DataType | None, read_as: str) -> str:
    """A column of Parquet; a timestamp as the text of it, with its zone if it has one."""
    column = f"`{name}`"
    if kind is None or not pa.types.is_timestamp(kind):
        return column
    is_long = read_as == "bigint"
    value = f"timestamp_micros({column} div 1000)" if is_long else column
    zone = "+00:00" if kind.tz else ""
    return f"concat(CAST({value} AS STRING), '{zone}') AS {column}"


def _data_error(error: Exception) -> DataError:
    is_task = isinstance(error, Py4JJavaError)
    text = str(error.java_exception.getMessage() if is_task else error)
    return DataError(f"Spark: {text.partition(chr(10))[0]}")
