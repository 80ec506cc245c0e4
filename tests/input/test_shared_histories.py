"""Histories that several samples share: what each sample sees, and how little is stored for it."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import Features
from diffumin_tf.input.features import FeatureLayout, FeaturePath

MAX_LEN = 12
SCHEMA = DataStruct.from_dict(
    {
        "label": {"column": ["click"]},
        "cat_feature": {"column": ["item"]},
        "sequence_feature": {"column": ["item_list", "shop_list"], "max_len": MAX_LEN},
    }
)
FEATURES = Features(candidate=("item",), behaviours=("shop_list", "item_list"))
# Of each history its length, and of each of its samples where it begins to see.
CASES = {
    "at the start, in the middle, past the end": [(20, [0, 3, 3, 19, 20]), (5, [0])],
    "empty": [(0, [0]), (0, [0, 0]), (30, [7])],
    "as long as a bucket": [(12, [0]), (4, [0]), (5, [1]), (3, [0, 0])],
    "many of one": [(40, list(range(40)) * 3), *[(9, [2, 0])] * 10],
    "all of one": [(3000, [5] * 1000)],
    "one each": [(n, [n // 2]) for n in range(40)],
    "none": [],
}


def grouped(case, seq_len, buckets, seen=None):
    """The batch and the ids of each history, int64 [length, fields]."""
    rng = np.random.default_rng(0)
    histories = [rng.integers(1, 900, [n, 2]) * (rng.random([n, 2]) < 0.8) for n, _ in case]
    counts = [len(newer) for _, newer in case]

    def rows_of(ids):
        if seen is not None and ids.shape.rank == 2 and ids.shape[1] == 2:
            seen.append(ids.shape[0])
        return tf.cast(ids, tf.int32) + 1  # padding has a row too, so that it shows

    path = FeaturePath(SCHEMA, FeatureLayout.of(FEATURES, SCHEMA), seq_len, rows_of, buckets)
    splits = np.cumsum([0] + [len(h) for h in histories])
    flat = np.concatenate([np.zeros([0, 2], np.int64), *histories])
    lists = [tf.RaggedTensor.from_row_splits(flat[:, i], splits) for i in (0, 1)]
    raw = {
        "cat_feature": tf.range(sum(counts), dtype=tf.int64)[:, tf.newaxis],
        "shop_list": lists[0],
        "item_list": lists[1],
        "record": tf.repeat(tf.range(len(case)), tf.constant(counts, tf.int32)),
        "newer": tf.constant([n for _, newer in case for n in newer], tf.int32),
    }
    return path.grouped(raw), histories


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize(
    ("seq_len", "buckets"), [(5, None), (5, (3, 5)), (MAX_LEN, (4, 8, MAX_LEN)), (40, (4, 40))]
)
def test_each_sample_sees_its_own_window_and_its_history_is_mapped_once(case, seq_len, buckets):
    seen = []
    batch, histories = grouped(case, seq_len, buckets, seen)
    window, samples = (
        min(seq_len, MAX_LEN),
        [(h, n) for h, (_, new) in enumerate(case) for n in new],
    )
    lengths = [min(max(n) + window, length) - min(n) for length, n in case]
    buckets = buckets or (seq_len,)
    bucket_of = np.minimum(np.searchsorted(buckets, lengths), len(buckets) - 1)
    for number, group in enumerate(batch.histories):
        rows, mask, members, windows = tf.nest.map_structure(lambda x: x.numpy(), group)
        expected = [s for s, (history, _) in enumerate(samples) if bucket_of[history] == number]
        assert members.tolist() == expected
        at, place, first, stop = windows
        tiles, width = at.shape
        of_group = bucket_of == number
        longest = max([buckets[number], *np.array(lengths)[of_group]]) if of_group.any() else 0
        assert rows.shape[1] == mask.shape[1] >= longest and rows.shape[0] == tiles
        assert tiles * width <= 3 * len(expected) + 2 * of_group.sum()
        assert at.ravel()[place].tolist() == list(range(len(expected)))
        assert all(len({samples[members[s]][0] for s in tile}) == 1 for tile in at)
        for sample, tile, begin, end in zip(expected, place // width, first, stop, strict=True):
            history, newer = samples[sample]
            seen_of_it = histories[history][newer : newer + window]
            np.testing.assert_array_equal(rows[tile, begin:end], seen_of_it + 1)
            np.testing.assert_array_equal(mask[tile, begin:end], (seen_of_it > 0).any(axis=1))
            assert not mask[tile, lengths[history] :].any()
    assert seen == [sum(length for length, _ in case)]


def test_fields_of_unequal_length_are_padded_each():
    lists = {"shop_list": [[1, 2], [], [3]], "item_list": [[4], [], [5, 6, 7]]}
    raw = {name: tf.ragged.constant(some, tf.int64) for name, some in lists.items()}
    raw |= {"cat_feature": tf.zeros([3, 1], tf.int64), "record": tf.range(3)}
    raw["newer"] = tf.zeros([3], tf.int32)
    path = FeaturePath(SCHEMA, FeatureLayout.of(FEATURES, SCHEMA), 2, tf.identity)
    (group,) = path.grouped(raw).histories
    expected = [[[1, 4], [2, 0]], [[0, 0], [0, 0]], [[3, 5], [0, 6]]]
    np.testing.assert_array_equal(group.rows, expected)
    np.testing.assert_array_equal(group.windows.stop, [2, 0, 2])


def test_a_history_of_many_samples_stands_in_several_tiles_so_that_few_places_stay_free():
    (group,) = grouped(CASES["many of one"], MAX_LEN, None)[0].histories
    tiles, width = group.windows.at.shape  # 140 samples of 11 histories: 13 is the mean
    assert (tiles, width) == (-(-120 // 26) + 10, 26)
    assert group.rows.shape[0] == tiles


def test_lengths_of_groups_are_known_but_for_the_last_one():
    path = FeaturePath(SCHEMA, FeatureLayout.of(FEATURES, SCHEMA), 9, lambda ids: ids, (4, 9))

    @tf.function(
        input_signature=[
            {
                "cat_feature": tf.TensorSpec([None, 1], tf.int64),
                "shop_list": tf.RaggedTensorSpec([None, None], tf.int64),
                "item_list": tf.RaggedTensorSpec([None, None], tf.int64),
                "record": tf.TensorSpec([None], tf.int32),
                "newer": tf.TensorSpec([None], tf.int32),
            }
        ]
    )
    def groups(raw):
        return path.grouped(raw).histories

    found = groups.get_concrete_function().structured_outputs
    assert [g.rows.shape.as_list() for g in found] == [[None, 4, 2], [None, None, 2]]
    assert [g.mask.shape.as_list() for g in found] == [[None, 4], [None, None]]
    assert all(g.windows.at.shape.as_list() == [None, None] for g in found)
