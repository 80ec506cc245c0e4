"""Records with a key for each column: the same batches as `prepare`'s, and one clear error."""

import math
import os

import duckdb
import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.input import parsing, records
from diffumin_tf.input.damage import FileCheck
from diffumin_tf.input.dataset import Batches
from diffumin_tf.input.fingerprint import fingerprint
from diffumin_tf.input.kinds import with_kinds
from diffumin_tf.prepare.sql.dialects import DuckDB
from diffumin_tf.prepare.sql.values import Values
from tests.column_records import COLUMNS, example_of, fingerprinted, rows_of
from tests.input.part_files import flip_data, frame_of, small_path, write_parts
from tests.small_log import samples

SPARSE = 7  # of whose samples some values are missing


@pytest.fixture(scope="module")
def columns():
    return DataStruct.from_dict(COLUMNS, source="the_schema.json")


@pytest.fixture(scope="module")
def data():
    made = samples(60, 3)
    made.cat_feature[::SPARSE, 1:4] = 0
    return made


def batches_of(schema, files):
    schema = with_kinds(schema, files)
    check = FileCheck(schema)
    made = Batches(files, schema, small_path(schema), 16, "user_id", (40, 3), check=check)
    return [tf.nest.flatten(batch) for batch in made.epoch()]


@pytest.mark.parametrize("kinds", [{}, {"item_list": int, "item": float, "click": int}])
@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_both_layouts_give_equal_batches(schema, columns, data, tmp_path, kinds, compression):
    by_group = records.encode(schema, fingerprinted(schema, data))
    by_column = map(example_of, rows_of(columns, data, kinds))
    groups = write_parts(tmp_path / "g", by_group, 2, compression)
    found = batches_of(columns, write_parts(tmp_path / "c", by_column, 2, compression))
    expected = batches_of(schema, groups)
    assert len(expected) == 4
    for one, other in zip(expected, found, strict=True):
        for left, right in zip(one, other, strict=True):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left.numpy(), right.numpy())


def one(schema, **values):
    """What is parsed of one record."""
    schema = with_kinds_of(schema, values)
    return parsing.parse(schema, tf.constant([example_of(values)]), "click" in values)


def with_kinds_of(schema, values):
    kinds = {name: "int64" for name in (*schema.categorical, "click", "user_id", "price")}
    for name, value in values.items():
        value = value[0] if isinstance(value, list) else value
        kinds[name] = {str: "bytes", float: "float"}.get(type(value), "int64")
    return DataStruct.from_dict({**schema.to_dict(), "kind": kinds}, schema.source)


def test_a_whole_number_is_one_id_however_it_is_written_and_zero_is_one_too(columns):
    written = [{"item": v, "item_list": [v]} for v in (7, 7.0, "7", "7.0", "7.")]
    parsed = [one(columns, **values) for values in written]
    ids = {int(raw["cat_feature"][0, 1]) for raw in parsed}
    assert ids == {int(raw["item_list"].values[0]) for raw in parsed} and len(ids) == 1
    assert one(columns, item=0)["cat_feature"][0, 1] > 0
    assert one(columns, item=-3)["cat_feature"][0, 1] > 0
    assert (
        one(columns, item=3, user=3)["cat_feature"][0, 0]
        != one(columns, item=3)["cat_feature"][0, 1]
    )
    for missing in (None, math.nan, "", "nan", "NaN"):
        assert one(columns, item=missing)["cat_feature"][0, 1] == 0
    assert one(columns, user_id="ann", click=1)["auxiliary_info"][0, 0] > 0
    assert one(columns, price=3)["dense_feature"][0, 0] == 3.0


def test_texts_are_read_as_prepare_reads_them(columns):
    texts = ["7", "7.0", "+7.0", "-7.", "007", "7.50", "1.0E10", "1e+10", "1.25E1", "12e4", "a.0"]
    texts += ["1.2345678E7", "9.3E18", "1e+400", "7e0", " 7"]
    whole = Values(None, DuckDB()).whole("text")
    query = f"SELECT {whole} FROM (SELECT unnest(?) AS text)"
    as_prepared = [text for (text,) in duckdb.execute(query, [texts]).fetchall()]
    ids = [int(one(columns, item=text)["cat_feature"][0, 1]) for text in texts]
    assert ids == fingerprint("item", as_prepared).tolist()
    assert len(set(ids)) < len(texts)


def test_an_empty_list_is_a_missing_value(columns):
    example = tf.train.Example()
    example.features.feature["item"].int64_list.SetInParent()
    example.features.feature["user"].SetInParent()
    raw = parsing.parse(with_kinds_of(columns, {}), tf.constant([example.SerializeToString()]), 0)
    assert not raw["cat_feature"].numpy().any()


