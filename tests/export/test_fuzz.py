"""Whatever is fed to an export is scored or refused; later requests score as before."""

import numpy as np
import pytest
import tensorflow as tf

IDS = np.array([0, 1, -1, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63)])
DENSE = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1e-45, 3e38, -3e38, 1e18], np.float32)


def other_rows(rng, values):
    """Between 0 and 40 rows, drawn from the good ones."""
    return values[rng.integers(0, len(values), rng.choice([0, 1, 2, rng.integers(3, 41)]))]


def other_width(rng, values):
    if values.ndim < 2:
        return values[:, None]
    return np.resize(values, (len(values), rng.choice([0, 1, 2, 7, 13, 300])))


def other_rank(rng, values):
    shapes = [(), (values.size,), (1, *values.shape), (*values.shape, 1), (0, 0), (0,) * 5]
    return np.resize(values, shapes[rng.integers(len(shapes))])


def other_type(rng, values):
    if values.dtype == object:
        return np.zeros(values.shape, np.int64)
    return values.astype(rng.choice([np.int32, np.float32, np.float64, np.bool_, np.int64]))


def odd_values(rng, values):
    """Ids and dense values at the limits of their types."""
    if values.dtype == object:
        return spoilt_examples(rng, values)
    odd = rng.choice(DENSE if values.dtype.kind == "f" else IDS, values.shape)
    return np.where(rng.random(values.shape) < rng.choice([0.1, 1.0]), odd, values)


def spoilt_examples(rng, values):
    """One serialised Example with other bytes or other features."""
    values = values.copy()
    row = rng.integers(len(values))
    spoil = SPOIL[rng.integers(len(SPOIL))]
    values[row] = spoil(rng, values[row])
    return values


def cut(rng, example):
    return example[: rng.integers(len(example))]


def flip_bits(rng, example):
    data = bytearray(example)
    for index in rng.integers(0, len(data), rng.integers(1, 9)):
        data[index] ^= 1 << rng.integers(8)
    return bytes(data)


def insert_bytes(rng, example):
    index = rng.integers(len(example))
    return example[:index] + rng.bytes(rng.integers(1, 40)) + example[index:]


def random_bytes(rng, example):
    return rng.bytes(rng.choice([0, 1, 10, 1000]))


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


SPOIL = [cut, flip_bits, insert_bytes, random_bytes, other_feature]
CHANGES = [other_rows, other_width, other_rank, other_type, odd_values]


@pytest.mark.parametrize("signature", ["serving_default", "examples", "request"])
@pytest.mark.parametrize("count", [500, pytest.param(30_000, marks=pytest.mark.soak)])
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
