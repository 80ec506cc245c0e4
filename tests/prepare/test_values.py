"""One value, one id, whatever type and spelling an engine gave it."""

import datetime
import decimal

import duckdb
import pyarrow as pa
import pytest
import tensorflow as tf

from diffumin_tf.input import columns, raw_text
from diffumin_tf.prepare import values
from diffumin_tf.prepare.sql.dialects import DIALECTS
from diffumin_tf.prepare.sql.values import Values
from tests.prepare.prepared import ids

SEVEN = [
    *(pa.array([7]), pa.array([7.0]), pa.array(["7"]), pa.array(["7.0"]), pa.array(["7."])),
    *(pa.array([7], pa.uint8()), pa.array([7], pa.float32()), pa.array([b"7"])),
    *(pa.array([decimal.Decimal("7.00")]), pa.array(["7"]).dictionary_encode()),
    *(pa.array(["7"], pa.large_string()), pa.array(["7"], pa.string_view())),
]


@pytest.mark.parametrize("column", SEVEN, ids=lambda column: str(column.type))
def test_seven_is_seven(column):
    assert values.value_ids("s", column).tolist() == ids("s", "7")


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (["1e+10", "1.0E10", "10000000000.0"], "10000000000"),
        ([1e10], "10000000000"),
        (["12e4"], "12e4"),
        (["1e10"], "1e10"),
        (["-7.0"], "-7"),
        ([-7.0], "-7"),
        ([-0.0, 0.0], "0"),
        (["007", "007.0"], "007"),
        (["1e+300"], "1e+300"),
        (["1.5e+0", "1.5e+0"], "1.5e+0"),
        (["e10"], "e10"),
        ([7.5], "7.5"),
        ([" 7"], " 7"),
        ([True], "true"),
        ([datetime.date(2022, 5, 1)], "2022-05-01"),
        (["", None, "nan", "NaN", "-99", "-99.0"], ""),
        ([None, float("nan"), -99.0], ""),
        ([None], ""),
    ],
)
def test_a_value_has_one_text(written, text):
    found = values.value_ids("s", pa.array(written), missing=["-99"])
    assert found.tolist() == ids("s", *[text] * len(written))


def test_sql_and_records_write_numbers_as_arrow_columns_do():
    texts = ["7.", "1.0E10", "12e4", "1e+300", "1.5e+0", "007.0", "-7.00", "9e+18", "8e+18", "e10"]
    expected = list(map(raw_text.canonical, texts))
    whole = Values(None, DIALECTS["duckdb"]).whole("t")
    found = duckdb.execute(f"SELECT {whole} FROM (SELECT unnest(?) AS t)", [texts]).fetchall()
    assert [text for (text,) in found] == expected
    in_graph = columns._with_plain_numbers(tf.constant(texts)).numpy()
    assert [text.decode() for text in in_graph] == expected


@pytest.mark.parametrize(
    ("written", "day"),
    [
        (["20220501", "2022-05-01"], 20220501),
        ([20220501], 20220501),
        ([datetime.date(2022, 5, 1)], 20220501),
        ([datetime.datetime(2022, 5, 1, 23)], 20220501),
        (["2024-1-12", "2024-0112", "20240230", "2022-05-01 00:00", "", None], 0),
    ],
)
def test_days_are_read_strictly(written, day):
    assert values.days(pa.array(written)).tolist() == [day] * len(written)
