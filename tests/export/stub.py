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
from tensorflow_serving.apis import predict_pb2

VERSIONS = {"stable": 1, "canary": 2}
HTTP_CODES = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404}
PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/(\w+))?(?::predict|)")


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
        """Outputs by name."""
        signature = self.signatures[name]
        if name not in self.calls:
            options = config_pb2.CallableOptions(
                feed=[signature.inputs[n].name for n in sorted(signature.inputs)],
                fetch=[signature.outputs[n].name for n in sorted(signature.outputs)],
            )
            self.calls[name] = self.session._make_callable_from_options(options)
        values = self.calls[name](*(tensors[n] for n in sorted(tensors)))
        return dict(zip(sorted(signature.outputs), values, strict=True))


class Stub:
    """The model `diffumin` in two versions.

    Attributes:
        addresses: by protocol, `rest` or `grpc`.
        served: versions in the order in which they were asked.
        state: of both versions, as the server reports it.
    """

    def __init__(self, loaded):
        self.loaded, self.served, self.state = loaded, [], "AVAILABLE"

    @contextlib.contextmanager
    def running(self):
        handler = type("Handler", (RestHandler,), {"stub": self})
        codecs = {
            "request_deserializer": predict_pb2.PredictRequest.FromString,
            "response_serializer": predict_pb2.PredictResponse.SerializeToString,
        }
        with (
            serve(http.server.ThreadingHTTPServer, handler) as rest,
            grpc_server(self.predict_by_grpc, **codecs) as grpc_address,
        ):
            self.addresses = {"rest": rest, "grpc": grpc_address}
            yield self

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

    def predict_by_grpc(self, request, context):
        spec = request.model_spec
        asked = (spec.name, spec.version.value, spec.version_label, spec.signature_name)
        tensors = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        try:
            outputs = self.predict(*asked, lambda infos: tensors)
        except Refused as error:
            context.abort(grpc.StatusCode[error.code], str(error))
        outputs = {name: tf.make_tensor_proto(values) for name, values in outputs.items()}
        return predict_pb2.PredictResponse(outputs=outputs)


class RestHandler(http.server.BaseHTTPRequestHandler):
    stub = None

    def log_message(self, *args):
        pass

    def do_GET(self):
        if PATH.fullmatch(self.path)[1] != "diffumin":
            self._send(404, {"error": "Could not find any versions of model"})
            return
        states = [{"version": str(n), "state": self.stub.state} for n in VERSIONS.values()]
        self._send(200, {"model_version_status": states})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model, version, label = PATH.fullmatch(self.path).groups()

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


@contextlib.contextmanager
def serve(server_class, handler):
    """The address of a server that runs in a thread."""
    with server_class(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def tcp_server(answer):
    """A server that gives each connection to `answer` once its first bytes have come."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            with contextlib.suppress(OSError):
                answer(self.request)

    return serve(socketserver.ThreadingTCPServer, Handler)


@contextlib.contextmanager
def grpc_server(predict, **codecs):
    """The address of a server whose `Predict` is `predict(request, context)`."""
    methods = {"Predict": grpc.unary_unary_rpc_method_handler(predict, **codecs)}
    service = "tensorflow.serving.PredictionService"
    handler = grpc.method_handlers_generic_handler(service, methods)
    server = grpc.server(futures.ThreadPoolExecutor(2), [handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0)
