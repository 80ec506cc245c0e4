"""What DuckDB reads of files."""

import pytest

from diffumin_tf.errors import DataError
from diffumin_tf.prepare.sql.dialects import DIALECTS
from diffumin_tf.prepare.tables.duckdb_engine import DuckDBEngine
from diffumin_tf.prepare.tables.sources import open_source


def test_batches_hold_every_line_of_a_long_file_in_its_order(tmp_path):
    """With buffers of some sizes DuckDB loses a line a buffer, and says nothing."""
    lines = [f"{number},{'x' * 99_000}" for number in range(1_000)]  # three buffers
    (tmp_path / "long.csv").write_text("\n".join(lines))
    paths = [str(tmp_path / "long.csv")]
    source = open_source(paths, "long.csv", str(tmp_path), header=("number", "text"))
    with DuckDBEngine(str(tmp_path)) as engine:
        engine.add(0, source)
        batches = list(engine.batches("SELECT _row, number, length(text) AS n FROM raw_0", 300))
        assert engine.rejects(0, source) == []
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert rows == [{"_row": i + 1, "number": str(i), "n": 99_000} for i in range(1_000)]
    assert max(len(batch) for batch in batches) <= 300


@pytest.mark.parametrize("text", ["a,b\n1,2\r\n", "a,b\r\n1,2\n", "a,b\n1,2\r3\n"])
def test_mixed_ends_of_lines_are_named(tmp_path, text):
    (tmp_path / "t.csv").write_text(text, newline="")
    source = open_source([str(tmp_path / "t.csv")], "t.csv", str(tmp_path))
    with DuckDBEngine(str(tmp_path)) as engine:
        engine.add(0, source)
        with pytest.raises(DataError, match=r"t.csv: lines end in \\n here and in \\r\\n"):
            engine.rows("SELECT * FROM raw_0")


def test_rows_that_differ_have_different_digests(tmp_path):
    rows = ["'a|b', 'c'", "'a', 'b|c'", "'~', 'c'", "NULL, 'c'", "'', 'c'", "'a', NULL"]
    with DuckDBEngine(str(tmp_path)) as engine:
        digests = [DIALECTS["duckdb"].digest(row.split(", ")) for row in rows]
        (row,) = engine.rows("SELECT " + ", ".join(f"{d} AS d{i}" for i, d in enumerate(digests)))
    assert len(set(row.values())) == len(rows)
