"""A server that speaks as TensorFlow Serving 2.21 does, by REST and gRPC, before a real SavedModel.

Messages and codes are those of `servables/tensorflow/*.cc` and `util/json_tensor.cc`.
"""

import base64
import contextlib
import http.server
import json
import re
import socketserver
import threading
from concurrent import futures

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

VERSIONS = {"stable": 1, "canary": 2}
HTTP_CODES = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404}
PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/(\w+))?(:predict|)")


class Refused(Exception):
    """An error of the server; `code` is the name of a gRPC code."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Loaded:
    """A SavedModel in a session, which feeds tensors of any shape, as a server does."""

    def __init__(self, export):
        with tf.Graph().as_default():
            self.session = tf.compat.v1.Session()
            meta_graph = tf.compat.v1.saved_model.load(self.session, ["serve"], export)
        self.signatures = meta_graph.signature_def
        self.calls = {}

    def run(self, name, tensors):
        """Outputs by name; raises Refused for other inputs, and what TensorFlow raises."""
        signature = self.signatures[name]
        if set(tensors) != set(signature.inputs):
            missing = ",".join(sorted(set(signature.inputs) - set(tensors)))
            message = f"input size does not match signature. Missing but required: {{{missing}}}."
            raise Refused("INVALID_ARGUMENT", message)
        if name not in self.calls:
            options = config_pb2.CallableOptions(
                feed=[signature.inputs[n].name for n in sorted(signature.inputs)],
                fetch=[signature.outputs[n].name for n in sorted(signature.outputs)],
            )
            self.calls[name] = self.session._make_callable_from_options(options)
        values = self.calls[name](*(tensors[n] for n in sorted(tensors)))
        return dict(zip(sorted(signature.outputs), values, strict=True))


class Stub:
    """The model `diffumin` in two versions on a port for each protocol.

    Attributes:
        served: versions in the order in which they were asked.
        state: of both versions, as the server reports it.
    """

    def __init__(self, loaded):
        self.loaded, self.served, self.state = loaded, [], "AVAILABLE"

    def __enter__(self):
        handler = type("Handler", (RestHandler,), {"stub": self})
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.http.serve_forever, args=[0.01], daemon=True).start()
        self.grpc = grpc.server(futures.ThreadPoolExecutor(2))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            GrpcServicer(self), self.grpc
        )
        grpc_port = self.grpc.add_insecure_port("127.0.0.1:0")
        self.grpc.start()
        self.ports = {"rest": self.http.server_address[1], "grpc": grpc_port}
        return self

    def __exit__(self, *exception):
        self.http.shutdown()
        self.http.server_close()
        self.grpc.stop(0)

    def predict(self, model, version, label, signature, tensors_of):
        """Outputs of a signature, whose tensors are made of its inputs by `tensors_of`."""
        version = VERSIONS.get(label, 99) if label else version or max(VERSIONS.values())
        if model != "diffumin" or version not in VERSIONS.values():
            message = f"Servable not found for request: Specific({model}, {version})"
            raise Refused("NOT_FOUND", message)
        self.served.append(version)
        try:
            tensors = tensors_of(self.loaded.signatures[signature].inputs)
            return self.loaded.run(signature, tensors)
        except tf.errors.OpError as error:
            code = next(c.name for c in grpc.StatusCode if c.value[0] == error.error_code)
            raise Refused(code, error.message) from None


class RestHandler(http.server.BaseHTTPRequestHandler):
    stub = None

    def log_message(self, *args):
        pass

    def do_GET(self):
        model, *_ = PATH.fullmatch(self.path).groups()
        if model != "diffumin":
            self._send(404, {"error": "Could not find any versions of model"})
            return
        states = [{"version": str(n), "state": self.stub.state} for n in VERSIONS.values()]
        self._send(200, {"model_version_status": states})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model, version, label, _ = PATH.fullmatch(self.path).groups()

        def tensors_of(infos):
            return {n: tensor_of(v, infos[n].dtype) for n, v in body["inputs"].items()}

        try:
            asked = (model, version and int(version), label, body["signature_name"])
            outputs = self.stub.predict(*asked, tensors_of)
        except Refused as error:
            self._send(HTTP_CODES.get(error.code, 500), {"error": str(error)})
            return
        outputs = {name: values.tolist() for name, values in outputs.items()}
        self._send(200, {"outputs": outputs if len(outputs) > 1 else outputs["outputs"]})

    def _send(self, code, content):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(content, indent=4).encode())


def tensor_of(values, dtype):
    dtype = tf.as_dtype(dtype)
    if dtype == tf.string:
        values = [base64.b64decode(value["b64"]) for value in values]
    return np.array(values, dtype.as_numpy_dtype)


class GrpcServicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, stub):
        self.stub = stub

    def Predict(self, request, context):
        spec = request.model_spec
        asked = (spec.name, spec.version.value, spec.version_label, spec.signature_name)
        tensors = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        try:
            outputs = self.stub.predict(*asked, lambda infos: tensors)
        except Refused as error:
            context.abort(grpc.StatusCode[error.code], str(error))
        answer = predict_pb2.PredictResponse()
        for name, values in outputs.items():
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(values))
        return answer


@contextlib.contextmanager
def tcp_server(answer):
    """A port where each connection is given to `answer` once its first bytes have come."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            with contextlib.suppress(OSError):
                answer(self.request)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextlib.contextmanager
def grpc_server(answer):
    """A port where `Predict` gets the bytes that `answer` returns, whatever was asked."""
    method = grpc.unary_unary_rpc_method_handler(lambda request, context: answer())
    service = "tensorflow.serving.PredictionService"
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {"Predict": method})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0)
