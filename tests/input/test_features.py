"""From raw tensors to model inputs: the one path that training and serving share."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import Features
from diffumin_tf.errors import ConfigError
from diffumin_tf.input.features import FeatureLayout, FeaturePath

LABEL = {"label": {"column": ["click"]}, "dense_feature": {"column": ["price", "age"]}}
VARIABLE = DataStruct.from_dict(
    {
        **LABEL,
        "cat_feature": {"column": ["user", "item"]},
        "sequence_feature": {"column": ["item_list", "shop_list"], "max_len": 6},
    }
)
FIXED = DataStruct.from_dict(
    {**LABEL, "cat_feature": {"column": ["item_list[0:6]", "user", "shop_list[0:6]", "item"]}}
)
FEATURES = Features(
    user=("user",), candidate=("item",), behaviours=("shop_list", "item_list"), dense=("age",)
)
ITEMS = np.array([[5, 4, 3, 2, 1, 9], [7, 0, 8, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
SHOPS = np.array([[50, 40, 30, 20, 10, 90], [0, 0, 80, 60, 0, 0], [0, 0, 0, 0, 0, 0]])
USERS, CANDIDATES = np.array([[1], [2], [3]]), np.array([[11], [12], [13]])
DENSE = np.array([[1, 2], [3, np.nan], [np.inf, -np.inf]], np.float32)


def path(schema, seq_len, features=FEATURES):
    # Rows equal ids, so that a test sees which id went where.
    rows_of = lambda ids: tf.cast(ids, tf.int32)  # noqa: E731
    return FeaturePath(schema, FeatureLayout.of(features, schema), seq_len, rows_of)


def test_dense_values_are_cut_before_they_overflow():
    largest = np.finfo(np.float32).max
    raw = {**variable_raw(), "dense_feature": np.array([[0, largest], [0, -largest], [0, 2]])}
    raw["dense_feature"] = tf.constant(raw["dense_feature"], tf.float32)
    dense = path(VARIABLE, 6)(raw).dense
    np.testing.assert_array_equal(dense, np.array([[1e18], [-1e18], [2]], np.float32))


def variable_raw(width=6):
    widen = lambda ids: np.pad(ids, ((0, 0), (0, max(width - 6, 0))))[:, :width]  # noqa: E731
    return {
        "cat_feature": tf.constant(np.hstack([USERS, CANDIDATES])),
        "dense_feature": tf.constant(DENSE),
        "item_list": tf.constant(widen(ITEMS)),
        "shop_list": tf.constant(widen(SHOPS)),
    }


def fixed_raw():
    return {
        "cat_feature": tf.constant(np.hstack([ITEMS, USERS, SHOPS, CANDIDATES])),
        "dense_feature": tf.constant(DENSE),
    }


def assert_equal(actual, expected):
    tf.nest.assert_same_structure(actual, expected)
    for one, other in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def history(inputs):
    (group,) = inputs.histories
    return group


@pytest.mark.parametrize("seq_len", [1, 3, 6, 9])
def test_fixed_columns_and_variable_length_give_equal_inputs(seq_len):
    assert_equal(path(FIXED, seq_len)(fixed_raw()), path(VARIABLE, seq_len)(variable_raw()))


def test_columns_go_where_the_layout_says():
    inputs = path(VARIABLE, 6)(variable_raw())
    np.testing.assert_array_equal(inputs.fields, np.hstack([USERS, CANDIDATES]))
    np.testing.assert_array_equal(history(inputs).rows, np.stack([SHOPS, ITEMS], axis=2))
    assert inputs.fields.dtype == history(inputs).rows.dtype == tf.int32


def test_a_history_is_one_group_of_all_samples_in_their_order():
    samples = history(path(VARIABLE, 6)(variable_raw())).samples
    assert samples.dtype == tf.int32
    np.testing.assert_array_equal(samples, [0, 1, 2])


def test_a_longer_history_keeps_its_most_recent_behaviours():
    rows = history(path(VARIABLE, 2)(variable_raw())).rows
    np.testing.assert_array_equal(rows, np.stack([SHOPS, ITEMS], axis=2)[:, :2])


@pytest.mark.parametrize("width", [6, 7, 30])
def test_a_history_is_as_long_as_it_came_but_at_most_seq_len(width):
    rows, mask, _ = history(path(VARIABLE, 8)(variable_raw(width)))
    assert rows.shape == (3, min(width, 8), 2) and mask.shape == (3, min(width, 8))
    np.testing.assert_array_equal(rows[:, :6], np.stack([SHOPS, ITEMS], axis=2))
    assert not rows[:, 6:].numpy().any() and not mask[:, 6:].numpy().any()


def test_a_batch_without_any_history_is_one_masked_place():
    raw = {**variable_raw(), **{n: tf.zeros([3, 0], tf.int64) for n in ("item_list", "shop_list")}}
    rows, mask, _ = history(path(VARIABLE, 4)(raw))
    assert rows.shape == (3, 1, 2) and mask.shape == (3, 1)
    assert not rows.numpy().any() and not mask.numpy().any()


def test_fields_of_unequal_length_are_padded_each():
    raw = {**variable_raw(), "shop_list": tf.constant(SHOPS[:, :1])}
    rows = history(path(VARIABLE, 4)(raw)).rows
    np.testing.assert_array_equal(rows[0], [[50, 5], [0, 4], [0, 3], [0, 2]])


def test_a_behaviour_is_there_when_any_field_is():
    mask = history(path(VARIABLE, 6)(variable_raw())).mask
    expected = [[True] * 6, [True, False, True, True, False, False], [False] * 6]
    np.testing.assert_array_equal(mask, expected)


def test_the_mask_follows_the_ids_and_not_the_rows():
    unknown = FeaturePath(VARIABLE, FeatureLayout.of(FEATURES, VARIABLE), 6, tf.zeros_like)
    inputs, known = unknown(variable_raw()), path(VARIABLE, 6)(variable_raw())
    assert not history(inputs).rows.numpy().any()
    np.testing.assert_array_equal(history(inputs).mask, history(known).mask)


def test_dense_values_that_are_not_finite_become_zero():
    np.testing.assert_array_equal(path(VARIABLE, 6)(variable_raw()).dense, [[2], [0], [0]])
    both = FEATURES.model_copy(update={"dense": ("price", "age")})
    inputs = path(VARIABLE, 6, both)(variable_raw())
    np.testing.assert_array_equal(inputs.dense, [[1, 2], [3, 0], [0, 0]])


def test_without_dense_features_the_dense_input_is_empty():
    none = FEATURES.model_copy(update={"dense": ()})
    assert path(VARIABLE, 6, none)(variable_raw()).dense.shape == (3, 0)


def test_a_column_in_two_roles_is_laid_out_once():
    features = Features(user=("user",), candidate=("item", "user"), behaviours=("item_list",))
    assert FeatureLayout.of(features, VARIABLE).fields == ("user", "item")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidate": ("items",)}, "cat_feature has no column 'items'; did you mean 'item'"),
        ({"dense": ("prices",)}, "dense_feature has no column 'prices'; did you mean 'price'"),
        ({"behaviours": ("item_lst",)}, "no history field 'item_lst'.*'item_list'"),
    ],
)
def test_an_unknown_column_names_the_nearest(change, message):
    with pytest.raises(ConfigError, match=message):
        FeatureLayout.of(FEATURES.model_copy(update=change), VARIABLE)


def test_no_history_field_at_all_is_an_error():
    with pytest.raises(ConfigError, match="features.behaviours: name at least one history field"):
        path(VARIABLE, 6, FEATURES.model_copy(update={"behaviours": ()}))
