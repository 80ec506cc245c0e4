"""From raw tensors to batches: the one path that training and serving share."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import Features
from diffumin_tf.errors import ConfigError
from diffumin_tf.evaluation.scoring import score
from diffumin_tf.input.dataset import Batches
from diffumin_tf.input.features import FeatureLayout, FeaturePath
from tests.input.part_files import encoded, numbered, write_parts
from tests.small_model import LEAN, build, path_of

MAX_LEN = 12
COMMON = {"label": {"column": ["click"]}, "dense_feature": {"column": ["price", "age"]}}
VARIABLE = DataStruct.from_dict(
    {
        **COMMON,
        "cat_feature": {"column": ["user", "item"]},
        "sequence_feature": {"column": ["item_list", "shop_list"], "max_len": MAX_LEN},
    }
)
COLUMNS = [f"item_list[0:{MAX_LEN}]", "user", f"shop_list[0:{MAX_LEN}]", "item"]
FIXED = DataStruct.from_dict({**COMMON, "cat_feature": {"column": COLUMNS}})
FEATURES = Features(
    user=("user",), candidate=("item",), behaviours=("shop_list", "item_list"), dense=("age",)
)
ITEMS = np.array([[5, 4, 3, 2, 1, 9], [7, 0, 8, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
SHOPS = np.array([[50, 40, 30, 20, 10, 90], [0, 0, 80, 60, 0, 0], [0, 0, 0, 0, 0, 0]])
USERS, CANDIDATES = np.array([[1], [2], [3]]), np.array([[11], [12], [13]])
DENSE = np.array([[1, 2], [3, np.nan], [np.inf, -np.inf]], np.float32)
BEHAVIOURS = np.stack([SHOPS, ITEMS], axis=2)


def path(schema, seq_len, features=FEATURES, buckets=None):
    # Rows equal ids, so that a test sees which id went where.
    rows_of = lambda ids: tf.cast(ids, tf.int32)  # noqa: E731
    return FeaturePath(schema, FeatureLayout.of(features, schema), seq_len, rows_of, buckets)


def padded(ids, width):
    return np.pad(ids, [(0, 0), (0, width - ids.shape[1])])


def variable_raw(width=6):
    return {
        "cat_feature": tf.constant(np.hstack([USERS, CANDIDATES])),
        "dense_feature": tf.constant(DENSE),
        "item_list": tf.constant(padded(ITEMS, width)),
        "shop_list": tf.constant(padded(SHOPS, width)),
    }


def history(batch):
    (group,) = batch.histories
    return group


@pytest.mark.parametrize("seq_len", [1, 3, 6, MAX_LEN])
def test_fixed_columns_and_variable_length_give_equal_batches(seq_len):
    columns = [padded(ITEMS, MAX_LEN), USERS, padded(SHOPS, MAX_LEN), CANDIDATES]
    raw = {"cat_feature": tf.constant(np.hstack(columns)), "dense_feature": tf.constant(DENSE)}
    fixed, variable = path(FIXED, seq_len)(raw), path(VARIABLE, seq_len)(variable_raw(MAX_LEN))
    tf.nest.assert_same_structure(fixed, variable)
    for one, other in zip(tf.nest.flatten(fixed), tf.nest.flatten(variable), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_columns_go_where_the_layout_says():
    batch = path(VARIABLE, 6)(variable_raw())
    np.testing.assert_array_equal(batch.fields, np.hstack([USERS, CANDIDATES]))
    rows, mask, samples, _ = history(batch)
    np.testing.assert_array_equal(rows, BEHAVIOURS)
    np.testing.assert_array_equal(mask, (BEHAVIOURS > 0).any(axis=2))
    np.testing.assert_array_equal(samples, [0, 1, 2])
    assert batch.fields.dtype == rows.dtype == samples.dtype == tf.int32


@pytest.mark.parametrize(("width", "seq_len"), [(6, 8), (7, 8), (30, 8), (30, 20), (6, 2)])
def test_a_history_keeps_its_most_recent_behaviours_as_many_as_it_came_with(width, seq_len):
    rows, mask, *_ = history(path(VARIABLE, seq_len)(variable_raw(width)))
    length = min(width, seq_len, MAX_LEN)
    assert rows.shape == (3, length, 2) and mask.shape == (3, length)
    np.testing.assert_array_equal(rows[:, :6], BEHAVIOURS[:, :length])
    assert not rows[:, 6:].numpy().any() and not mask[:, 6:].numpy().any()


def test_fields_of_unequal_length_are_padded_each_to_one_behaviour_at_least():
    shorter = {**variable_raw(), "shop_list": tf.constant(SHOPS[:, :1])}
    rows = history(path(VARIABLE, 4)(shorter)).rows
    np.testing.assert_array_equal(rows[0], [[50, 5], [0, 4], [0, 3], [0, 2]])
    empty = {name: tf.zeros([3, 0], tf.int64) for name in ("item_list", "shop_list")}
    rows, mask, *_ = history(path(VARIABLE, 4)({**variable_raw(), **empty}))
    np.testing.assert_array_equal(rows, np.zeros([3, 1, 2]))
    np.testing.assert_array_equal(mask, np.zeros([3, 1]))


def test_the_mask_follows_the_ids_and_not_the_rows():
    unknown = FeaturePath(VARIABLE, FeatureLayout.of(FEATURES, VARIABLE), 6, tf.zeros_like)
    rows, mask, *_ = history(unknown(variable_raw()))
    assert not rows.numpy().any()
    np.testing.assert_array_equal(mask, (BEHAVIOURS > 0).any(axis=2))


def test_dense_values_are_finite_and_cut_before_they_overflow():
    both = FEATURES.model_copy(update={"dense": ("price", "age")})
    batch = path(VARIABLE, 6, both)(variable_raw())
    np.testing.assert_array_equal(batch.dense, [[1, 2], [3, 0], [0, 0]])
    largest = np.finfo(np.float32).max
    raw = {**variable_raw(), "dense_feature": np.array([[0, largest], [0, -largest], [0, 2]])}
    np.testing.assert_allclose(path(VARIABLE, 6)(raw).dense, [[1e18], [-1e18], [2]])
    none = FEATURES.model_copy(update={"dense": ()})
    assert path(VARIABLE, 6, none)(variable_raw()).dense.shape == (3, 0)


def test_a_column_in_two_roles_is_laid_out_once():
    features = Features(user=("user",), candidate=("item", "user"), behaviours=("item_list",))
    assert FeatureLayout.of(features, VARIABLE).fields == ("user", "item")


SEVERAL = DataStruct.from_dict({**VARIABLE.to_dict(), "multi_feature": {"column": ["genres"]}})
GENRES = [[6, 0, 5, 6], [], [-3, 900, 0]]  # ids from 900 on are unknown


@pytest.mark.parametrize(("seq_len", "kept"), [(4, 4), (20, MAX_LEN)])
def test_every_signature_sees_as_much_of_a_history_as_training(seq_len, kept):
    raw, path_of_model = variable_raw(width=15), path(VARIABLE, seq_len)
    one = {name: raw[name][:1] for name in ("item_list", "shop_list", "dense_feature")}
    request = path_of_model.request({**one, "user": USERS[:1], "candidate": CANDIDATES})
    assert history(request).rows.shape[1] == history(path_of_model(raw)).rows.shape[1] == kept


@pytest.mark.parametrize("form", ["padded", "padded for longer", "ragged", "request"])
def test_bags_hold_the_known_ids_of_a_field_of_several_values(form):
    features = FEATURES.model_copy(update={"candidate": ("genres", "item")})
    layout = FeatureLayout.of(features, SEVERAL)
    assert (layout.fields, layout.multi) == (("user", "item"), {"genres": "candidate"})
    assert layout.categorical == ("user", "item", "genres")
    assert layout.roles["candidate"] == ("item",)
    rows_of = lambda ids: tf.cast(tf.where(ids < 900, ids, 0), tf.int32)  # noqa: E731
    path = FeaturePath(SEVERAL, layout, 6, lambda ids: tf.maximum(rows_of(ids), 0))
    genres = tf.ragged.constant(GENRES, tf.int64)
    genres = genres if form == "ragged" else genres.to_tensor(shape=[3, 4 + 5 * ("long" in form)])
    raw = {**variable_raw(), "genres": genres}
    if form == "request":
        one_user = {name: raw[name][:1] for name in ("item_list", "shop_list")}
        batch = path.request({**raw, **one_user, "user": USERS[:1], "candidate": CANDIDATES})
    else:
        batch = path(raw)
    (bags,) = batch.multi
    np.testing.assert_array_equal(bags.rows, [6, 5, 6])
    np.testing.assert_array_equal(bags.counts, [3, 0, 0])
    assert bags.rows.dtype == bags.counts.dtype == tf.int32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidate": ("items",)}, "cat_feature has no column 'items'; did you mean 'item'"),
        ({"candidate": ("genres",)}, "candidate: .'genres'. have several values .* cat_feature"),
        ({"behaviours": ("genres",)}, "no history field 'genres'"),
        ({"dense": ("prices",)}, "dense_feature has no column 'prices'; did you mean 'price'"),
        ({"behaviours": ("item_lst",)}, "no history field 'item_lst'.*'item_list'"),
        ({"behaviours": ()}, "features.behaviours: name at least one history field"),
    ],
)
def test_a_column_that_is_missing_is_named(change, message):
    with pytest.raises(ConfigError, match=message):
        path(SEVERAL, 6, FEATURES.model_copy(update=change))


# Behaviours of every sample, by shops and by items, which may be of different number.
LENGTHS = [(5, 5), (0, 0), (3, 1), (12, 12), (1, 4), (0, 3), (6, 0), (12, 9), (0, 0), (2, 2)]


def grouped(schema, histories, buckets, seq_len):
    """A batch of samples, of each of which the ids of shops and of items are given."""
    candidate = np.arange(1, len(histories) + 1)[:, np.newaxis]
    shops, items = zip(*histories, strict=True)
    raw = {"dense_feature": tf.zeros([len(histories), 2])}
    if schema is VARIABLE:
        raw["cat_feature"] = tf.constant(np.hstack([candidate, candidate]))
        raw["shop_list"] = tf.ragged.constant(shops, tf.int64)
        raw["item_list"] = tf.ragged.constant(items, tf.int64)
    else:
        shops, items = (
            tf.ragged.constant(f).to_tensor(shape=[None, MAX_LEN]) for f in (shops, items)
        )
        raw["cat_feature"] = tf.constant(np.hstack([items, candidate, shops, candidate]), tf.int64)
    return path(schema, seq_len, buckets=buckets).grouped(raw)


@pytest.mark.parametrize("schema", [VARIABLE, FIXED], ids=["ragged", "columns"])
@pytest.mark.parametrize("buckets", [(3, 5, 12), (1, 10), (2, 4, 6), (4,), (12,), (20,), None])
def test_groups_hold_what_a_loop_over_samples_puts_there(schema, buckets):
    rng = np.random.default_rng(0)

    def some(length):  # some ids are missing, but for the last of a list
        ids = rng.integers(1, 900, length) * (rng.random(length) < 0.8)
        return [int(i) for i in ids[:-1]] + [7] * min(length, 1)

    histories = [(some(shops), some(items)) for shops, items in LENGTHS]
    seq_len = (buckets or [9])[-1]
    batch = grouped(schema, histories, buckets, seq_len)
    np.testing.assert_array_equal(batch.fields[:, 1], np.arange(1, len(LENGTHS) + 1))
    assert batch.dense.shape == (len(LENGTHS), 1)
    for group, bucket in zip(batch.histories, buckets or [9], strict=True):
        members, expected = [], []
        for sample, (shops, items) in enumerate(histories):
            length = min(max(len(shops), len(items)), seq_len)
            if next(b for b in buckets or [9] if b >= length) != bucket:
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


@pytest.mark.parametrize("buckets", [(2, 4), (4, 2, 10), (2, 2, 10)])
def test_buckets_that_would_lose_samples_are_refused(buckets):
    with pytest.raises(ValueError, match="`buckets` must ascend to 10, received"):
        path(VARIABLE, 10, buckets=buckets)


def test_records_come_in_groups_and_score_as_in_one(schema, tmp_path):
    count, buckets = 10, (3, 7, MAX_LEN)
    files = write_parts(tmp_path / "parts", encoded(schema, count))
    model, _ = build(schema, seq_len=MAX_LEN, **LEAN)

    def batches(buckets):
        return Batches(files, schema, path_of(model, schema, buckets), 8, "user_id").dataset()

    specs = batches(buckets).element_spec.histories
    assert [spec.rows.shape.as_list() for spec in specs] == [[None, b, 2] for b in buckets]
    members = [[g.samples.numpy().tolist() for g in b.histories] for b in batches(buckets)]
    data = numbered(count)
    bucket_of = np.searchsorted(buckets, np.diff(data.sequences["item_list"][1]))
    for found, expected in zip(members, (bucket_of[:8], bucket_of[8:]), strict=True):
        assert found == [np.flatnonzero(expected == bucket).tolist() for bucket in range(3)]
    assert all(members[0]) and not all(members[1])  # groups of some and of no sample
    predict = lambda batch: model.predict_click(batch)["pctr"]  # noqa: E731
    alike, apart = score(predict, batches((MAX_LEN,))), score(predict, batches(buckets))
    assert len(alike.pctr) == count and alike.pctr.std() > 0.01
    np.testing.assert_allclose(apart.pctr, alike.pctr, atol=1e-6)
    np.testing.assert_array_equal(apart.users, np.arange(count))
    np.testing.assert_array_equal(apart.labels, data.label)
