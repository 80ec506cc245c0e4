"""Mistakes that show in the first records of a split: a line each, with file, record and key."""

import dataclasses
import math
import re

import numpy as np
import pytest

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import Features
from diffumin_tf.errors import DataError
from diffumin_tf.input import records
from diffumin_tf.input.damage import FileCheck
from diffumin_tf.input.features import FeatureLayout
from diffumin_tf.input.kinds import with_kinds
from diffumin_tf.input.survey import look
from tests.column_records import COLUMNS, example_of, fingerprinted, rows_of
from tests.input.part_files import flip_data, write_parts
from tests.small_log import CONFIG, SCHEMA, samples

COUNT = 64


def lines_of(schema, files, user_column="user_id", limit=0):
    schema = with_kinds(schema, files)
    check = FileCheck(schema, limit, lambda line: None)
    check.look(files)
    layout = FeatureLayout.of(Features(**CONFIG["features"]), schema)
    return look(schema, layout, user_column, files, check)


def lines_of_samples(tmp_path, data, schema=SCHEMA):
    schema = DataStruct.from_dict(schema, source="the_schema.json")
    files = write_parts(tmp_path, records.encode(schema, data), 2)
    return files, lines_of(schema, files)


@pytest.mark.parametrize("make", [fingerprinted, lambda schema, data: data])
def test_nothing_is_said_of_records_as_prepare_writes_them(schema, tmp_path, make):
    assert lines_of_samples(tmp_path, make(schema, samples(COUNT, 1)))[1] == []


def test_nothing_is_said_of_columns_as_spark_writes_them(tmp_path):
    schema = DataStruct.from_dict(COLUMNS)
    files = write_parts(tmp_path, map(example_of, rows_of(schema, samples(COUNT, 1))))
    assert lines_of(schema, files) == []


def changed(data, **columns):
    """Samples with other ids in some columns, [n] or one for all."""
    ids = data.cat_feature.copy()
    for name, values in columns.items():
        ids[:, SCHEMA["cat_feature"]["column"].index(name)] = values
    return dataclasses.replace(data, cat_feature=ids)


def histories(data, item, category=None):
    """Samples whose histories are those of `item`, a list for each sample."""
    splits = np.r_[0, np.cumsum([len(ids) for ids in item])]
    ids = np.array(sum(item, []), np.int64)
    category = (200 + ids % 8, splits) if category is None else category
    sequences = {"item_list": (ids, splits), "category_list": category}
    return dataclasses.replace(data, sequences=sequences)


def without_one_category(data):
    """The category list of the sample 3 is shorter than its item list."""
    data = histories(data, [[101, 102]] * COUNT)
    ids, splits = data.sequences["category_list"]
    return histories(data, [[101, 102]] * COUNT, (np.delete(ids, 7), splits - (splits > 7)))


def dense(data, record, value):
    values = data.dense_feature.copy()
    values[record] = value
    return dataclasses.replace(data, dense_feature=values)


FAULTS = {
    "an id of two columns": (
        lambda d: changed(d, hour=np.arange(COUNT) % 24 + 1),
        r"d/part-00000: record \d+: key 'cat_feature', column 'user' holds the raw id 1, as does "
        r"key 'cat_feature', column 'hour': \d+ ids stand in both, .*fingerprints.*\"id_space\"",
    ),
    "0 as an id": (
        lambda d: changed(d, hour=300 * (np.arange(COUNT) > 2)),
        "d/part-00000: record 0: key 'cat_feature', column 'hour' holds 0, and 3 times in",
    ),
    "ids of another kind": (
        lambda d: changed(d, item=d.cat_feature[:, 1] + 10**12),
        r"record 0: key 'cat_feature', column 'item' holds 1\d+; neither it nor another of "
        r"its ids is in key 'item_list' of the first 64 records, where 1\d\d is",
    ),
    "a column without a value": (
        lambda d: changed(d, hour=0),
        "record 0: key 'cat_feature', column 'hour' is missing .0. in all of the first 64",
    ),
    "no history": (
        lambda d: histories(d, [[]] * COUNT),
        "record 0: key 'item_list' is empty in all of the first 64 records; this one holds the "
        "keys auxiliary_info, cat_feature, category_list, dense_feature, item_list, label",
    ),
    "a history that is too long": (
        lambda d: histories(d, [[101]] * 9 + [[101] * 13] + [[101]] * (COUNT - 10)),
        "record 4: key 'item_list' has 13 behaviours, and max_len is 12: the most recent",
    ),
    "fields of a history that differ in length": (
        without_one_category,
        r"part-00001: record 1: key 'item_list' has 2 behaviours, but key 'category_list' has 1 "
        r"\(so in 1 records\)",
    ),
    "a dense value that is none": (
        lambda d: dense(d, 5, math.inf),
        r"part-00001: record 2: key 'dense_feature', column 'price' holds inf \(so in 1 records\)",
    ),
    "a dense column without values": (
        lambda d: dense(d, slice(None), 0.0),
        "record 0: key 'dense_feature', column 'price' is 0.0 in all of the first 64 records",
    ),
    "the label among the features": (
        lambda d: dense(d, slice(None), d.label[:, None] * 5.0),
        "record 0: key 'dense_feature', column 'price' is 5.0 where the label is 1, and 0.0 else",
    ),
    "an id as the label": (
        lambda d: changed(d, hour=300 + d.label),
        "record 0: key 'cat_feature', column 'hour' is 301 where the label is 1, and 300 elsewhere",
    ),
    "users who are missing": (
        lambda d: dataclasses.replace(
            d, auxiliary_info=d.auxiliary_info * (np.arange(COUNT)[:, None] > 9)
        ),
        r"record 0: key 'auxiliary_info', column 'user_id' is missing \(0\) in 10 of the first 64",
    ),
    "one label": (
        lambda d: dataclasses.replace(d, label=np.ones(COUNT, np.int64)),
        "record 0: the label is 1 in all of the first 64 records",
    ),
    "one user": (
        lambda d: dataclasses.replace(d, auxiliary_info=np.zeros([COUNT, 1], np.int64)),
        "record 0: key 'auxiliary_info', column 'user_id' is 0, one user, in all of the first 64",
    ),
}


