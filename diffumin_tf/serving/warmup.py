"""Requests that TensorFlow Serving answers before a version takes traffic.

The protos of TensorFlow Serving are no dependency: of them few fields are needed, and all of these
are strings of bytes to the wire format (protobuf.dev/programming-guides/encoding).
"""

import posixpath
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from diffumin_tf.serving.requests import Requests
from diffumin_tf.serving.signatures import EXAMPLES, REQUEST, SERVING_DEFAULT

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


def write_warmup(export: str, requests: Requests) -> str:
    """Writes the warm-up of a SavedModel into it, every signature in the usual sizes.

    Returns:
      Path of the file: a TFRecord of ``tensorflow.serving.PredictionLog``.
    """
    path = posixpath.join(export, WARMUP_FILE)
    tf.io.gfile.makedirs(posixpath.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for log in _logs(requests):
            writer.write(log)
    return path


def _logs(requests: Requests) -> Iterator[bytes]:
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


def _varint(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])
