"""Records of several impressions: what is read of them is what records of one would give."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.input.chunks import Chunks, whole
from diffumin_tf.input.impressions import single_records
from diffumin_tf.input.parsing import misfit, parse
from diffumin_tf.input.records import encode
from tests.input.expand import expand, expand_all
from tests.input.grouped import GROUPED_SCHEMA, MAX_LEN, SIZES, grouped_samples, ungrouped

UNSTORED = dataclasses.replace(GROUPED_SCHEMA, stored_once=())


def records_of(schema=GROUPED_SCHEMA, sizes=SIZES, seed=0):
    return list(encode(schema, grouped_samples(sizes, seed)))


def assert_equal_samples(schema, raw, singles, labelled=True):
    """Raw tensors of chunks, whose histories are cut as each sample sees them, against records."""
    wanted = parse(schema, tf.constant(singles), labelled)
    assert raw.keys() == {*wanted, "record", "newer"}
    for name, values in wanted.items():
        found = raw[name]
        if name in schema.variable_sequences:
            pairs = zip(raw["record"].numpy(), raw["newer"].numpy(), strict=True)
            found = [found[r].numpy()[n : n + MAX_LEN].tolist() for r, n in pairs]
        elif name in schema.ragged:
            found = found.to_list()
        assert (
            found == values.to_list() if name in schema.ragged else (found == values).numpy().all()
        )


@pytest.mark.parametrize("schema", [GROUPED_SCHEMA, UNSTORED], ids=["once", "each"])
@pytest.mark.parametrize("labelled", [True, False])
def test_groups_are_read_as_the_records_of_one_impression_that_they_stand_for(schema, labelled):
    of_one = list(encode(schema, ungrouped(grouped_samples(seed=1))))[:9]
    mixed = of_one[:4] + records_of(schema) + of_one[4:] + records_of(schema, [(400, 700)], 2)
    mixed = tf.constant(mixed)
    raw = parse(schema, whole(mixed), labelled)
    assert_equal_samples(schema, raw, expand_all(schema, mixed.numpy()), labelled)


def test_chunks_are_some_of_the_impressions_and_one_record_may_have_several():
    records, first, count = records_of(), [2, 0, 0, 3], [1, 1, 5, 4]
    chosen = [records[3], records[1], records[2], records[3]]
    chunks = Chunks(*map(tf.constant, (chosen, first, count)))
    raw = parse(GROUPED_SCHEMA, chunks)
    parts = zip(chosen, first, count, strict=True)
    singles = [one for r, a, n in parts for one in expand(GROUPED_SCHEMA, r)[a : a + n]]
    assert_equal_samples(GROUPED_SCHEMA, raw, singles)
    assert raw["record"].numpy().tolist() == [0, 1, *[2] * 5, *[3] * 4]
    with pytest.raises(tf.errors.InvalidArgumentError):
        parse(GROUPED_SCHEMA, chunks._replace(count=tf.constant([1, 1, 5, 5])))


def test_one_impression_is_written_out_as_if_it_had_a_record_of_its_own():
    for record in records_of():
        assert list(single_records(GROUPED_SCHEMA, record)) == expand(GROUPED_SCHEMA, record)
    (of_one,) = encode(UNSTORED, ungrouped(grouped_samples([(1, 4)])))
    assert list(single_records(UNSTORED, of_one)) == [of_one]


def with_key(record, key, values):
    example = tf.train.Example.FromString(record)
    example.features.feature[key].int64_list.value[:] = values
    return example.SerializeToString()


@pytest.mark.parametrize("labelled", [True, False])
def test_without_chunks_a_group_is_refused_and_a_record_of_one_is_read(labelled):
    """Also one all of whose columns are stored once, which has as many values as one of one."""
    content = UNSTORED.to_dict() | {
        "dense_feature": {"column": []},
        "multi_feature": {"column": []},
    }
    content |= {"cat_feature": {"column": ["user"]}, "stored_once": ["user", "user_id", "time"]}
    schema = DataStruct.from_dict({**content, "id_space": {}})
    data = grouped_samples([(1, 5), (3, 5)])
    data = dataclasses.replace(data, cat_feature=data.cat_feature[:, :1], multi={})
    data.dense_feature, data.auxiliary_info = np.zeros([4, 0]), np.ones([4, 2], np.int64)
    one, three = encode(schema, data)
    for name in schema.variable_sequences:
        one = with_key(one, name, [101, 102])
    (same,) = expand(schema, one)
    raw, wanted = (parse(schema, tf.constant([record]), labelled) for record in (one, same))
    assert raw.keys() == wanted.keys() and raw["item_list"].to_list() == [[101, 102]]
    assert all((raw[name] == wanted[name]).numpy().all() for name in {*raw} - {*schema.ragged})
    for wrong in (three, with_key(one, "newer", [2]), with_key(one, "newer", [])):
        with pytest.raises(tf.errors.InvalidArgumentError):
            parse(schema, tf.constant([one, wrong]), labelled)
        assert "is without that key" in misfit(schema, wrong, grouped=False)


def test_several_labels_without_newer_are_an_error_that_names_the_key():
    (one,) = encode(UNSTORED, ungrouped(grouped_samples([(1, 4)])))
    remedy = "data_struct wants 1; a record of 2 impressions says so by the key 'newer'"
    assert misfit(UNSTORED, with_key(one, "label", [0, 1])).endswith(remedy)
    assert misfit(UNSTORED, with_key(one, "cat_feature", [1, 2])).endswith("data_struct wants 5")


ONCE = "; are the columns that these records hold once in"
FAULTS = {
    # Of records[3]: 7 impressions of 20 behaviours.
    ("newer", (0, 20, 1, 10, 10, 21, 0)): "key 'newer', impression 5, holds 21; it says how many",
    ("newer", (0, -1, 1, 10, 10, 2, 0)): "key 'newer', impression 1, holds -1; it says how many",
    ("newer", (0, 1)): "key 'label' has 7 int64_list values (it holds a int64_list); data_struct "
    "wants 2 for 2 impressions: 1 of the first, 1 of each other",
    (
        "cat_feature",
        (1, 2, 3),
    ): "key 'cat_feature' has 3 int64_list values (it holds a int64_list); "
    f"data_struct wants 23 for 7 impressions: 5 of the first, 3 of each other{ONCE}",
    (
        "cat_feature",
        (*range(1, 23), -5),
    ): "impression 6: key 'cat_feature', column 'hour', holds -5",
    ("label", (0, 1, 0, 1, 5, 1, 1)): "impression 4: key 'label' holds 5; a label is 1",
    ("category_list", (7, 8)): "key 'category_list' has 2 behaviours, but key 'item_list' has 20",
    ("category_list", (*range(30),)): "key 'category_list' has 30 behaviours, but key 'item_list'",
    ("item_list", (-3, *range(19))): "impression 1: key 'item_list' holds -3; an id is a number",
    ("genres_count", (0, 0)): "key 'genres_count' has 2 values; 7 impressions want 6: how many of",
    ("genres_count", (0, 0, 0, 0, 0, 99)): "key 'genres_count' holds [0, 0, 0, 0, 0, 99]; it says",
    ("tags_count", (0, 0, 0, 0, 0, 0)): "key 'tags_count' says that each impression has its own",
    ("genres_count", (0, 0, 0, 0, 2, -2)): "key 'genres_count' holds [0, 0, 0, 0, 2, -2]; it says",
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.items(), ids=[*map(str, FAULTS)])
def test_what_does_not_fit_in_a_group_is_an_error_and_said_in_words(fault, message):
    records = records_of()
    records[3] = with_key(records[3], *fault)
    with pytest.raises(tf.errors.InvalidArgumentError):
        serialised = tf.constant(records)
        parse(GROUPED_SCHEMA, whole(serialised))
    assert misfit(GROUPED_SCHEMA, records[3]).startswith(message)
    assert [misfit(GROUPED_SCHEMA, record) for record in records[:3]] == [None] * 3
