"""The written synthetic logs: the files hold what the log holds, in the layout they claim."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input.fingerprint import fingerprint
from diffumin_tf.synthetic.log import SyntheticLog, generate
from diffumin_tf.synthetic.writing import (
    LONG_TERM_SCHEMA,
    write_eleme_csv,
    write_long_term_records,
)

REPOSITORY = os.path.join(os.path.dirname(__file__), "..", "..")


@pytest.fixture(scope="module")
def small_log() -> SyntheticLog:
    return generate({"20240228": 401, "20240301": 150}, users=200, items=400, seed=5)


@pytest.fixture(scope="module")
def eleme(small_log, tmp_path_factory) -> tuple[SyntheticLog, str, list[list[str]]]:
    directory = str(tmp_path_factory.mktemp("eleme") / "raw")
    paths = write_eleme_csv(small_log, directory)
    with open(paths["20240228"]) as file:
        return small_log, directory, [line.rstrip("\n").split(",") for line in file]


def test_eleme_csv_has_the_public_layout(eleme):
    log, directory, rows = eleme
    assert sorted(os.listdir(directory)) == [
        "eleme_20240228.csv",
        "eleme_20240301.csv",
        "manifest.json",
        "true_probability_20240228.npy",
        "true_probability_20240301.npy",
    ]
    assert len(rows) == 401
    assert {len(row) for row in rows} == {39}


def test_eleme_csv_holds_the_log(eleme):
    log, directory, rows = eleme
    columns = list(zip(*rows, strict=True))
    first = slice(401)
    np.testing.assert_array_equal(np.array(columns[0], int), log.label[first])
    np.testing.assert_array_equal(np.array(columns[1], int), log.user[first] + 1)
    np.testing.assert_array_equal(np.array(columns[9], int), log.items.shop[log.item[first]] + 1)
    np.testing.assert_array_equal(np.array(columns[10], int), log.item[first] + 1)
    brand = log.items.brand[log.item[first]]
    np.testing.assert_array_equal(columns[16], np.where(brand < 0, -99, brand + 1).astype(str))
    np.testing.assert_array_equal(np.array(columns[34], int), log.time[first])
    truth = np.load(os.path.join(directory, "true_probability_20240228.npy"))
    np.testing.assert_array_equal(truth, log.true_probability[first])


def test_eleme_lists_are_equally_long_and_newest_first(eleme):
    log, _, rows = eleme
    lengths = set()
    for number, row in enumerate(rows):
        lists = [field.split(";") if field else [] for field in row[22:34]]
        assert len({len(values) for values in lists}) == 1
        items = log.history.item[log.history.of(log.user[number])] + 1
        assert lists[1] == [str(item) for item in items]
        timediff = np.array(lists[8], int)
        assert (timediff > 0).all() and (np.diff(timediff) >= 0).all()
        hours = (log.time[number] - timediff) % 86400 // 3600
        assert lists[9] == [str(hour) for hour in hours]
        lengths.add(len(items))
    assert 0 in lengths and 50 in lengths


def test_eleme_lists_keep_the_newest_fifty(tmp_path):
    log = generate([60], users=10, history_len=200, seed=1)
    paths = write_eleme_csv(log, str(tmp_path / "raw"))
    assert np.diff(log.history.splits).max() == 200
    with open(paths["20230401"]) as file:
        for user, line in zip(log.user, file, strict=True):
            newest = log.history.item[log.history.of(user)][:50] + 1
            assert line.split(",")[23] == ";".join(map(str, newest))


def test_records_read_back_equal_the_log(small_log, tmp_path):
    log, directory = small_log, str(tmp_path / "records")
    paths = write_long_term_records(log, directory)
    spec = {name: tf.io.RaggedFeature(tf.int64) for name in LONG_TERM_SCHEMA.variable_sequences}
    spec["label"] = tf.io.FixedLenFeature([1], tf.int64)
    spec["auxiliary_info"] = tf.io.FixedLenFeature([2], tf.int64)
    spec["cat_feature"] = tf.io.FixedLenFeature([9], tf.int64)
    spec["dense_feature"] = tf.io.FixedLenFeature([2], tf.float32)
    shop = fingerprint("target_poi", log.items.shop.astype(str))
    category = fingerprint("target_third_id", log.items.category.astype(str))
    assert list(paths) == log.days
    for day in log.days:
        dataset = tf.data.TFRecordDataset(os.path.join(directory, day, "part-00000"))
        rows = log.on(day)
        assert sum(1 for _ in dataset) == len(rows)
        for row, serialised in zip(rows, dataset, strict=True):
            record = tf.io.parse_single_example(serialised, spec)
            past = log.history.item[log.history.of(log.user[row])]
            np.testing.assert_array_equal(record["item_id_list"], shop[past])
            np.testing.assert_array_equal(record["third_id_list"], category[past])
            assert record["label"][0] == log.label[row]
            assert record["auxiliary_info"][1] == log.time[row]
            assert record["auxiliary_info"][0] == record["cat_feature"][0]
            assert record["cat_feature"][3] == shop[log.item[row]]
            assert record["cat_feature"][4] == category[log.item[row]]
            assert record["dense_feature"][1] == log.items.log_popularity[log.item[row]]


def test_manifest_tells_what_was_written(small_log, tmp_path):
    directory = str(tmp_path / "records")
    write_long_term_records(small_log, directory)
    with open(os.path.join(directory, "manifest.json")) as file:
        days = json.load(file)["days"]
    for day in small_log.days:
        rows = small_log.on(day)
        assert days[day] == {
            "examples": len(rows),
            "click_rate": pytest.approx(small_log.label[rows].mean()),
            "best_reachable_auc": small_log.best_reachable_auc(day),
        }
        truth = np.load(os.path.join(directory, f"true_probability_{day}.npy"))
        np.testing.assert_array_equal(truth, small_log.true_probability[rows])


def test_experiment_schema_is_the_one_that_is_written():
    path = os.path.join(REPOSITORY, "exp", "user1", "Long_term_DiffuMIN", "data_struct.json")
    assert DataStruct.load(path).to_dict() == LONG_TERM_SCHEMA.to_dict()


def test_too_long_histories_are_refused(tmp_path):
    log = generate([40], users=20, history_len=5_001)
    with pytest.raises(DataError, match="a history of 5001 behaviours; the schema holds 5000"):
        write_long_term_records(log, str(tmp_path / "records"))


def test_existing_directory_is_kept(small_log, tmp_path):
    with pytest.raises(DataError, match="exists already"):
        write_eleme_csv(small_log, str(tmp_path))
