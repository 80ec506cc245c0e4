"""Fingerprints: stable, apart by space, 0 for what is missing and for nothing else."""

import numpy as np
import tensorflow as tf

from diffumin_tf.input.fingerprint import fingerprint


def test_zero_exactly_where_the_text_is_empty():
    values = ["", "0", " ", "-1", "", *(str(n) for n in range(1000))]
    ids = fingerprint("item", values)
    assert ids.dtype == np.int64
    np.testing.assert_array_equal(ids == 0, [value == "" for value in values])
    assert ids.min() >= 0 and len(set(ids.tolist())) == len(set(values))


def test_a_value_whose_hash_is_zero_is_not_taken_for_missing(monkeypatch):
    monkeypatch.setattr(
        tf.strings, "to_hash_bucket_fast", lambda texts, n: tf.zeros(texts.shape, tf.int64)
    )
    assert fingerprint("item", ["a", ""]).tolist() == [1, 0]


def test_the_same_text_in_two_spaces_is_two_ids():
    assert fingerprint("shop", ["7"]) != fingerprint("item", ["7"])
    assert fingerprint("item", ["7"]) != fingerprint("item", ["7.0"])


def test_ids_on_disk_stay_valid_and_are_those_of_the_graph_function():
    # Pinned: a change here makes every written record and every trained table useless.
    pinned = [1779410836238574290, 2228544344592521368]
    assert fingerprint("shop_id", ["7", "北京"]).tolist() == pinned
    named = tf.constant(["shop_id=7", "shop_id=北京"])
    assert tf.strings.to_hash_bucket_fast(named, 2**63 - 1).numpy().tolist() == pinned


def test_the_shape_stays():
    values = np.array([["a", ""], ["b", "c"], ["", "a"]], dtype=object)
    ids = fingerprint("item", values)
    assert ids.shape == (3, 2) and ids[0, 0] == ids[2, 1] and ids[0, 1] == 0
    assert fingerprint("item", []).shape == (0,)