def test_ids_that_are_hashed_already_stay_as_they_are(columns):
    hashed = DataStruct.from_dict({**COLUMNS, "hashed": True})
    assert one(hashed, item=2**62, item_list=[5])["cat_feature"][0, 1] == 2**62


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item": "x"}, "key 'item' holds a bytes_list [b'x'] where other records or the_sc"),
        ({"category": 0.5}, "key 'category' holds the float 0.5; ids as floats must be whole"),
        ({"category": 2.0**25}, "key 'category' holds the float 33554432.0; ids as floats"),
        ({"item": [1, 2]}, "key 'item' has 2 values; the_schema.json wants 1"),
        ({"click": -1.0}, "key 'click' holds -1.0; a label is 1 for a click"),
        ({"click": math.nan}, "key 'click' holds nan; a label is 1 for a click"),
        ({"click": None}, "key 'click', the label, is missing; training and metrics need a label"),
    ],
)
def test_a_value_that_does_not_fit_is_named(columns, data, tmp_path, change, message):
    rows = rows_of(columns, data)
    rows[33] |= change
    files = write_parts(tmp_path, map(example_of, rows))
    with pytest.raises(DataError) as error:
        batches_of(columns, files)
    assert str(error.value).startswith(f"{files[0]}: record 33: {message}")


def test_a_negative_id_is_refused_where_ids_are_hashed_already(columns, data, tmp_path):
    hashed = DataStruct.from_dict({**COLUMNS, "hashed": True})
    rows = rows_of(columns, data, dict.fromkeys(["user", "category", "hour"], int))
    rows = [{**row, "item_list": [5], "category_list": [-9]} for row in rows]
    files = write_parts(tmp_path, map(example_of, rows))
    with pytest.raises(DataError, match="record 0: key 'category_list' holds -9; an id is"):
        batches_of(hashed, files)


@pytest.mark.parametrize(
    ("change", "schema", "message"),
    [
        ({"hours": 3, "hour": None}, {}, "'hour' of .*'hours'.*they hold category, .*\"int64\""),
        ({"click": "yes"}, {}, r"record 0: key 'click' holds \[b'yes'\]: not texts but numbers"),
        ({}, {"hashed": True}, r"key 'user' holds \[b'\d+'\]: no int64, although .*hashed"),
    ],
)
def test_columns_that_the_first_records_lack_or_spoil_are_named(
    columns, data, tmp_path, change, schema, message
):
    rows = [{**row, **change} for row in rows_of(columns, data)]
    files = write_parts(tmp_path, map(example_of, rows))
    with pytest.raises(DataError, match=message):
        with_kinds(DataStruct.from_dict({**COLUMNS, **schema}), files)


def test_kinds_are_found_behind_missing_values_and_damage_and_may_be_said(columns, data, tmp_path):
    rows = rows_of(columns, data)
    rows = [{**row, "hour": None} for row in rows[:40]] + rows[40:]
    serialised = list(map(example_of, rows))
    files = write_parts(tmp_path / "a", serialised) + write_parts(tmp_path / "b", serialised)
    flip_data(files[0], serialised, 20)
    (tmp_path / "part-0").write_bytes(frame_of(2**60))
    schema = with_kinds(columns, [str(tmp_path / "part-0"), *files])
    assert schema.kinds["hour"] == "bytes" and schema.kinds["category"] == "float"
    assert DataStruct.from_dict(schema.to_dict()).kinds == schema.kinds
    said = DataStruct.from_dict({**COLUMNS, "kind": {"hour": "int64"}})
    assert with_kinds(said, files).kinds["hour"] == "int64"


def test_where_no_record_can_be_read_the_reason_is_named(columns, data, tmp_path):
    (zipped,) = write_parts(tmp_path / "a", map(example_of, rows_of(columns, data)), 1, "GZIP")
    os.rename(zipped, zipped.removesuffix(".gz"))
    with pytest.raises(DataError, match="a/part-00000: torn .* begins as a gzip file: name it .gz"):
        with_kinds(columns, [zipped.removesuffix(".gz")])
    (tmp_path / "part-0").touch()
    with pytest.raises(DataError, match="part-0: no record can be read in 1 files"):
        with_kinds(columns, [str(tmp_path / "part-0")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": "groups", "hashed": True}, 'hashed: is for "layout": "columns" alone'),
        ({"stored_once": ["user"]}, 'stored_once: is for "layout": "groups" alone'),
        ({"kind": {"itm": "int64"}}, "kind: 'itm' is no column.*'item'"),
        ({"layout": "column"}, "layout"),
    ],
)
def test_a_schema_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        DataStruct.from_dict({**COLUMNS, **change})