@pytest.mark.parametrize(("make", "message"), FAULTS.values(), ids=FAULTS)
def test_what_looks_like_a_mistake_is_a_line(tmp_path, make, message):
    _, lines = lines_of_samples(tmp_path / "d", make(samples(COUNT, 1)))
    assert any(re.search(message, line) for line in lines), lines


def test_copies_are_counted(schema, tmp_path):
    serialised = list(records.encode(schema, samples(COUNT, 1)))
    files = write_parts(tmp_path, serialised + serialised[:20])
    (line,) = lines_of(schema, files)
    assert line.endswith("20 of the first 84 records are copies of others")


def test_histories_of_an_id_space_of_their_own_are_a_line(schema, tmp_path):
    spaces = {"item_list": "items", "category_list": "categories"}
    data = fingerprinted(schema, samples(COUNT, 1))
    _, (line,) = lines_of_samples(tmp_path, data, {**SCHEMA, "id_space": spaces})
    assert "no history has the id space of a column (item_list has 'items'" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user": "null"}, r"record 9: key 'user' holds b'null', which is an id like any other"),
        ({"user": " 7"}, r"record 9: key 'user' holds b' 7', which is an id like any other: leave"),
    ],
)
def test_texts_that_mean_nothing_are_a_line(tmp_path, change, message):
    schema = DataStruct.from_dict(COLUMNS)
    rows = rows_of(schema, samples(COUNT, 1))
    rows[9] |= change
    (line,) = lines_of(schema, write_parts(tmp_path, map(example_of, rows)))
    assert message in line


def test_padding_is_a_line_where_0_is_an_id(tmp_path):
    schema = DataStruct.from_dict(COLUMNS)
    rows = rows_of(schema, samples(COUNT, 1), {"item_list": int, "category_list": int})
    for row in rows:
        for name in ("item_list", "category_list"):
            row[name] = (row[name] + [0] * 12)[:12]
    lines = lines_of(schema, write_parts(tmp_path, map(example_of, rows)))
    assert [("item_list" in line, "ends with 0 in" in line) for line in lines] == [
        (True, True),
        (False, True),
    ]


def test_users_as_floats_are_a_line(tmp_path):
    schema = DataStruct.from_dict(COLUMNS)
    rows = rows_of(schema, samples(COUNT, 1), {"user_id": float})
    (line,) = lines_of(schema, write_parts(tmp_path, map(example_of, rows)))
    assert "key 'user_id' holds floats" in line


def test_a_fault_in_the_first_records_is_an_error_before_training(schema, tmp_path):
    data = samples(COUNT, 1)
    data.label[40] = 5
    with pytest.raises(DataError, match=r"part-00000: record 20: key 'label' holds 5; a label"):
        lines_of_samples(tmp_path / "a", data)
    data.label[40] = 1
    serialised = list(records.encode(schema, data))
    files = write_parts(tmp_path / "b", serialised)
    flip_data(files[0], serialised, 20)
    with pytest.raises(DataError, match="torn or damaged after 20 records"):
        lines_of(schema, files)
    assert lines_of(schema, files, limit=COUNT) == []
