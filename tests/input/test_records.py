"""Records on disk: whole or absent, whatever happens in between."""

import os

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input import records
from tests.small_log import SCHEMA, samples


@pytest.fixture(scope="module")
def schema():
    return DataStruct.from_dict(SCHEMA)


@pytest.mark.parametrize(
    ("group", "says"),
    [
        ("auxiliary_info", r"shape \(5, 2\), the schema says \(5, 1\)"),
        ("cat_feature", r"shape \(5, 9\), the schema says \(5, 8\)"),
        ("dense_feature", r"shape \(5, 2\), the schema says \(5, 1\)"),
    ],
)
def test_a_group_of_another_width_than_the_schema_is_refused(schema, group, says):
    data = samples(5, seed=0)
    values = getattr(data, group)
    setattr(data, group, np.hstack([values, values[:, :1]]))
    with pytest.raises(DataError, match=f"{group}: {says}"):
        list(records.encode(schema, data))


def test_equal_samples_are_equal_bytes(schema):
    one, other = (list(records.encode(schema, samples(9, seed=3))) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_samples_go_to_the_parts_in_turn(tmp_path, compression):
    with records.PartWriter(str(tmp_path), 3, compression) as writer:
        writer.write([b"0", b"1"])
        writer.write(iter([b"2", b"3"]))
        assert writer.examples == 4
    suffix = ".gz" if compression else ""
    assert sorted(os.listdir(tmp_path)) == [f"part-0000{n}{suffix}" for n in range(3)]
    contents = [
        list(tf.data.TFRecordDataset(f"{tmp_path}/part-0000{n}{suffix}", compression))
        for n in range(3)
    ]
    assert [[r.numpy() for r in part] for part in contents] == [[b"0", b"3"], [b"1"], [b"2"]]
