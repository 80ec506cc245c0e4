"""The vocabulary of an export: packed, and for every id the same row as a hash table gives."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.errors import ConfigError
from diffumin_tf.input import packed_rows
from diffumin_tf.input.packed_rows import PackedRows
from diffumin_tf.input.vocabulary import VocabularyRows

BIG = 2**63 - 1
RANDOM = np.random.default_rng(0).integers(1, 2**63, 20_000)
BACK = pow(packed_rows._ODD, -1, 2**63)  # from a hash to its id
COLLIDING = [BACK * i % 2**63 for i in range(1, 301)]  # all in the first bucket
LISTS = {
    "one": [BIG],
    "some are no ids": [30, BIG, 0, -1, 10],
    "none is an id": [0, -5],
    "in a row": range(1, 5001),
    "steps": range(2**40, 2**40 + 5000 * 2**32, 2**32),
    "random": RANDOM[:10_000],
    "a power of two": RANDOM[:4096],
    "colliding": COLLIDING,
    "colliding, with others": [*RANDOM[:3000], *COLLIDING],
}


def written(tmp_path, ids):
    path = tmp_path / "vocabulary.txt"
    path.write_text("".join(f"{i}\n" for i in ids))
    return str(path)


@pytest.mark.parametrize("name", LISTS)
def test_every_id_has_the_row_of_its_line_and_any_other_one_row_zero(tmp_path, name):
    ids = np.array(LISTS[name], np.int64)
    path = written(tmp_path, ids)
    packed = PackedRows(path)
    assert packed.rows == len(ids) + 1
    rows = packed(tf.constant(ids))
    assert rows.dtype == tf.int32
    np.testing.assert_array_equal(rows, np.where(ids > 0, np.arange(1, len(ids) + 1), 0))
    hashes = (ids * np.int64(packed_rows._ODD)) & BIG
    other_buckets = [((hashes ^ (1 << bit)) * np.int64(BACK)) & BIG for bit in (60, 61, 62)]
    same_buckets = [((hashes ^ (1 << bit)) * np.int64(BACK)) & BIG for bit in (0, 20, 40)]
    asked = [*other_buckets, *same_buckets, ids ^ 1, -ids, RANDOM, [0, BIG, -BIG - 1]]
    asked = tf.constant(np.concatenate(asked).reshape(1, -1, 1))
    np.testing.assert_array_equal(packed(asked), VocabularyRows(path)(asked))


def test_nothing_asked_is_nothing_found(tmp_path):
    rows_of = PackedRows(written(tmp_path, RANDOM))
    assert rows_of(tf.zeros([3, 0, 2], tf.int64)).shape == (3, 0, 2)


def test_it_takes_ten_bytes_an_id_at_most(tmp_path):
    for count in (2**14 - 1, 2**14):  # with the fewest buckets an id, and with the most
        packed = PackedRows(written(tmp_path, RANDOM[:count]))
        size = sum(v.numpy().nbytes for v in packed.variables)
        assert size <= 10.3 * count


def test_a_damaged_vocabulary_is_named(tmp_path):
    path = written(tmp_path, [12, 12])
    with pytest.raises(ConfigError, match=f"^{path}: no vocabulary.*12 is listed twice"):
        PackedRows(path)
