"""The wire format is that of protobuf, byte for byte."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.input import wire

EDGES = [0, 1, 127, 128, 2**14 - 1, 2**14, 2**56 - 1, 2**56, 2**63 - 1, -1, -(2**63)]


def by_protobuf(ids, dense):
    example = tf.train.Example()
    for name, values in ids.items():
        example.features.feature[name].int64_list.value.extend(values)
    example.features.feature["dense"].float_list.value.extend(dense)
    return example.SerializeToString(deterministic=True)


@pytest.mark.parametrize("longest", [0, 1, 30, 3000])
def test_examples_are_those_of_protobuf(longest):
    rng = np.random.default_rng(longest)
    values = np.concatenate([EDGES, rng.integers(0, 2**63, 70_000) >> rng.integers(0, 63, 70_000)])
    start = rng.integers(0, len(EDGES) + 20, 9) * (longest > 0)
    stop = start + rng.integers(0, longest + 1, 9)
    dense = rng.normal(size=[9, 3]).astype(np.float32)
    names = [
        "b",
        "aa",
        "ä",
        "a_list",
    ]  # of which none begins another: their order is protobuf's own
    fields = {name: wire.int64_lists(values, start, stop) for name in names}
    fields["dense"] = wire.float_lists(dense.ravel(), 3 * np.arange(9), 3 * np.arange(1, 10))
    lists = [values[one:other].tolist() for one, other in zip(start, stop, strict=True)]
    expected = [
        by_protobuf(dict.fromkeys(names, ids), numbers)
        for ids, numbers in zip(lists, dense, strict=True)
    ]
    assert list(wire.examples(fields)) == expected


def test_values_are_written_across_the_edges_of_chunks():
    values = np.arange(3 << 16)
    kind, content, start, stop = wire.int64_lists(values, values[:-1], values[1:])
    ((example,)) = wire.examples({"a": (kind, content, start[:1], stop[-1:])})
    read = tf.train.Example.FromString(example).features.feature["a"].int64_list.value
    assert list(read) == values[:-1].tolist()
