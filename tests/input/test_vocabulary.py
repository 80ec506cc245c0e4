"""Ids to rows: hashing, vocabulary files, and which ids are admitted."""

import os

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.input import records, vocabulary
from diffumin_tf.run.open import create_run
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


def test_a_vocabulary_row_is_the_line_of_the_id_and_padding_or_anything_else_is_row_zero(tmp_path):
    rows_of = vocabulary.VocabularyRows(written(tmp_path, f"30\n{BIG}\n0\n-1\n10\n"))
    rows = rows_of(tf.constant([[30, BIG, 10], [0, -1, 11]]))
    assert rows.dtype == tf.int32 and rows_of.rows == 6
    np.testing.assert_array_equal(rows, [[1, 2, 5], [0, 0, 0]])


def test_a_vocabulary_that_was_replaced_is_read_anew(tmp_path):
    before = vocabulary.VocabularyRows(written(tmp_path, "30\n10\n"))
    after = vocabulary.VocabularyRows(written(tmp_path, "10\n20\n40\n"))
    ids = tf.constant([10, 20, 30], tf.int64)
    np.testing.assert_array_equal(before(ids), [2, 0, 1])
    np.testing.assert_array_equal(after(ids), [1, 2, 0])
    assert after.rows == 4


@pytest.mark.parametrize(
    "text", ["12\nabc\n", "12\n\n13\n", "12\n12\n", "12\n1.5\n", "1,2\n", "", f"{2**64}\n", None]
)
def test_a_damaged_or_missing_vocabulary_is_named(tmp_path, text):
    path = written(tmp_path, text) if text is not None else str(tmp_path / "gone")
    with pytest.raises(ConfigError, match=f"^{path}: no vocabulary"):
        vocabulary.VocabularyRows(path)
    with pytest.raises(ConfigError, match=f"^{path}: no vocabulary"):
        vocabulary.write_vocabulary(str(tmp_path / "new.txt"), [np.array([5, 5])], 2, path)
    assert not (tmp_path / "new.txt").exists()


def test_the_most_frequent_ids_come_first_and_rare_ones_not_at_all(tmp_path):
    path = str(tmp_path / "vocabulary.txt")
    batches = [np.array([[5, 5, 0], [9, 7, 0]]), np.array([5, 9, 3, 7, BIG, BIG, -4, -4])]
    assert vocabulary.write_vocabulary(path, batches, min_count=2) == (4, 4, 1)
    assert open(path).read() == f"5\n7\n9\n{BIG}\n"
    rows_of = vocabulary.VocabularyRows(path)
    np.testing.assert_array_equal(
        rows_of(tf.constant([5, 7, 9, BIG, 3, -4], tf.int64)), [1, 2, 3, 4, 0, 0]
    )


@pytest.mark.parametrize("at_once", [20, 1300, 10**6])  # what comes between two merges
def test_counts_do_not_depend_on_how_the_ids_are_cut_into_batches(monkeypatch, at_once):
    monkeypatch.setattr(vocabulary, "_IDS_AT_ONCE", at_once)
    ids = np.random.default_rng(0).integers(0, 50, 3000) * (2**57 + 1)
    expected = np.unique(ids[ids > 0], return_counts=True)
    for cuts in ([], [1000, 1000, 2500]):
        counted = vocabulary.count_ids(np.split(ids, cuts))
        np.testing.assert_array_equal(counted, expected)


def test_no_batch_and_no_frequent_id_are_one_clear_error(tmp_path):
    path = str(tmp_path / "vocabulary.txt")
    with pytest.raises(DataError, match="min_count 2: none of the 0 ids of the training split"):
        vocabulary.write_vocabulary(path, [], min_count=2)
    with pytest.raises(DataError, match="min_count 9: none of the 3 ids"):
        vocabulary.write_vocabulary(path, [np.array([1, 2, 3, 3, 0])], min_count=9)
    assert not (tmp_path / "vocabulary.txt").exists()


def grow(folder, day, batches, min_count=3):
    """Writes the vocabulary of a day on top of that of the day before, if there is one."""
    (folder / f"{day}").mkdir()
    before = folder / f"{day - 1}" / "vocabulary.txt"
    path = folder / f"{day}" / "vocabulary.txt"
    result = vocabulary.write_vocabulary(
        str(path), [np.array(b) for b in batches], min_count, str(before) if day else None
    )
    return result, [int(line) for line in path.read_text().splitlines()]


def test_old_ids_keep_their_lines_and_new_ones_follow_by_frequency(tmp_path):
    _, first = grow(tmp_path, 0, [[8, 8, 8, 5, 5, 5, 5]])
    assert first == [5, 8]
    result, second = grow(tmp_path, 1, [[8] * 9, [7] * 3 + [9] * 4 + [BIG] * 3 + [0] * 9 + [6]])
    assert second == [5, 8, 9, 7, BIG] and result == (5, 3, 1)
    result, third = grow(tmp_path, 2, [[8, 5, 7]])
    assert third == second and result == (5, 0, 1)


