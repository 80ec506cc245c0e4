"""From files to batches: which files, which order, which values, and what a bad file says."""

import dataclasses
import os

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config import Features
from diffumin_tf.data import dataset, records
from diffumin_tf.data.features import FeatureLayout, FeaturePath
from diffumin_tf.data.vocabulary import HashedRows
from diffumin_tf.data_struct import DataStruct
from diffumin_tf.errors import DataError
from tests.small_log import CONFIG, SCHEMA, samples

SAMPLES = 50


@pytest.fixture(scope="module")
def schema():
    return DataStruct.from_dict(SCHEMA, source="the_schema.json")


def numbered(seed=0, first=0):
    """Samples whose user tells them apart."""
    made = samples(SAMPLES, seed)
    return dataclasses.replace(made, auxiliary_info=first + np.arange(SAMPLES)[:, None])


def write(schema, folder, data, parts=1, compression=""):
    os.makedirs(folder, exist_ok=True)
    with records.PartWriter(str(folder), parts, compression) as writer:
        writer.write(records.encode(schema, data))
    return sorted(str(path) for path in folder.glob("part-*"))


def days_of(path, start, end):
    files = dataset.list_files(str(path), start, end, "train")
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
    files = dataset.list_files(str(days), 20240101, 20240101, "train")
    assert [os.path.basename(file) for file in files] == ["part-00000", "part-00001"]


def test_a_glob_picks_its_files_in_order(days):
    files = dataset.list_files(f"{days}/2024*/part-*0", None, None, "test")
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
        dataset.list_files(path and path.format(days=days), *bounds, "valid")
    assert message.format(days=days) in str(error.value)


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_values_come_back_as_they_were_written(schema, tmp_path, compression):
    data = numbered()
    files = write(schema, tmp_path / "d", data, compression=compression)
    assert files[0].endswith(".gz") == (compression == "GZIP")
    (serialised,) = dataset.read_records(files).batch(SAMPLES)
    raw = dataset.parse(schema, serialised)
    np.testing.assert_array_equal(raw["label"], data.label)
    for group in ("auxiliary_info", "cat_feature", "dense_feature"):
        np.testing.assert_array_equal(raw[group], getattr(data, group))
    for name, (values, splits) in data.sequences.items():
        assert raw[name].dtype == tf.int64
        np.testing.assert_array_equal(raw[name].values, values)
        np.testing.assert_array_equal(raw[name].row_splits, splits)


def test_a_request_needs_neither_label_nor_auxiliary_columns(schema, tmp_path):
    example = tf.train.Example.FromString(next(records.encode(schema, numbered())))
    for name in ("label", "auxiliary_info", "item_list"):
        example.features.feature.pop(name, None)
    raw = dataset.parse(schema, tf.constant([example.SerializeToString()]), labelled=False)
    assert sorted(raw) == ["cat_feature", "category_list", "dense_feature", "item_list"]
    np.testing.assert_array_equal(raw["item_list"].row_lengths(), [0])


def test_plain_and_zipped_files_do_not_mix(schema, tmp_path):
    files = write(schema, tmp_path / "a", numbered())
    files += write(schema, tmp_path / "b", numbered(), compression="GZIP")
    with pytest.raises(DataError, match="part-00000 … .*part-00000.gz: plain and .gz files"):
        dataset.read_records(files)


@pytest.fixture(scope="module")
def four_files(schema, tmp_path_factory):
    folder = tmp_path_factory.mktemp("four")
    files = write(schema, folder / "a", numbered(), parts=2)
    return files + write(schema, folder / "b", numbered(first=SAMPLES), parts=2)


@pytest.fixture(scope="module")
def path(schema):
    layout = FeatureLayout.of(Features(**CONFIG["features"]), schema)
    return FeaturePath(schema, layout, 10, HashedRows(997))


def users_by_batch(files, schema, path, shuffle=None, batch_size=32):
    found = dataset.batches(files, schema, path, batch_size, "user_id", shuffle)
    return [inputs["user"].numpy().tolist() for inputs, _ in found]


def test_every_record_comes_once_and_the_last_smaller_batch_is_kept(four_files, schema, path):
    for shuffle in (None, (16, 1), (1000, 1)):
        found = users_by_batch(four_files, schema, path, shuffle)
        assert [len(batch) for batch in found] == [32, 32, 32, 4]
        assert sorted(sum(found, [])) == list(range(2 * SAMPLES))


def test_without_shuffling_records_keep_the_order_of_the_files(four_files, schema, path):
    in_order = [*range(0, SAMPLES, 2), *range(1, SAMPLES, 2)]
    in_order += [SAMPLES + n for n in in_order]
    assert sum(users_by_batch(four_files, schema, path), []) == in_order


def test_the_seed_alone_decides_the_order(four_files, schema, path):
    one = users_by_batch(four_files, schema, path, (16, 7))
    assert users_by_batch(four_files, schema, path, (16, 7)) == one
    assert users_by_batch(four_files, schema, path, (16, 8)) != one


def test_files_are_shuffled_too_so_that_a_small_buffer_mixes_days(four_files, schema, path):
    first = {users_by_batch(four_files, schema, path, (1, seed))[0][0] for seed in range(8)}
    assert len(first) > 1 and first <= {0, 1, SAMPLES, SAMPLES + 1}


def test_labels_are_floats_and_stay_with_their_samples(four_files, schema, path):
    data = numbered()
    for inputs, label in dataset.batches(four_files[:2], schema, path, 16, "user_id", (99, 3)):
        assert label.dtype == tf.float32
        np.testing.assert_array_equal(label, data.label[inputs["user"].numpy()])
        np.testing.assert_array_equal(inputs["dense"], data.dense_feature[inputs["user"].numpy()])


