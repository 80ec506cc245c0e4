"""Ids to rows: hashing, vocabulary files, and which ids are admitted."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.data import records, vocabulary
from diffumin_tf.data_struct import DataStruct
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.experiment import Experiment
from tests.small_log import SCHEMA, samples, write_experiment

BIG = 2**63 - 2


def test_a_hashed_row_is_one_plus_the_id_modulo_the_rest_of_the_rows():
    ids = np.array([[1, 2, 6], [7, 12, BIG]])
    rows = vocabulary.HashedRows(7)(tf.constant(ids))
    assert rows.dtype == tf.int32
    np.testing.assert_array_equal(rows, [[1 + int(i) % 6 for i in row] for row in ids])


def test_only_missing_ids_hash_to_row_zero():
    assert vocabulary.HashedRows(7)(tf.constant([0, -1, -(2**63)])).numpy().tolist() == [0, 0, 0]
    ids = np.r_[1:1000, BIG - 1000 : BIG]
    for rows in (2, 7, 2**31 - 1):
        mapped = vocabulary.HashedRows(rows)(tf.constant(ids)).numpy()
        assert mapped.min() >= 1 and mapped.max() < rows


def written(tmp_path, text):
    path = tmp_path / "vocabulary.txt"
    path.write_text(text)
    return str(path)


def test_a_vocabulary_row_is_the_line_of_the_id_and_anything_else_is_row_zero(tmp_path):
    rows_of = vocabulary.VocabularyRows(written(tmp_path, f"30\n{BIG}\n10\n"))
    rows = rows_of(tf.constant([[30, BIG, 10], [0, -30, 11]]))
    assert rows.dtype == tf.int32 and rows_of.rows == 4
    np.testing.assert_array_equal(rows, [[1, 2, 3], [0, 0, 0]])


def test_a_vocabulary_that_was_replaced_is_read_anew(tmp_path):
    before = vocabulary.VocabularyRows(written(tmp_path, "30\n10\n"))
    after = vocabulary.VocabularyRows(written(tmp_path, "10\n20\n40\n"))
    ids = tf.constant([10, 20, 30], tf.int64)
    np.testing.assert_array_equal(before(ids), [2, 0, 1])
    np.testing.assert_array_equal(after(ids), [1, 2, 0])
    assert after.rows == 4


@pytest.mark.parametrize("text", ["12\nabc\n", "12\n\n13\n", "12\n12\n", "12\n1.5\n"])
def test_a_damaged_vocabulary_is_named(tmp_path, text):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=f"{path}: no vocabulary \\(one decimal id a line"):
        vocabulary.VocabularyRows(path)


def test_a_missing_or_empty_vocabulary_is_named(tmp_path):
    for path in (str(tmp_path / "gone.txt"), written(tmp_path, "")):
        with pytest.raises(ConfigError, match=f"{path}: no vocabulary"):
            vocabulary.VocabularyRows(path)


def test_a_vocabulary_never_gives_a_row_to_padding(tmp_path):
    rows_of = vocabulary.VocabularyRows(written(tmp_path, "5\n0\n-1\n7\n"))
    np.testing.assert_array_equal(rows_of(tf.constant([5, 0, -1, 7], tf.int64)), [1, 0, 0, 4])


def test_the_most_frequent_ids_come_first_and_rare_ones_not_at_all(tmp_path):
    path = str(tmp_path / "vocabulary.txt")
    batches = [np.array([[5, 5, 0], [9, 7, 0]]), np.array([5, 9, 3, 7, BIG, BIG, -4, -4])]
    assert vocabulary.write_vocabulary(path, batches, min_count=2) == 4
    assert open(path).read() == f"5\n7\n9\n{BIG}\n"
    rows_of = vocabulary.VocabularyRows(path)
    np.testing.assert_array_equal(
        rows_of(tf.constant([5, 7, 9, BIG, 3, -4], tf.int64)), [1, 2, 3, 4, 0, 0]
    )


def test_counts_do_not_depend_on_how_the_ids_are_cut_into_batches():
    ids = np.random.default_rng(0).integers(0, 50, 3000) * (2**57 + 1)
    expected = np.unique(ids[ids > 0], return_counts=True)
    for cuts in ([], [1000, 1000, 2500]):
        for actual in zip(vocabulary.count_ids(np.split(ids, cuts)), expected, strict=True):
            np.testing.assert_array_equal(*actual)


class Bulky(np.ndarray):
    """An array that says it is larger than it is, so that every batch is merged at once."""

    size = property(lambda self: 30_000_000)


def test_merging_in_between_keeps_the_counts():
    ids = np.random.default_rng(0).integers(0, 50, [7, 400])
    counted = vocabulary.count_ids([*(row.view(Bulky) for row in ids[:6]), ids[6]])
    for actual in zip(counted, np.unique(ids[ids > 0], return_counts=True), strict=True):
        np.testing.assert_array_equal(*actual)


def test_no_batch_and_no_frequent_id_are_one_clear_error(tmp_path):
    path = str(tmp_path / "vocabulary.txt")
    with pytest.raises(DataError, match="min_count 2: none of the 0 ids of the training split"):
        vocabulary.write_vocabulary(path, [], min_count=2)
    with pytest.raises(DataError, match="min_count 9: none of the 3 ids"):
        vocabulary.write_vocabulary(path, [np.array([1, 2, 3, 3, 0])], min_count=9)
    assert not (tmp_path / "vocabulary.txt").exists()


def test_only_the_training_days_and_the_columns_in_use_are_counted(tmp_path):
    exp = write_experiment(tmp_path, embedding={"kind": "vocabulary", "min_count": 1})
    schema = DataStruct.from_dict(SCHEMA)
    for day, item in (("20240101", 7001), ("20240103", 7003), ("20240104", 7004)):
        data = samples(20, seed=9)
        data.cat_feature[:, 1] = item
        data.cat_feature[:, 4:] = 8000
        with records.PartWriter(str(tmp_path / "data" / day)) as writer:
            writer.write(records.encode(schema, data))
    Experiment.create(str(exp), str(tmp_path / "model"), report=lambda line: None)
    ids = {int(line) for line in open(tmp_path / "model" / "vocabulary.txt")}
    assert 7001 in ids and not ids & {7003, 7004, 8000}
