"""Records on disk: what is written is what is read."""

import os

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.errors import DataError
from diffumin_tf.input import records
from diffumin_tf.input.parsing import misfit, parse, read_records
from tests.input.part_files import encoded, numbered, write_parts
from tests.several_values import SEVERAL_SCHEMA, several_samples
from tests.small_log import samples

SAMPLES = 50


@pytest.mark.parametrize(
    ("group", "columns"), [("auxiliary_info", 1), ("cat_feature", 8), ("dense_feature", 1)]
)
def test_a_group_of_another_width_than_the_schema_is_refused(schema, group, columns):
    data = samples(5, seed=0)
    values = getattr(data, group)
    setattr(data, group, np.hstack([values, values[:, :1]]))
    message = rf"{group}: shape \(5, {columns + 1}\), the schema says \(5, {columns}\)"
    with pytest.raises(DataError, match=message):
        list(records.encode(schema, data))


def test_fields_of_several_values_come_back_whole_and_none_may_be_left_out():
    data = several_samples(9, seed=1)
    raw = parse(SEVERAL_SCHEMA, tf.constant(list(records.encode(SEVERAL_SCHEMA, data))))
    for name, (ids, splits) in data.multi.items():
        np.testing.assert_array_equal(raw[name].values, ids)
        np.testing.assert_array_equal(raw[name].row_splits, splits)
        assert raw[name].dtype == tf.int64 and 0 in np.diff(data.multi["tags"][1])
    data.multi.pop("tags")
    message = r"multi_feature: columns \['genres', 'words'\], the schema says .*'tags'"
    with pytest.raises(DataError, match=message):
        list(records.encode(SEVERAL_SCHEMA, data))


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        (
            "bytes_list",
            b"Drama",
            "key 'genres' holds a bytes_list; data_struct wants an int64_list",
        ),
        ("int64_list", 7, None),
    ],
)
def test_a_misfit_of_a_field_of_several_values_is_explained(kind, value, found):
    (record,) = records.encode(SEVERAL_SCHEMA, several_samples(1, seed=0))
    example = tf.train.Example.FromString(record)
    example.features.feature.pop("genres")
    getattr(example.features.feature["genres"], kind).value.append(value)
    assert misfit(SEVERAL_SCHEMA, example.SerializeToString()) == found


def test_equal_samples_are_equal_bytes(schema):
    one, other = (list(records.encode(schema, samples(9, seed=3))) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_samples_go_to_the_parts_in_turn(tmp_path, compression):
    with records.PartWriter(str(tmp_path), 3, compression) as writer:
        writer.write([b"0", b"1"])
        writer.write(iter([b"2", b"3"]))
        assert writer.examples == 4
    files = [f"part-0000{n}{'.gz' if compression else ''}" for n in range(3)]
    assert sorted(os.listdir(tmp_path)) == files
    parts = [tf.data.TFRecordDataset(f"{tmp_path}/{file}", compression) for file in files]
    contents = [list(part.as_numpy_iterator()) for part in parts]
    assert contents == [[b"0", b"3"], [b"1"], [b"2"]]


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_values_come_back_as_they_were_written(schema, tmp_path, compression):
    data = numbered(SAMPLES)
    files = write_parts(tmp_path / "d", encoded(schema, SAMPLES), compression=compression)
    assert files[0].endswith(".gz") == (compression == "GZIP")
    (serialised,) = read_records(files).batch(SAMPLES)
    raw = parse(schema, serialised)
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
    raw = parse(schema, tf.constant([example.SerializeToString()]), labelled=False)
    assert sorted(raw) == ["cat_feature", "category_list", "dense_feature", "item_list"]
    np.testing.assert_array_equal(raw["item_list"].row_lengths(), [0])


def test_plain_and_zipped_files_do_not_mix(schema, tmp_path):
    files = write_parts(tmp_path / "a", encoded(schema, 2))
    files += write_parts(tmp_path / "b", encoded(schema, 2), compression="GZIP")
    with pytest.raises(DataError, match="part-00000 … .*part-00000.gz: plain and .gz files"):
        read_records(files)
