"""SignatureInputs that TensorFlow Serving answers before a version takes traffic.

Few fields of TensorFlow Serving's protos are needed, and in their wire format
(protobuf.dev/programming-guides/encoding) all of these are a number, a length and bytes. So they
are written and read here, without that package.
"""

import posixpath
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework.tensor_pb2 import TensorProto

from diffumin_tf.errors import ExportError
from diffumin_tf.export.inputs import SignatureInputs
from diffumin_tf.export.signatures import EXAMPLES, REQUEST, SERVING_DEFAULT

WARMUP_FILE = posixpath.join("assets.extra", "tf_serving_warmup_requests")
SAMPLES = (1, 32)
CANDIDATES = (1, 100, 500)

_LENGTH_DELIMITED = 2
# Fields of tensorflow_serving/apis: prediction_log, predict, regression, input, model .proto.
_LOG_OF_PREDICT, _LOG_OF_REGRESS = 6, 3
_REQUEST_OF_LOG = 1
_MODEL_SPEC, _INPUTS, _INPUT = 1, 2, 2
_SIGNATURE_NAME = 3
_KEY, _VALUE = 1, 2
_EXAMPLE_LIST, _EXAMPLES = 1, 1


def write_warmup(export: str, requests: SignatureInputs) -> str:
    """Writes the warm-up of a SavedModel into it, every signature in the usual sizes.

    Returns:
        Path of the file: a TFRecord of `tensorflow.serving.PredictionLog`.
    """
    path = posixpath.join(export, WARMUP_FILE)
    tf.io.gfile.makedirs(posixpath.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for log in _logs(requests):
            writer.write(log)
    return path


def read_warmup(export: str) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Signature and inputs of each request of a warm-up, as the signature takes them.

    Raises:
        ExportError: the file is missing or torn.
    """
    path = posixpath.join(export, WARMUP_FILE)
    try:
        for log in tf.data.TFRecordDataset(path).as_numpy_iterator():
            yield _request_of(log)
    except (tf.errors.OpError, KeyError, IndexError, ValueError, DecodeError) as error:
        raise ExportError(f"{path}: no warm-up: {error}") from None


def _request_of(log: bytes) -> tuple[str, dict[str, np.ndarray]]:
    ((kind, content),) = _fields(log)
    ((_, request),) = _fields(content)
    fields = list(_fields(request))
    signature = dict(_fields(dict(fields)[_MODEL_SPEC]))[_SIGNATURE_NAME].decode()
    if kind == _LOG_OF_REGRESS:
        listed = dict(_fields(dict(fields)[_INPUT]))[_EXAMPLE_LIST]
        examples = [example for _, example in _fields(listed)]
        return signature, {"inputs": np.array(examples, dtype=object)}
    entries = [dict(_fields(entry)) for number, entry in fields if number == _INPUTS]
    return signature, {
        entry[_KEY].decode(): tf.make_ndarray(TensorProto.FromString(entry[_VALUE]))
        for entry in entries
    }


def _logs(requests: SignatureInputs) -> Iterator[bytes]:
    for count in SAMPLES:
        yield _predict(SERVING_DEFAULT, requests.tensors(count))
        yield _regress(EXAMPLES, list(requests.examples(count)["inputs"]))
    for count in CANDIDATES:
        yield _predict(REQUEST, requests.request(count))


def _predict(signature: str, inputs: dict[str, np.ndarray]) -> bytes:
    fields = [(_MODEL_SPEC, _signature(signature))]
    for name, values in sorted(inputs.items()):
        tensor = tf.make_tensor_proto(values).SerializeToString(deterministic=True)
        fields.append((_INPUTS, _message((_KEY, name.encode()), (_VALUE, tensor))))
    return _message((_LOG_OF_PREDICT, _message((_REQUEST_OF_LOG, _message(*fields)))))


def _regress(signature: str, examples: list[bytes]) -> bytes:
    listed = _message(*((_EXAMPLES, example) for example in examples))
    request = _message(
        (_MODEL_SPEC, _signature(signature)), (_INPUT, _message((_EXAMPLE_LIST, listed)))
    )
    return _message((_LOG_OF_REGRESS, _message((_REQUEST_OF_LOG, request))))


def _signature(name: str) -> bytes:
    return _message((_SIGNATURE_NAME, name.encode()))


def _message(*fields: tuple[int, bytes]) -> bytes:
    """A proto of length-delimited fields, given as (number, content)."""
    return b"".join(
        _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(content)) + content
        for number, content in fields
    )


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, content) of each field of what `_message` wrote."""
    place = 0
    while place < len(message):
        tag, place = _read_varint(message, place)
        length, place = _read_varint(message, place)
        if tag & 7 != _LENGTH_DELIMITED or place + length > len(message):
            raise ValueError(f"torn at byte {place}")
        yield tag >> 3, message[place : place + length]
        place += length


def _read_varint(message: bytes, place: int) -> tuple[int, int]:
    """A number, and the place behind it."""
    value, shift = 0, 0
    while message[place] & 0x80:
        value |= (message[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return value | message[place] << shift, place + 1


def _varint(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])
