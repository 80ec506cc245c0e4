"""Files of recorded requests: what is written comes back, and a torn file says so."""

import os

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.errors import DataError
from diffumin_tf.export import recorded

REQUESTS = [
    {
        "ids": np.array([[1, -(2**63)], [2**63 - 1, 0]]),
        "dense": np.array([[0.5], [np.nan]], np.float32),
        "Straße": np.array([b"", b"a\0\0", b"\xff\xfe"], dtype=object),
    },
    {},
    {
        "none": np.zeros([0, 3], np.int64),
        "nothing": np.zeros([2, 0], dtype=object),
        "scalar": np.array(3, np.int32),
        "flags": np.array([True, False]),
        "wide": np.linspace(0, 1, 5),
    },
]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "requests")


def same(found, expected):
    assert [list(request) for request in found] == [list(request) for request in expected]
    for one, other in zip(found, expected, strict=True):
        for name, values in other.items():
            assert one[name].dtype == values.dtype and one[name].shape == values.shape
            np.testing.assert_array_equal(one[name], values)
    return True


def test_what_is_written_comes_back(path):
    recorded.write(path, REQUESTS)
    assert same(recorded.read(path), REQUESTS)
    recorded.write(path, [])
    assert recorded.read(path) == []
    assert os.listdir(os.path.dirname(path)) == ["requests"]


def test_memory_in_another_order_is_written_as_it_reads(path):
    values = np.arange(6).reshape(2, 3)
    recorded.write(
        path, [{"turned": values.T, "big": values.astype(">i8"), "part": values[:, ::2]}]
    )
    expected = [{"turned": values.T.copy(), "big": values, "part": values[:, ::2].copy()}]
    assert same(recorded.read(path), expected)


def test_the_format_is_what_the_docstring_says(path):
    recorded.write(path, [{"a": np.array([7, -1])}, {"s": np.array(b"xy", dtype=object)}])
    expected = b"DIFFUREC" + bytes([1, 0, 0, 0, 2, 0, 0, 0])
    expected += bytes([1, 0, 0, 0]) + b"\1\0a" + bytes([9, 1]) + (2).to_bytes(8, "little")
    expected += (7).to_bytes(8, "little") + b"\xff" * 8
    expected += bytes([1, 0, 0, 0]) + b"\1\0s" + bytes([7, 0]) + (2).to_bytes(8, "little") + b"xy"
    with open(path, "rb") as file:
        assert file.read() == expected


def test_a_file_torn_anywhere_is_an_error(path):
    recorded.write(path, REQUESTS)
    with open(path, "rb") as file:
        content = file.read()
    for size in range(len(content)):
        with open(path, "wb") as file:
            file.write(content[:size])
        with pytest.raises(DataError, match="torn|no file of recorded") as caught:
            recorded.read(path)
        assert path in str(caught.value)
    assert "request 3 of 3" in str(caught.value) and "0 are left" not in str(caught.value)


def test_bytes_after_the_end_are_an_error(path):
    recorded.write(path, REQUESTS)
    with open(path, "ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match="4 bytes after the last request"):
        recorded.read(path)


HEAD = b"DIFFUREC" + bytes([1, 0, 0, 0, 1, 0, 0, 0])
ONE = bytes([1, 0, 0, 0]) + b"\1\0x"
TWICE = HEAD + bytes([2, 0, 0, 0]) + 2 * (b"\1\0x" + bytes([10, 0, 1]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"something else altogether", "no file of recorded requests"),
        (b"DIFFUREC" + bytes([2, 0, 0, 0, 0, 0, 0, 0]), "version 2 .* 1 is known"),
        (HEAD + ONE + bytes([4, 0, 1]), "request 1 of 1: 'x' has dtype 4 and rank 0"),
        (HEAD + ONE + bytes([9, 9]) + bytes(72), "'x' has dtype 9 and rank 9"),
        (HEAD + ONE + bytes([9, 1]) + b"\xff" * 8, r"'x' has the shape \[-1\]"),
        (HEAD + ONE + bytes([9, 2]) + bytes(15) + b"\x40", r"'x' has the shape \[0, 46"),
        (HEAD + ONE + bytes([9, 1, 0, 0, 0, 0, 1, 0, 0, 0]), "wants 34359738368 bytes"),
        (HEAD + ONE + bytes([7, 1, 0, 0, 0, 0, 1, 0, 0, 0]), "wants 34359738368 bytes"),
        (TWICE, "'x' is there twice"),
    ],
)
def test_something_else_is_an_error(path, content, message):
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(DataError, match=message):
        recorded.read(path)


def test_a_missing_file_is_an_error(path):
    with pytest.raises(DataError, match=f"{path}: cannot be read"):
        recorded.read(path)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("x", np.array([b"a\0"]), r"request 2, 'x': dtype \|S2; give one of .*object"),
        ("x", np.array(["a"]), "dtype <U1"),
        ("x", np.zeros(1, np.float16), "dtype float16"),
        ("x", np.array(["text"], dtype=object), "'x': holds 'text'; give bytes"),
        ("x", np.zeros([1] * 9), "rank 9; give 8 at most"),
        ("", np.zeros(1), "give a name"),
        ("a\0b", np.zeros(1), "give a name"),
    ],
)
def test_what_cannot_be_written_is_an_error_and_the_older_file_stays(path, name, values, message):
    recorded.write(path, REQUESTS)
    with pytest.raises(DataError, match=message) as caught:
        recorded.write(path, [{}, {name: values}])
    assert path in str(caught.value)
    assert same(recorded.read(path), REQUESTS)
    assert os.listdir(os.path.dirname(path)) == ["requests"]


def test_a_full_disk_is_an_error_and_leaves_nothing(path, monkeypatch):
    def full(*arguments, **options):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.io.gfile, "rename", full)
    with pytest.raises(DataError, match="no space left on the disk"):
        recorded.write(path, REQUESTS)
    assert os.listdir(os.path.dirname(path)) == []
