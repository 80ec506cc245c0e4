"""Files of recorded requests to one signature, and of the scores that came back.

The format is little-endian and has no padding::

    "DIFFUREC", version u32 = 1, number of requests u32
    a request: number of tensors u32
    a tensor:  size of its name u16, name in UTF-8, dtype u8 (a number of tensorflow.DataType),
               rank u8, dimensions i64 each, its elements row by row
    a string:  size u64, bytes

`tools/serving/native/recorded.c` reads and writes the same.
"""

import math
import struct
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from diffumin_tf.errors import DataError
from diffumin_tf.files import staged_file

_MAGIC = b"DIFFUREC"
_VERSION = 1
_MAX_RANK = 8
_MAX_ELEMENTS = 2**40
_DTYPES = (tf.float32, tf.float64, tf.int32, tf.int64, tf.bool, tf.string)
_BY_NUMBER = {dtype.as_datatype_enum: dtype for dtype in _DTYPES}
_BY_NUMPY = {np.dtype(dtype.as_numpy_dtype): dtype for dtype in _DTYPES}


def write(path: str, requests: Sequence[dict[str, np.ndarray]]) -> None:
    """Writes requests under a temporary name, then renames it.

    Args:
        path: the file; one of that name is replaced.
        requests: inputs by name; strings as arrays of dtype object that hold bytes.

    Raises:
        DataError: an input cannot be written, or the disk is full.
    """
    with staged_file(path, "wb") as file:
        file.write(_MAGIC + struct.pack("<II", _VERSION, len(requests)))
        for number, request in enumerate(requests, start=1):
            file.write(struct.pack("<I", len(request)))
            for name, values in request.items():
                file.write(_encoded(name, values, f"{path}: request {number}, {name!r}"))


def read(path: str) -> list[dict[str, np.ndarray]]:
    """The requests of a file that `write` or the native program wrote, in order.

    Raises:
        DataError: there is no such file, or it is torn or something else.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = file.read()
    except tf.errors.OpError as error:
        raise DataError(f"{path}: cannot be read: {error.message}") from None
    cursor = _Cursor(path, content)
    if cursor.take(len(_MAGIC), short="no file of recorded requests") != _MAGIC:
        raise DataError(f"{path}: no file of recorded requests")
    (version,) = cursor.unpack("<I")
    if version != _VERSION:
        raise DataError(f"{path}: version {version} of recorded requests; {_VERSION} is known")
    (count,) = cursor.unpack("<I")
    requests = [_request(cursor, f"request {i + 1} of {count}") for i in range(count)]
    if cursor.left:
        raise DataError(f"{path}: {cursor.left} bytes after the last request; write it anew")
    return requests


def _encoded(name: str, values: np.ndarray, where: str) -> bytes:
    """One tensor as it lies in the file."""
    values = np.asarray(values)
    dtype = _BY_NUMPY.get(values.dtype.newbyteorder("="))
    if dtype is None:
        known = ", ".join(str(known) for known in _BY_NUMPY)
        raise DataError(f"{where}: dtype {values.dtype}; give one of {known} (bytes)")
    if values.ndim > _MAX_RANK:
        raise DataError(f"{where}: rank {values.ndim}; give {_MAX_RANK} at most")
    key = name.encode()
    if not 0 < len(key) < 2**16 or b"\0" in key:
        raise DataError(f"{where}: give a name of 1 to 65535 bytes without NUL")
    head = struct.pack(f"<H{len(key)}sBB", len(key), key, dtype.as_datatype_enum, values.ndim)
    shape = struct.pack(f"<{values.ndim}q", *values.shape)
    return head + shape + b"".join(_elements(values, dtype, where))


def _elements(values: np.ndarray, dtype: tf.DType, where: str) -> Iterator[bytes]:
    if dtype != tf.string:
        yield values.astype(values.dtype.newbyteorder("<"), order="C").tobytes()
        return
    for value in values.ravel():
        if not isinstance(value, bytes):
            raise DataError(f"{where}: holds {value!r}; give bytes")
        yield struct.pack("<Q", len(value)) + value


def _request(cursor: "_Cursor", where: str) -> dict[str, np.ndarray]:
    cursor.where = where
    (count,) = cursor.unpack("<I")
    request: dict[str, np.ndarray] = {}
    for _ in range(count):
        name, values = _tensor(cursor)
        if name in request:
            raise DataError(f"{cursor.path}: {where}: {name!r} is there twice")
        request[name] = values
    return request


def _tensor(cursor: "_Cursor") -> tuple[str, np.ndarray]:
    (size,) = cursor.unpack("<H")
    name = cursor.take(size).decode(errors="replace")
    number, rank = cursor.unpack("<BB")
    dtype = _BY_NUMBER.get(number)
    if dtype is None or rank > _MAX_RANK:
        raise DataError(
            f"{cursor.path}: {cursor.where}: {name!r} has dtype {number} and rank {rank}; one of "
            f"{', '.join(map(str, _BY_NUMBER))} and {_MAX_RANK} at most are known"
        )
    shape = cursor.unpack(f"<{rank}q")
    if min(shape, default=0) < 0 or math.prod(max(size, 1) for size in shape) > _MAX_ELEMENTS:
        raise DataError(f"{cursor.path}: {cursor.where}: {name!r} has the shape {list(shape)}")
    count = math.prod(shape)
    if dtype == tf.string:
        cursor.check(8 * count)
        strings = np.empty(count, dtype=object)
        for place in range(count):
            strings[place] = cursor.take(*cursor.unpack("<Q"))
        return name, strings.reshape(shape)
    kind = np.dtype(dtype.as_numpy_dtype)
    content = cursor.take(count * kind.itemsize)
    return name, np.frombuffer(content, kind.newbyteorder("<")).astype(kind).reshape(shape)


class _Cursor:
    """A place in the content of a file."""

    def __init__(self, path: str, content: bytes) -> None:
        self.path, self.where, self._content, self._place = path, "its head", content, 0

    @property
    def left(self) -> int:
        """Bytes from here to the end."""
        return len(self._content) - self._place

    def check(self, size: int, short: str = "") -> None:
        """Raises a DataError where fewer bytes are left."""
        if size > self.left:
            torn = f"torn: {self.where} wants {size} bytes at {self._place}, {self.left} are left"
            raise DataError(f"{self.path}: {short or torn}")

    def take(self, size: int, short: str = "") -> bytes:
        """The next bytes."""
        self.check(size, short)
        self._place += size
        return self._content[self._place - size : self._place]

    def unpack(self, layout: str) -> tuple:
        """The next numbers."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))
