"""The requests that TensorFlow Serving answers before a version takes traffic."""

import posixpath
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from diffumin_tf.errors import ExportError
from diffumin_tf.export.inputs import SignatureInputs
from diffumin_tf.export.signatures import EXAMPLES, REQUEST, SERVING_DEFAULT

WARMUP_FILE = posixpath.join("assets.extra", "tf_serving_warmup_requests")
SAMPLES = (1, 32)
CANDIDATES = (1, 100, 500)


def write_warmup(export: str, inputs: SignatureInputs) -> None:
    """Writes a TFRecord of `PredictionLog` into a SavedModel: every signature, the usual sizes."""
    path = posixpath.join(export, WARMUP_FILE)
    tf.io.gfile.makedirs(posixpath.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for log in _logs(inputs):
            writer.write(log.SerializeToString(deterministic=True))


def read_warmup(export: str) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Signature and inputs of each request of a warm-up, as the signature takes them.

    Raises:
        ExportError: the file is missing or damaged.
    """
    path = posixpath.join(export, WARMUP_FILE)
    try:
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            yield _request_of(PredictionLog.FromString(record))
    except (tf.errors.OpError, ValueError, DecodeError) as error:
        raise ExportError(f"{path}: no warm-up: {error}") from None


def _logs(inputs: SignatureInputs) -> Iterator[PredictionLog]:
    for count in SAMPLES:
        yield _predict(SERVING_DEFAULT, inputs.tensors(count))
        yield _regress(inputs.examples(count)["inputs"])
    for count in CANDIDATES:
        yield _predict(REQUEST, inputs.request(count))


def _predict(signature: str, tensors: dict[str, np.ndarray]) -> PredictionLog:
    log = PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = signature
    for name, values in tensors.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return log


def _regress(examples: np.ndarray) -> PredictionLog:
    log = PredictionLog()
    request = log.regress_log.request
    request.model_spec.signature_name = EXAMPLES
    for example in examples:
        request.input.example_list.examples.add().MergeFromString(example)
    return log


def _request_of(log: PredictionLog) -> tuple[str, dict[str, np.ndarray]]:
    kind = log.WhichOneof("log_type")
    if kind == "regress_log":
        request = log.regress_log.request
        examples = [e.SerializeToString() for e in request.input.example_list.examples]
        tensors = {"inputs": np.array(examples, dtype=object)}
    elif kind == "predict_log":
        request = log.predict_log.request
        tensors = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
    else:
        raise ValueError("a record holds no request")
    return request.model_spec.signature_name, tensors
