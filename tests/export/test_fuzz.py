"""Whatever is fed to an export is scored or refused; later requests score as before."""

import numpy as np
import pytest
import tensorflow as tf

IDS = np.array([0, 1, -1, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63)])
DENSE = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1e-45, 3e38, -3e38, 1e18], np.float32)


def other_rows(rng, values):
    """Between 0 and 40 rows, drawn from the good ones."""
    return values[rng.integers(0, len(values), rng.choice([0, 1, 2, rng.integers(3, 41)]))]


def other_shape(rng, values):
    shapes = [(), (values.size,), (1, *values.shape), (*values.shape, 1), (0, 0), (0,) * 5]
    widths = [0, 1, 2, 7, 13, 300] if values.ndim == 2 else []
    shapes += [(len(values), width) for width in widths]
    return np.resize(values, shapes[rng.integers(len(shapes))])


def other_type(rng, values):
    if values.dtype == object:
        return np.zeros(values.shape, np.int64)
    return values.astype(rng.choice([np.int32, np.float32, np.float64, np.bool_, np.int64]))


def odd_values(rng, values):
    """Ids and dense values at the limits of their types, or one spoilt Example."""
    if values.dtype == object:
        row, spoil = rng.integers(len(values)), SPOIL[rng.integers(len(SPOIL))]
        return np.array([*values[:row], spoil(rng, values[row]), *values[row + 1 :]], object)
    odd = rng.choice(DENSE if values.dtype.kind == "f" else IDS, values.shape)
    return np.where(rng.random(values.shape) < rng.choice([0.1, 1.0]), odd, values)


def other_bytes(rng, example):
    """An Example that is cut, or has other bytes at some index."""
    index = rng.integers(len(example))
    more = rng.bytes(rng.choice([0, 1, 10, 1000]))
    return example[:index] + more + example[rng.integers(index, len(example)) :]


def flip_bits(rng, example):
    data = bytearray(example)
    for index in rng.integers(0, len(data), rng.integers(1, 9)):
        data[index] ^= 1 << rng.integers(8)
    return bytes(data)


def other_feature(rng, example):
    """A feature that is missing, empty, longer, of another kind, or has odd values."""
    proto = tf.train.Example.FromString(example)
    name = rng.choice(sorted(proto.features.feature))
    feature = proto.features.feature[name]
    count = rng.choice([0, 1, 3, 9, 5000])
    change = rng.integers(4)
    if change == 0:
        del proto.features.feature[name]
    elif change == 1:
        feature.int64_list.value[:] = rng.choice(IDS, count)
    elif change == 2:
        feature.float_list.value[:] = rng.choice(DENSE, count)
    else:
        feature.bytes_list.value[:] = [b"\xff\0" * 9] * count
    return proto.SerializeToString()


SPOIL = [other_bytes, flip_bits, other_feature]
CHANGES = [other_rows, other_shape, other_type, odd_values]


@pytest.mark.parametrize("signature", ["serving_default", "examples", "request"])
@pytest.mark.parametrize("count", [300, pytest.param(30_000, marks=pytest.mark.soak)])
def test_a_spoilt_request_is_scored_or_refused(inputs, loaded, signature, count):
    makers = {"serving_default": inputs.tensors, "examples": inputs.examples}
    good = makers.get(signature, inputs.request)(6)
    before = loaded.run(signature, good)
    scored = 0
    for number in range(count):
        rng = np.random.default_rng([count, number])  # so that one can be repeated alone
        name = rng.choice(sorted(good))
        change = CHANGES[rng.integers(len(CHANGES))]
        spoilt = {**good, name: change(rng, good[name])}
        try:
            outputs = loaded.run(signature, spoilt)
        except (tf.errors.OpError, UnicodeDecodeError):  # an error may quote bytes of an Example
            continue
        scored += 1
        for scores in outputs.values():
            fine = np.isfinite(scores) & (scores >= 0) & (scores <= 1)
            assert scores.ndim == 1 and fine.all(), (number, name, change.__name__, scores)
        if number % 50 == 0:
            after = loaded.run(signature, good)
            assert all(np.array_equal(after[output], before[output]) for output in before), number
    assert 0.1 * count < scored < 0.9 * count
