"""What changes a score of the model and what never does."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.evaluation.scoring import predict_function
from tests.layers.helpers import OTHER_SHAPE, must_compile, random_ops
from tests.small_log import SCHEMA
from tests.small_model import BATCH, LEAN, ROWS, batch, build, pctr, raw_batch


def test_padding_at_the_end_never_changes_a_score_however_long_it_is(scoring):
    model, path = scoring
    expected = pctr(model, path(raw_batch(width=6)))
    assert expected.std() > 0.01
    for width in (7, 10, 25):
        raw = raw_batch(width=6)
        for name in ("item_list", "category_list"):
            raw[name] = tf.pad(raw[name], [[0, 0], [0, width - 6]])
        np.testing.assert_allclose(pctr(model, path(raw)), expected, atol=1e-6)


def test_what_is_masked_never_changes_a_score(scoring):
    model, path = scoring
    inputs = path(raw_batch())
    (group,) = inputs.histories
    expected = pctr(model, inputs)
    junk = np.random.default_rng(0).integers(1, ROWS, group.rows.shape)
    filled = tf.where(group.mask[:, :, tf.newaxis], group.rows, tf.constant(junk, tf.int32))
    for mask, same in ((group.mask, True), (tf.ones_like(group.mask), False)):
        other = inputs._replace(histories=(group._replace(rows=filled, mask=mask),))
        difference = np.abs(pctr(model, other) - expected).max()
        assert difference < 1e-6 if same else difference > 1e-3


def test_batch_mates_never_change_a_score(scoring):
    model, path = scoring
    raw = raw_batch()
    expected = pctr(model, path(raw))
    for row in range(0, BATCH, 5):
        alone = {name: value[row : row + 1] for name, value in raw.items()}
        np.testing.assert_allclose(pctr(model, path(alone)), expected[row], atol=OTHER_SHAPE)
        mates = raw_batch(seed=row + 1)
        here = tf.range(BATCH)[:, tf.newaxis] == row
        mixed = {name: tf.where(here, raw[name], mates[name]) for name in raw}
        np.testing.assert_allclose(pctr(model, path(mixed))[row], expected[row], atol=1e-6)


def test_the_user_of_a_sample_never_changes_its_score(scoring):
    model, path = scoring
    inputs = batch(path)
    np.testing.assert_array_equal(
        pctr(model, inputs), pctr(model, inputs._replace(user=inputs.user + 1))
    )


@pytest.mark.parametrize("sample_rate", [1.0, 0.1])
def test_the_rectified_score_undoes_the_sampling_of_negatives(sample_rate):
    model, path = build(**LEAN, sample_rate=sample_rate)
    scores = model.predict_click(path(raw_batch()))
    p = scores["pctr"].numpy().astype(np.float64)
    np.testing.assert_allclose(scores["rectified_pctr"], p / (p + (1 - p) / sample_rate), rtol=1e-5)
    assert (scores["rectified_pctr"].numpy() < p).all() == (sample_rate < 1)


def test_the_same_request_always_gets_the_same_bits(scoring):
    model, path = scoring
    inputs = path(raw_batch())
    predict = predict_function(model)
    first = predict(inputs).numpy()
    for _ in range(3):
        np.testing.assert_array_equal(predict(inputs), first)
    assert random_ops(lambda: model.predict_click(inputs)) == set()


def test_a_score_needs_no_compiled_part_even_if_training_is_compiled():
    model, path = build(**LEAN, jit_compile=True)
    score = tf.function(model.predict_click).get_concrete_function(batch(path))
    learn = tf.function(lambda: model.compute_loss(batch(path), True)).get_concrete_function()
    assert must_compile(learn) and not must_compile(score)


def test_fixed_columns_and_variable_length_histories_score_alike(scoring):
    model, path = scoring
    fixed = DataStruct.from_dict(
        {
            **{key: SCHEMA[key] for key in ("label", "auxiliary_info", "dense_feature")},
            "cat_feature": {
                "column": [
                    "category_list[0:12]",
                    *SCHEMA["cat_feature"]["column"],
                    "item_list[0:12]",
                ]
            },
        }
    )
    other, other_path = build(fixed)
    other.set_weights(model.get_weights())
    raw = raw_batch()
    columns = [raw["category_list"], raw["cat_feature"], raw["item_list"]]
    fixed_raw = {"cat_feature": tf.concat(columns, axis=1), "dense_feature": raw["dense_feature"]}
    np.testing.assert_array_equal(pctr(other, other_path(fixed_raw)), pctr(model, path(raw)))
