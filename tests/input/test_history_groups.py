"""Histories in groups, each padded to the shortest bucket that they fit."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import Features
from diffumin_tf.evaluation.scoring import score
from diffumin_tf.input import records
from diffumin_tf.input.dataset import Batches
from diffumin_tf.input.features import FeatureLayout, FeaturePath
from tests.small_log import SCHEMA
from tests.small_model import LEAN, build, path_of

MAX_LEN = 12
SHARED = {"label": {"column": ["click"]}, "dense_feature": {"column": ["price"]}}
VARIABLE = DataStruct.from_dict(
    {
        **SHARED,
        "cat_feature": {"column": ["item"]},
        "sequence_feature": {"column": ["item_list", "shop_list"], "max_len": MAX_LEN},
    }
)
FIXED = DataStruct.from_dict(
    {
        **SHARED,
        "cat_feature": {"column": [f"shop_list[0:{MAX_LEN}]", "item", f"item_list[0:{MAX_LEN}]"]},
    }
)
FEATURES = Features(candidate=("item",), behaviours=("shop_list", "item_list"), dense=("price",))
# Behaviours of every sample, by shops and by items, which may be of different number.
LENGTHS = [(5, 5), (0, 0), (3, 1), (12, 12), (1, 4), (0, 3), (6, 0), (12, 9), (0, 0), (2, 2)]


def samples(lengths, seed=0):
    """Two lists of ids a sample; some ids are missing, but for the last of a list."""
    rng = np.random.default_rng(seed)

    def some(length):
        ids = rng.integers(1, 900, length) * (rng.random(length) < 0.8)
        return [int(i) for i in ids[:-1]] + [7] * min(int(length), 1)

    return [(some(shops), some(items)) for shops, items in lengths]


def raw_of(schema, histories):
    candidate = np.arange(1, len(histories) + 1)[:, np.newaxis]
    raw = {"dense_feature": tf.zeros([len(histories), 1])}
    shops, items = zip(*histories, strict=True)
    if schema is VARIABLE:
        raw["cat_feature"] = tf.constant(candidate)
        raw["shop_list"] = tf.ragged.constant(shops, tf.int64)
        raw["item_list"] = tf.ragged.constant(items, tf.int64)
        return raw
    columns = [[ids + [0] * (MAX_LEN - len(ids)) for ids in field] for field in (shops, items)]
    raw["cat_feature"] = tf.constant(np.hstack([columns[0], candidate, columns[1]]), tf.int64)
    return raw


def path_to(schema, buckets, seq_len=None):
    # Rows equal ids, so that a test sees which id went where.
    rows_of = lambda ids: tf.cast(ids, tf.int32)  # noqa: E731
    layout = FeatureLayout.of(FEATURES, schema)
    return FeaturePath(schema, layout, seq_len or buckets[-1], rows_of, buckets)


def grouped(schema, histories, buckets):
    return path_to(schema, buckets).grouped(raw_of(schema, histories))


def undo(inputs, count, length):
    """Rows and mask of all samples in their order, by a loop."""
    rows, mask = np.zeros([count, length, 2], np.int32), np.zeros([count, length], bool)
    for group in inputs.histories:
        for place, sample in enumerate(group.samples.numpy()):
            padded = min(group.rows.shape[1], length)
            assert not group.mask[place, padded:].numpy().any()
            rows[sample, :padded] = group.rows[place, :padded]
            mask[sample, :padded] = group.mask[place, :padded]
    return rows, mask


@pytest.fixture(params=[VARIABLE, FIXED], ids=["ragged", "columns"])
def schema(request):
    return request.param


@pytest.mark.parametrize("buckets", [(3, 5, 12), (1, 10), (2, 4, 6), (4,), (12,), (20,)])
def test_groups_hold_what_a_loop_over_samples_puts_there(schema, buckets):
    histories, seq_len = samples(LENGTHS), buckets[-1]
    inputs = grouped(schema, histories, buckets)
    assert len(inputs.histories) == len(buckets)
    for group, bucket in zip(inputs.histories, buckets, strict=True):
        members, expected = [], []
        for sample, (shops, items) in enumerate(histories):
            length = min(max(len(shops), len(items)), seq_len)
            if next(b for b in buckets if b >= length) != bucket:
                continue
            behaviours = np.zeros([bucket, 2], int)
            for field, ids in enumerate((shops[:seq_len], items[:seq_len])):
                behaviours[: len(ids), field] = ids
            members.append(sample)
            expected.append(behaviours)
        expected = np.reshape(expected, [len(members), bucket, 2])
        np.testing.assert_array_equal(group.samples, members)
        np.testing.assert_array_equal(group.rows, expected)
        np.testing.assert_array_equal(group.mask, (expected > 0).any(axis=2))
        assert group.rows.dtype == group.samples.dtype == tf.int32


def test_a_sample_lands_in_the_smallest_bucket_that_fits_and_an_empty_one_in_the_smallest(schema):
    lengths = [(4, 4), (0, 0), (3, 3), (9, 9), (1, 5), (12, 2), (0, 1), (8, 0)]
    inputs = grouped(schema, samples(lengths), (3, 4, 8))
    members = [group.samples.numpy().tolist() for group in inputs.histories]
    assert members == [[1, 2, 6], [0], [3, 4, 5, 7]]


def test_a_history_longer_than_seq_len_keeps_its_most_recent_behaviours(schema):
    histories = [([*range(1, 13)], [*range(21, 33)])]
    short, long = grouped(schema, histories, (2, 5)).histories
    assert short.rows.shape == (0, 2, 2)
    np.testing.assert_array_equal(long.rows[0], [[n, 20 + n] for n in range(1, 6)])


def test_every_sample_is_in_one_group(schema):
    lengths = np.random.default_rng(0).integers(0, MAX_LEN + 1, [300, 2])
    inputs = grouped(schema, samples(lengths), (2, 3, 7, 12))
    members = [group.samples.numpy() for group in inputs.histories]
    assert all(len(one) > 5 and (np.diff(one) > 0).all() for one in members)
    np.testing.assert_array_equal(np.sort(np.concatenate(members)), np.arange(300))


def test_a_single_bucket_pads_to_seq_len_in_the_order_of_the_batch(schema):
    for path in (path_to(schema, (9,)), path_to(schema, None, seq_len=9)):
        inputs = path.grouped(raw_of(schema, samples(LENGTHS)))
        (group,) = inputs.histories
        assert group.rows.shape == (len(LENGTHS), 9, 2)
        np.testing.assert_array_equal(group.samples, range(len(LENGTHS)))


@pytest.mark.parametrize("buckets", [(3, 8), (2, 5, 12), (30,)])
def test_without_the_groups_the_inputs_are_those_of_a_plain_call(schema, buckets):
    path, raw = path_to(schema, buckets), raw_of(schema, samples(LENGTHS, seed=1))
    padded = {n: v.to_tensor() if n.endswith("_list") else v for n, v in raw.items()}
    plain, inputs = path(padded), path.grouped(raw)
    (group,) = plain.histories
    rows, mask = undo(inputs, *group.mask.shape)
    np.testing.assert_array_equal(rows, group.rows)
    np.testing.assert_array_equal(mask, group.mask)
    np.testing.assert_array_equal(inputs.fields, plain.fields)
    np.testing.assert_array_equal(inputs.dense, plain.dense)


SEQ_LEN, BUCKETS = 200, (4, 40, 200)
RECORD_LENGTHS = [30, 0, 200, 3, 3, 30, 200, 0, 4, 41]


@pytest.fixture(scope="module")
def long_log(tmp_path_factory):
    """A model, and files of records whose histories are short and long."""
    columns = {**SCHEMA, "sequence_feature": {**SCHEMA["sequence_feature"], "max_len": SEQ_LEN}}
    count, splits = len(RECORD_LENGTHS), np.r_[0, np.cumsum(RECORD_LENGTHS)]
    schema, rng = DataStruct.from_dict(columns), np.random.default_rng(0)
    data = records.SampleColumns(
        label=np.arange(count) % 2,
        auxiliary_info=np.arange(count)[:, np.newaxis],
        cat_feature=rng.integers(1, 900, [count, len(schema.cat_feature)]),
        dense_feature=rng.normal(size=[count, 1]).astype(np.float32),
        sequences={
            name: (rng.integers(1, 900, splits[-1]), splits)
            for name in ("item_list", "category_list")
        },
    )
    folder = str(tmp_path_factory.mktemp("records"))
    with records.PartWriter(folder) as writer:
        writer.write(records.encode(schema, data))
    model, _ = build(schema, seq_len=SEQ_LEN, **LEAN)
    return model, schema, [f"{folder}/part-00000"]


def batches(long_log, buckets, size=8):
    model, schema, files = long_log
    return Batches(files, schema, path_of(model, schema, buckets), size, "user_id").dataset()


def test_batches_from_records_come_in_groups(long_log):
    found = batches(long_log, BUCKETS)
    specs = found.element_spec.histories
    assert [spec.rows.shape.as_list() for spec in specs] == [[None, b, 2] for b in BUCKETS]
    members = [[g.samples.numpy().tolist() for g in i.histories] for i in found]
    assert members == [[[1, 3, 4, 7], [0, 5], [2, 6]], [[0], [], [1]]]
    for inputs in found:
        for group, bucket in zip(inputs.histories, BUCKETS, strict=True):
            assert group.rows.shape == (len(group.samples), bucket, 2)
            assert group.mask.shape == (len(group.samples), bucket)


def test_records_score_the_same_in_groups_as_in_one(long_log):
    model, _, _ = long_log
    predict = lambda inputs: model.predict_click(inputs)["pctr"]  # noqa: E731
    alike = score(predict, batches(long_log, (SEQ_LEN,)))
    apart = score(predict, batches(long_log, BUCKETS))
    assert len(alike.pctr) == len(RECORD_LENGTHS) and alike.pctr.std() > 0.01
    np.testing.assert_allclose(apart.pctr, alike.pctr, atol=1e-6)
    np.testing.assert_array_equal(apart.users, np.arange(len(RECORD_LENGTHS)))
    np.testing.assert_array_equal(apart.labels, alike.labels)


@pytest.mark.parametrize("buckets", [(2, 4), (4, 2, 10), (2, 2, 10)])
def test_buckets_that_would_lose_samples_are_refused(buckets):
    layout = FeatureLayout.of(FEATURES, VARIABLE)
    with pytest.raises(ValueError, match="`buckets` must ascend to 10, received"):
        FeaturePath(VARIABLE, layout, 10, tf.identity, buckets)
