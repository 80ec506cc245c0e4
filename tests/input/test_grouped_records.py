"""Records of several impressions: what is stored once is written once and comes back to each."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input.records import encode
from tests.input.expand import expand, expand_all
from tests.input.grouped import GROUPED_SCHEMA, MAX_LEN, SIZES, grouped_samples, ungrouped
from tests.small_log import SCHEMA, samples


def values_of(record, name):
    return list(tf.train.Example.FromString(record).features.feature[name].int64_list.value)


@pytest.mark.parametrize(
    "sizes",
    [SIZES, [(1, 4)], [(1024, 200), (1, 3)], [(1, n) for n in range(30)], []],
    ids=["mixed", "one impression", "as many as may be", "all of one", "nothing"],
)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("once", [GROUPED_SCHEMA.stored_once, ()])
def test_groups_hold_what_records_of_one_impression_hold(sizes, seed, once):
    schema = dataclasses.replace(GROUPED_SCHEMA, stored_once=once)
    data = grouped_samples(sizes, seed)
    grouped = list(encode(schema, data))
    assert [len(expand(schema, record)) for record in grouped] == [n for n, _ in sizes]
    assert expand_all(schema, grouped) == list(encode(schema, ungrouped(data)))


def test_a_group_of_very_many_impressions_becomes_several_records():
    """Chunks of a record hold all of it: of 20,000 impressions they would take gigabytes."""
    data = grouped_samples([(2, 9), (2500, 200), (1025, 0)])
    grouped = list(encode(GROUPED_SCHEMA, data))
    sizes = [len(expand(GROUPED_SCHEMA, record)) for record in grouped]
    assert sizes == [2, 1024, 1024, 452, 1024, 1]
    assert expand_all(GROUPED_SCHEMA, grouped) == list(encode(GROUPED_SCHEMA, ungrouped(data)))


def test_a_history_is_written_once_and_only_what_is_seen_of_it():
    ids = np.arange(1000, 1100)
    data = grouped_samples([(3, 50), (2, 7)])
    start = np.array([20, 25, 90, 70, 70])
    stop = np.minimum(start + MAX_LEN, [95, 95, 95, 72, 72])
    data.sequences = {name: (ids, start, stop) for name in data.sequences}
    one, other = encode(GROUPED_SCHEMA, data)
    assert values_of(one, "newer") == [0, 5, 70] and values_of(other, "newer") == [0, 0]
    assert values_of(one, "item_list") == ids[20:95].tolist()
    assert values_of(other, "category_list") == [1070, 1071]
    columns, once = len(GROUPED_SCHEMA.cat_feature), 2
    assert len(values_of(one, "cat_feature")) == columns + 2 * (columns - once)
    assert len(values_of(one, "genres_count")) == 2 and values_of(one, "tags_count") == []


@pytest.mark.parametrize(
    ("sample", "name", "changed"),
    [
        (3, "user", lambda data: data.cat_feature[3, :1]),
        (3, "age", lambda data: data.dense_feature[3, 1:]),
        (0, "category_list", lambda data: data.sequences["category_list"][1][1:2]),
        (1, "item_list", lambda data: data.sequences["item_list"][2][1:2]),
        (4, "tags", lambda data: data.multi["tags"][2][4:]),
    ],
)
def test_samples_that_do_not_fit_one_record_are_refused(sample, name, changed):
    data = grouped_samples([(2, 30), (3, 30)])
    changed(data)[...] = changed(data) + 1
    with pytest.raises(DataError, match=f"^{name}: sample {sample} does not fit what its record"):
        list(encode(GROUPED_SCHEMA, data))


def test_histories_in_fixed_columns_are_not_stored_once():
    data = dataclasses.replace(samples(4, 0), group=np.zeros(4, np.int64))
    with pytest.raises(DataError, match="histories in fixed columns cannot be stored once"):
        list(encode(DataStruct.from_dict(SCHEMA), data))