def test_users_may_be_a_categorical_column_or_unknown(four_files, schema, path):
    data = numbered()
    by_column = dataset.batches(four_files[:1], schema, path, 99, "user")
    np.testing.assert_array_equal(next(iter(by_column))[0]["user"], data.cat_feature[::2, 0])
    unknown = dataset.batches(four_files[:1], schema, path, 99, "nobody")
    assert "user" not in next(iter(unknown))[0]


def test_ids_of_columns_and_of_both_kinds_of_history_are_counted(four_files, schema):
    data = numbered()
    found = dataset.id_batches(four_files[:2], schema, ["item", "fixed_list", "item_list"], 16)
    ids = np.concatenate(list(found))
    expected = [data.cat_feature[:, 1], data.cat_feature[:, 4:].ravel()]
    expected = np.concatenate([*expected, data.sequences["item_list"][0]])
    np.testing.assert_array_equal(np.sort(ids[ids > 0]), np.sort(expected))


def read_guarded(files, schema, path):
    return list(dataset.guarded(dataset.batches(files, schema, path, 8, "user_id"), files, schema))


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_a_torn_file_is_named_with_the_records_before_the_tear(schema, path, tmp_path, compression):
    files = write(schema, tmp_path / "d", numbered(), 2, compression)
    os.truncate(files[1], os.path.getsize(files[1]) - 30)
    with pytest.raises(DataError, match=r"part-00001(.gz)?: torn or damaged after 2\d records: \w"):
        read_guarded(files, schema, path)


def test_a_file_of_garbage_is_named(schema, path, tmp_path):
    files = write(schema, tmp_path / "d", numbered(), 2)
    (tmp_path / "d" / "part-00001").write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(DataError, match="part-00001: torn or damaged after 0 records: .*corrupted"):
        read_guarded(files, schema, path)


def test_a_changed_byte_is_noticed(schema, path, tmp_path):
    files = write(schema, tmp_path / "d", numbered())
    content = bytearray((tmp_path / "d" / "part-00000").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "d" / "part-00000").write_bytes(content)
    with pytest.raises(DataError, match="part-00000: torn or damaged after 2[0-9] records"):
        read_guarded(files, schema, path)


def with_fault(change):
    def make(example):
        change(example.features.feature)
        return example.SerializeToString()

    return make


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            with_fault(lambda f: f["cat_feature"].int64_list.value.append(3)),
            "key 'cat_feature' has 9 int64_list values (it holds a int64_list); "
            "the_schema.json wants 8",
        ),
        (
            with_fault(lambda f: f["cat_feature"].int64_list.value.pop()),
            "key 'cat_feature' has 7 int64_list values",
        ),
        (
            with_fault(lambda f: f.pop("dense_feature")),
            "key 'dense_feature' is missing; the_schema.json wants 1 values",
        ),
        (with_fault(lambda f: f.pop("label")), "key 'label' is missing"),
        (
            with_fault(lambda f: f["label"].ClearField("int64_list")),
            "key 'label' has 0 int64_list values (it holds a nothing)",
        ),
        (
            with_fault(lambda f: f["dense_feature"].int64_list.value.append(2)),
            "key 'dense_feature' has 0 float_list values (it holds a int64_list)",
        ),
        (
            with_fault(lambda f: f["auxiliary_info"].bytes_list.value.append(b"7")),
            "key 'auxiliary_info' has 0 int64_list values (it holds a bytes_list)",
        ),
        (
            with_fault(lambda f: f["item_list"].float_list.value.append(1.0)),
            "key 'item_list' holds a float_list; the_schema.json wants an int64_list",
        ),
        (
            with_fault(lambda f: f["item_list"].bytes_list.value.append(b"x")),
            "key 'item_list' holds a bytes_list",
        ),
        (lambda example: b"\xff\xffnot a proto", "no tf.train.Example"),
    ],
)
def test_a_record_that_does_not_fit_is_named_with_its_key_and_what_is_right(
    schema, path, tmp_path, damage, message
):
    good = list(records.encode(schema, numbered()))
    bad = damage(tf.train.Example.FromString(good[20]))
    files = write(schema, tmp_path / "a", numbered())
    with records.PartWriter(str(tmp_path)) as writer:
        writer.write([*good[:20], bad, *good[20:]])
    files.append(str(tmp_path / "part-00000"))
    with pytest.raises(DataError) as error:
        read_guarded(files, schema, path)
    assert str(error.value).startswith(f"{files[1]}: record 20: {message}")


def test_empty_files_alone_are_an_error_and_among_others_are_none(schema, path, tmp_path):
    files = write(schema, tmp_path / "d", numbered(), parts=1)
    empty = [str(tmp_path / "part-0"), str(tmp_path / "part-1")]
    for file in empty:
        open(file, "w").close()
    with pytest.raises(DataError, match="part-0: no record in 1 files"):
        read_guarded(empty[:1], schema, path)
    with pytest.raises(DataError, match="part-0 …: no record in 2 files"):
        read_guarded(empty, schema, path)
    assert sum(len(label) for _, label in read_guarded([*empty, *files], schema, path)) == SAMPLES


def test_a_file_that_vanished_is_named(schema, path, tmp_path):
    with pytest.raises(DataError, match="cannot be read: .*gone"):
        read_guarded([str(tmp_path / "gone")], schema, path)


def test_sound_files_have_no_fault(four_files, schema):
    assert dataset.find_fault(four_files, schema) is None
