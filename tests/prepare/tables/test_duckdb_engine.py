"""What DuckDB reads of files."""

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