def test_sightings_add_up_over_the_days_until_an_id_is_admitted(tmp_path):
    assert grow(tmp_path, 0, [[4, 4, 4, 7, BIG]]) == ((1, 1, 2), [4])
    assert grow(tmp_path, 1, [[4, 7, 6]]) == ((1, 0, 3), [4])
    assert grow(tmp_path, 2, [[7, BIG], [6, 7]]) == ((2, 1, 2), [4, 7])
    assert grow(tmp_path, 3, [[BIG, 7, 7, 7]]) == ((3, 1, 1), [4, 7, BIG])
    ids, counts = np.load(tmp_path / "3" / vocabulary.PENDING, allow_pickle=False)
    assert (ids.tolist(), counts.tolist()) == ([6], [2])


def test_a_lower_threshold_admits_ids_that_do_not_occur_any_more(tmp_path):
    grow(tmp_path, 0, [[4, 4, 4, 7, 7, 6]])
    assert grow(tmp_path, 1, [[4]], min_count=2) == ((2, 1, 1), [4, 7])
    (tmp_path / "1" / vocabulary.PENDING).unlink()  # without it, 6 was never seen
    assert grow(tmp_path, 2, [[6]], min_count=2) == ((2, 0, 1), [4, 7])


def test_a_vocabulary_can_be_written_over_the_one_it_grows_from(tmp_path):
    path = str(tmp_path / "vocabulary.txt")
    vocabulary.write_vocabulary(path, [np.array([4, 4, 7])], 2)
    vocabulary.write_vocabulary(path, [np.array([7, 9])], 2, path)
    assert open(path).read() == "4\n7\n"
    assert sorted(os.listdir(tmp_path)) == ["vocabulary.txt", vocabulary.PENDING]


def test_any_vocabulary_can_grow_whatever_its_order_and_line_ends(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "vocabulary.txt").write_bytes(f"30\r\n{BIG}\r\n0\r\n10".encode())
    assert grow(tmp_path, 1, [[2, 2, 2, 10, 10, 10]])[1] == [30, BIG, 0, 10, 2]
    rows_of = vocabulary.VocabularyRows(str(tmp_path / "1" / "vocabulary.txt"))
    np.testing.assert_array_equal(rows_of(tf.constant([30, BIG, 10, 2], tf.int64)), [1, 2, 4, 5])


def test_growth_does_not_depend_on_the_order_or_the_cutting_of_a_day(tmp_path):
    rng = np.random.default_rng(0)
    days = rng.zipf(1.3, [3, 4000]) % 500 * (2**54 + 1)
    seen: dict[int, int] = {}
    for day, ids in enumerate(days):
        batches = np.array_split(rng.permutation(ids), 1 + 3 * day)
        result, lines = grow(tmp_path, day, batches, min_count=5)
        for i in ids[ids > 0]:
            seen[i] = seen.get(i, 0) + 1
        often = {i for i, count in seen.items() if count >= 5}
        assert set(lines) == often and len(lines) == len(often)
        assert result.size == len(often) and result.pending == len(seen) - len(often)


def test_what_is_remembered_is_bounded_and_the_rarest_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(vocabulary, "_PENDING_IDS", 3)
    grow(tmp_path, 0, [[9, 9, 9, 1, 8, 2, 2]])
    result, _ = grow(tmp_path, 1, [[5, 4, 4]])
    assert result.pending == 3
    ids, counts = np.load(tmp_path / "1" / vocabulary.PENDING)
    assert (ids.tolist(), counts.tolist()) == ([2, 4, 5], [2, 2, 1])  # 1 and 8 came earlier only


@pytest.mark.parametrize("damage", ["short", "text", "unsorted", "float", "flat", "pickle"])
def test_a_damaged_file_of_sightings_is_named(tmp_path, damage):
    grow(tmp_path, 0, [[9, 9, 9, 1, 2, 2]])
    file = tmp_path / "0" / vocabulary.PENDING
    contents = {
        "unsorted": np.array([[2, 1], [1, 1]]),
        "float": np.array([[1.0, 2.0], [1.0, 1.0]]),
        "flat": np.array([1, 2]),
        "pickle": np.array([[1, None], [2, {}]], dtype=object),
    }
    if damage in contents:
        np.save(file, contents[damage])
    else:
        file.write_bytes(file.read_bytes()[:-3] if damage == "short" else b"12 3\n")
    with pytest.raises(DataError, match=f"{file}: damaged.*remove it to count rare ids from zero"):
        grow(tmp_path, 1, [[5]])


def test_only_the_training_days_and_the_columns_in_use_are_counted(tmp_path):
    exp = write_experiment(tmp_path, embedding={"kind": "vocabulary", "min_count": 1})
    schema = DataStruct.from_dict(SCHEMA)
    for day, item in (("20240101", 7001), ("20240103", 7003), ("20240104", 7004)):
        data = samples(20, seed=9)
        data.cat_feature[:, 1] = item
        data.cat_feature[:, 4:] = 8000
        with records.PartWriter(str(tmp_path / "data" / day)) as writer:
            writer.write(records.encode(schema, data))
    create_run(str(exp), str(tmp_path / "model"), report=lambda line: None)
    ids = {int(line) for line in open(tmp_path / "model" / "vocabulary.txt")}
    assert 7001 in ids and not ids & {7003, 7004, 8000}
