"""The gRPC API of TensorFlow Serving; needs the packages of the extra `serving`."""

import os
from collections.abc import Callable
from typing import Any

from diffumin_tf.errors import ConfigError
from diffumin_tf.terminal import quietly
from tools.serving.client_load import Failed, Scores, no_signature, not_served
from tools.serving.client_requests import EXAMPLES

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

with quietly():
    try:
        import grpc
        import tensorflow as tf
        from tensorflow.core.framework import types_pb2
        from tensorflow_serving.apis import (
            get_model_metadata_pb2,
            predict_pb2,
            prediction_service_pb2_grpc,
            regression_pb2,
        )
    except ImportError as error:
        raise ConfigError(
            f"--protocol grpc: {error}; install the extra: pip install 'diffumin_tf[serving]'"
        ) from None

_ANY_SIZE = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class Grpc:
    """A `Transport`; arguments as of `client_rest.Rest`."""

    def __init__(
        self,
        server: tuple[str, int],
        model: str,
        chosen: dict[str, Any],
        signature: str,
        timeout: float,
    ) -> None:
        self._server = "{}:{}".format(*server)
        self._timeout, self._signature = timeout, signature
        self._types: dict[str, str] = {}
        # Channels of equal options share a connection, so that all threads get one.
        channel = grpc.insecure_channel(self._server, options=_ANY_SIZE)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        spec = predict_pb2.PredictRequest().model_spec
        spec.name, spec.signature_name = model, signature
        if "version" in chosen:
            spec.version.value = chosen["version"]
        if "label" in chosen:
            spec.version_label = chosen["label"]
        self._spec = spec

    def types(self) -> dict[str, str]:
        ask = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        ask.model_spec.CopyFrom(self._spec)
        try:
            answer = self._call(self._stub.GetModelMetadata, ask)
        except Failed as error:
            port = "gRPC port is 8500 unless --port"
            raise not_served(self._server, self._spec.name, error, port) from None
        found = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        if self._signature not in found.signature_def:
            raise no_signature(self._server, self._signature, found.signature_def)
        inputs = found.signature_def[self._signature].inputs
        self._types = {n: types_pb2.DataType.Name(info.dtype) for n, info in inputs.items()}
        return self._types

    def encode(self, content: Any) -> Any:
        if self._signature == EXAMPLES:
            request = regression_pb2.RegressionRequest(model_spec=self._spec)
            request.input.example_list.examples.extend(content)
            return request
        request = predict_pb2.PredictRequest(model_spec=self._spec)
        for name, values in content.items():
            dtype = tf.as_dtype(types_pb2.DataType.Value(self._types[name]))
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype))
        return request

    def size(self, encoded: Any) -> int:
        return encoded.ByteSize()

    def connect(self) -> Callable[[Any], Any]:
        regress = self._signature == EXAMPLES
        method = self._stub.Regress if regress else self._stub.Predict
        return lambda request: self._call(method, request)

    def decode(self, answer: Any) -> Scores:
        if self._signature == EXAMPLES:
            return {"outputs": [regression.value for regression in answer.result.regressions]}
        return {name: tf.make_ndarray(t).tolist() for name, t in answer.outputs.items()}

    def _call(self, method: Callable, request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            code = error.code()
            unanswered = code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            raise Failed(code.name, error.details(), unanswered) from None
