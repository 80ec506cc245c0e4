"""From files to batches: which files, which order, which values."""

import os

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.errors import DataError
from diffumin_tf.input import parsing
from diffumin_tf.input.dataset import Batches, id_batches
from diffumin_tf.input.splits import empty_days, list_files
from tests.input.part_files import (
    encoded,
    numbered,
    small_path,
    small_schema,
    users_in,
    write_parts,
)

SAMPLES = 50


@pytest.fixture(scope="module")
def schema():
    return small_schema()


def days_of(path, start, end):
    files = list_files(str(path), start, end, "train")
    return [os.path.basename(os.path.dirname(file)) for file in files]


@pytest.fixture
def days(tmp_path):
    for day in ("20231231", "20240101", "20240102"):
        (tmp_path / day).mkdir()
        for part in (1, 0):
            (tmp_path / day / f"part-0000{part}").touch()
        (tmp_path / day / "_SUCCESS.json").touch()
    (tmp_path / "manifest.json").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("start", "end", "picked"),
    [
        (20231231, 20240101, ["20231231", "20240101"]),
        (20240101, 20240101, ["20240101"]),
        (20240101, None, ["20240101", "20240102"]),
        (None, 20231231, ["20231231"]),
        (None, None, ["20231231", "20240101", "20240102"]),
    ],
)
def test_first_and_last_day_are_picked_and_nothing_outside(days, start, end, picked):
    assert days_of(days, start, end) == [day for day in picked for _ in range(2)]


def test_parts_come_in_order_and_other_files_are_left_alone(days):
    files = list_files(str(days), 20240101, 20240101, "train")
    assert [os.path.basename(file) for file in files] == ["part-00000", "part-00001"]


def test_a_glob_picks_its_files_in_order(days):
    files = list_files(f"{days}/2024*/part-*0", None, None, "test")
    assert files == [f"{days}/2024010{n}/part-00000" for n in (1, 2)]


@pytest.mark.parametrize(
    ("path", "bounds", "message"),
    [
        (None, (None, None), "valid_data_path is not set: give a folder of <yyyymmdd>/part-"),
        ("{days}/gone", (None, None), "valid_data_path: '{days}/gone' is no folder"),
        ("{days}/x*", (None, None), "valid_data_path: no file matches '{days}/x*'"),
        (
            "{days}",
            (20250101, 20250102),
            "valid_data_path: '{days}' holds no records from 20250101 to 20250102; "
            "there is 20231231 to 20240102 (3 days)",
        ),
        ("{days}", (20250101, None), "from 20250101 to the last day; there is 20231231"),
        ("{days}/20240101", (None, 20200101), "from the first day to 20200101; there is no day"),
    ],
)
def test_where_there_is_no_file_the_message_says_what_there_is(days, path, bounds, message):
    with pytest.raises(DataError) as error:
        list_files(path and path.format(days=days), *bounds, "valid")
    assert message.format(days=days) in str(error.value)


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_values_come_back_as_they_were_written(schema, tmp_path, compression):
    data = numbered(SAMPLES)
    files = write_parts(tmp_path / "d", encoded(schema, SAMPLES), compression=compression)
    assert files[0].endswith(".gz") == (compression == "GZIP")
    (serialised,) = parsing.read_records(files).batch(SAMPLES)
    raw = parsing.parse(schema, serialised)
    np.testing.assert_array_equal(raw["label"], data.label)
    for group in ("auxiliary_info", "cat_feature", "dense_feature"):
        np.testing.assert_array_equal(raw[group], getattr(data, group))
    for name, (values, splits) in data.sequences.items():
        assert raw[name].dtype == tf.int64
        np.testing.assert_array_equal(raw[name].values, values)
        np.testing.assert_array_equal(raw[name].row_splits, splits)


def test_a_request_needs_neither_label_nor_auxiliary_columns(schema, tmp_path):
    example = tf.train.Example.FromString(encoded(schema, 1)[0])
    for name in ("label", "auxiliary_info", "item_list"):
        example.features.feature.pop(name, None)
    raw = parsing.parse(schema, tf.constant([example.SerializeToString()]), labelled=False)
    assert sorted(raw) == ["cat_feature", "category_list", "dense_feature", "item_list"]
    np.testing.assert_array_equal(raw["item_list"].row_lengths(), [0])


def test_plain_and_zipped_files_do_not_mix(schema, tmp_path):
    files = write_parts(tmp_path / "a", encoded(schema, 2))
    files += write_parts(tmp_path / "b", encoded(schema, 2), compression="GZIP")
    with pytest.raises(DataError, match="part-00000 … .*part-00000.gz: plain and .gz files"):
        parsing.read_records(files)


