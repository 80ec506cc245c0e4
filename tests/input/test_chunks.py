"""Records of several impressions become batches of an exact size."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.input import chunks
from diffumin_tf.input.chunks import Chunks, between, in_batches, in_chunks

# Few of a record, some of many chunks, one of very many; more records than are looked at together.
ALL_KINDS = [
    *np.random.default_rng(0).integers(0, 6, 150).tolist(),
    *np.random.default_rng(1).integers(0, 60, 40).tolist(),
    *(3, 300, 0, 1),
]
CASES = {"all kinds": ALL_KINDS, "a whole batch each": [32] * 5, "one": [0], "none": []}


def record(number, impressions):
    """An Example; with 0 impressions one without the key `newer`, which is of one impression."""
    values = {"user": [number]} | ({"newer": [0] * impressions} if impressions else {})
    features = {
        name: tf.train.Feature(int64_list=tf.train.Int64List(value=some))
        for name, some in values.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def records_of(counts):
    serialised = [record(number, count) for number, count in enumerate(counts)]
    samples = [(r, i) for r, n in zip(serialised, counts, strict=True) for i in range(n or 1)]
    return tf.data.Dataset.from_tensor_slices(tf.constant(serialised, tf.string)), samples


def samples_of(batch):
    parts = zip(*(tf.reshape(part, [-1]).numpy().tolist() for part in batch), strict=True)
    return [(record, i) for record, first, count in parts for i in range(first, first + count)]


@pytest.mark.parametrize("copied", [chunks._COPIED_BYTES, 0], ids=["copied", "shared"])
@pytest.mark.parametrize("counts", CASES.values(), ids=CASES)
def test_chunks_hold_all_impressions_in_their_order(counts, copied, monkeypatch):
    monkeypatch.setattr(chunks, "_COPIED_BYTES", copied)
    records, samples = records_of(counts)
    found = list(in_chunks(records, 16))
    assert sum(map(samples_of, found), []) == samples
    assert [int(c.count) for c in found] == [
        min(16, (n or 1) - first) for n in counts for first in range(0, n or 1, 16)
    ]


@pytest.mark.parametrize(
    ("case", "size"),
    [*(("all kinds", n) for n in (1, 7, 100_000)), *zip(CASES, (32, 32, 7, 7), strict=True)],
)
def test_batches_have_their_size_but_for_the_last_one_and_all_samples_in_their_order(case, size):
    records, samples = records_of(CASES[case])
    batches = list(map(samples_of, in_batches(records, size, 16)))
    assert batches == [samples[start : start + size] for start in range(0, len(samples), size)]


def test_what_lies_between_two_samples_is_cut_out_of_the_chunks_there():
    chunks = Chunks(tf.constant(["a", "b", "a"]), tf.constant([3, 0, 5]), tf.constant([2, 1, 4]))
    samples = samples_of(chunks)
    for start in range(8):
        for stop in range(start, 8):
            found = between(chunks, start, stop)
            assert samples_of(found) == samples[start:stop]
            assert all(found.count.numpy() > 0)
