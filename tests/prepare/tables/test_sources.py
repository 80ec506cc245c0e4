"""What the files of a table are, and how far they may differ."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diffumin_tf.errors import DataError
from diffumin_tf.prepare.tables.sources import open_source


def days(folder, *tables):
    paths = [str(folder / f"dt={n}" / "a.parquet") for n in range(len(tables))]
    for n, (path, table) in enumerate(zip(paths, tables, strict=True)):
        (folder / f"dt={n}").mkdir()
        pq.write_table(pa.table(table), path)
    return paths


def test_files_of_parquet_may_differ_in_columns_that_nobody_reads(tmp_path):
    paths = days(tmp_path, {"uid": [1], "ts": [2]}, {"app": ["x"], "ts": [3], "uid": [4]})
    source = open_source(paths, "log", str(tmp_path), needed=["uid", "ts"])
    assert set(source.columns) == {"uid", "ts", "dt"}
    assert source.where == str(tmp_path)
    with pytest.raises(DataError, match="dt=1.*differs from .*dt=0.* in app"):
        open_source(paths, "log", str(tmp_path), needed=["uid", "app"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_is_within_gzip_is_looked_at_too(tmp_path, encoding):
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress("uid,sku\n1,é\n".encode(encoding)))
    source = open_source([str(path)], "log", str(tmp_path))
    assert source.header == ["uid", "sku"]
