"""Mistakes in the first records of several impressions are named by record and impression."""

import numpy as np
import pytest

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input.records import encode
from tests.input.grouped import GROUPED_SCHEMA as SCHEMA
from tests.input.grouped import grouped_samples
from tests.input.part_files import write_parts
from tests.input.test_impressions import with_key
from tests.input.test_survey import lines_of

SIZES = [(3, 40), (5, 20)] * 8
SAMPLES = sum(count for count, _ in SIZES)


def said_of(folder, change=lambda data: None, schema=SCHEMA, rewrite=lambda records: records):
    data = grouped_samples(SIZES)
    change(data)
    files = write_parts(folder, rewrite(list(encode(SCHEMA, data))))
    return lines_of(schema, files)


def test_nothing_is_said_of_groups_whose_histories_are_longer_than_what_a_sample_sees(tmp_path):
    assert said_of(tmp_path) == []


def one_label(data):
    data.label[:] = 1


def infinite(data):
    data.dense_feature[4, 0] = np.inf


FAULTS = {
    one_label: f"record 0, impression 0: the label is 1 in all of the first {SAMPLES} impressions",
    infinite: "record 1, impression 1: key 'dense_feature', column 'price' holds inf (so in 1 impr",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_by_record_and_impression(tmp_path, fault):
    (line,) = said_of(tmp_path, fault)
    assert line.startswith(f"{tmp_path}/part-00000: {FAULTS[fault]}")


def test_a_history_whose_end_no_impression_sees_is_named(tmp_path):
    def all_see_the_start(records):
        return [with_key(records[0], "newer", [0, 0, 0]), *records[1:]]

    (line,) = said_of(tmp_path, rewrite=all_see_the_start)
    wanted = "record 0: key 'item_list' has 40 behaviours, and impressions see the first 12 alone"
    assert line.startswith(f"{tmp_path}/part-00000: {wanted}")


def test_copies_are_counted(tmp_path):
    (line,) = said_of(tmp_path, rewrite=lambda records: records + records)
    assert f"{SAMPLES} of the first {2 * SAMPLES} impressions are copies of others" in line


def test_a_record_that_does_not_fit_is_an_error(tmp_path):
    def spoilt(records):
        return [*records[:3], with_key(records[3], "newer", [0, 0, 0, 0, 99]), *records[4:]]

    with pytest.raises(DataError, match="record 3: key 'newer', impression 4, holds 99; it says"):
        said_of(tmp_path, rewrite=spoilt)


def test_histories_in_fixed_columns_cannot_be_shared(tmp_path):
    content = SCHEMA.to_dict()
    content["cat_feature"]["column"] += ["item_list[0:2]"]
    content["sequence_feature"]["column"] = ["category_list"]
    schema = DataStruct.from_dict(content)
    with pytest.raises(DataError, match="'newer'.*'item_list' lies in columns of cat_feature"):
        said_of(tmp_path, schema=schema)