@pytest.fixture(scope="module")
def four_files(schema, tmp_path_factory):
    folder = tmp_path_factory.mktemp("four")
    files = write_parts(folder / "a", encoded(schema, SAMPLES), parts=2)
    return files + write_parts(folder / "b", encoded(schema, SAMPLES, SAMPLES), parts=2)


@pytest.fixture(scope="module")
def path(schema):
    return small_path(schema)


def test_every_record_comes_once_and_the_last_smaller_batch_is_kept(four_files, schema, path):
    for shuffle in (None, (16, 1), (1000, 1)):
        found = users_in(four_files, schema, path, shuffle=shuffle)
        assert [len(batch) for batch in found] == [32, 32, 32, 4]
        assert sorted(sum(found, [])) == list(range(2 * SAMPLES))


def test_without_shuffling_records_keep_the_order_of_the_files(four_files, schema, path):
    in_order = [*range(0, SAMPLES, 2), *range(1, SAMPLES, 2)]
    in_order += [SAMPLES + n for n in in_order]
    assert sum(users_in(four_files, schema, path), []) == in_order


def test_the_seed_alone_decides_the_order(four_files, schema, path):
    one = users_in(four_files, schema, path, shuffle=(16, 7))
    assert users_in(four_files, schema, path, shuffle=(16, 7)) == one
    assert users_in(four_files, schema, path, shuffle=(16, 8)) != one


def test_files_are_shuffled_too_so_that_a_small_buffer_mixes_days(four_files, schema, path):
    first = {users_in(four_files, schema, path, shuffle=(1, seed))[0][0] for seed in range(8)}
    assert len(first) > 1 and first <= {0, 1, SAMPLES, SAMPLES + 1}


def test_labels_are_floats_and_stay_with_their_samples(four_files, schema, path):
    data = numbered(SAMPLES)
    for batch in Batches(four_files[:2], schema, path, 16, "user_id", (99, 3)).dataset():
        assert batch.label.dtype == tf.float32
        np.testing.assert_array_equal(batch.label, data.label[batch.user.numpy()])
        np.testing.assert_array_equal(batch.dense, data.dense_feature[batch.user.numpy()])


def test_users_may_be_a_categorical_column_or_unknown(four_files, schema, path):
    data = numbered(SAMPLES)
    by_column = Batches(four_files[:1], schema, path, 99, "user").dataset()
    np.testing.assert_array_equal(next(iter(by_column)).user, data.cat_feature[::2, 0])
    unknown = Batches(four_files[:1], schema, path, 99, "nobody").dataset()
    assert next(iter(unknown)).user == ()


def test_ids_of_columns_and_of_both_kinds_of_history_are_counted(four_files, schema):
    data = numbered(SAMPLES)
    found = id_batches(four_files[:2], schema, ["item", "fixed_list", "item_list"], 16)
    ids = np.concatenate(list(found))
    expected = [data.cat_feature[:, 1], data.cat_feature[:, 4:].ravel()]
    expected = np.concatenate([*expected, data.sequences["item_list"][0]])
    np.testing.assert_array_equal(np.sort(ids[ids > 0]), np.sort(expected))


def test_days_without_records_are_named_and_others_are_read(days):
    for part in ("20231231/part-00001", "20240102/part-00000"):
        (days / part).write_bytes(b"something")
    (days / "20240103").mkdir()
    assert empty_days(str(days), None, None) == ["20240101", "20240103"]
    assert empty_days(str(days), 20240102, None) == ["20240103"]
    assert empty_days(str(days), None, 20231231) == []
    assert days_of(days, 20240102, 20240103) == ["20240102"] * 2
    assert empty_days(f"{days}/*/part-*", None, None) == []


def test_batches_left_out_at_the_start_leave_the_rest_as_it_is(four_files, schema, path):
    for shuffle in (None, (16, 1)):
        every = users_in(four_files, schema, path, shuffle=shuffle)
        for skip in range(5):
            found = users_in(four_files, schema, path, shuffle=shuffle, skip=skip)
            assert found == every[skip:]


def test_batches_left_out_are_not_parsed(four_files, schema, path, tmp_path):
    bad = write_parts(tmp_path / "bad", [b"no example"] * 32)
    found = users_in([*bad, *four_files], schema, path, skip=1)
    assert found == users_in(four_files, schema, path)
    with pytest.raises(tf.errors.InvalidArgumentError):
        users_in([*bad, *four_files], schema, path)
