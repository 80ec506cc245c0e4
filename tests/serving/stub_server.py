"""What of TensorFlow Serving clients see, REST and gRPC, in front of a real SavedModel.

It runs the model as TensorFlow Serving does: in a session of the saved graph, by the names of the
signature's tensors, whose shapes nobody checks before the graph does. Paths, JSON, messages and
codes are those of TensorFlow Serving 2.21 (`util/json_tensor.cc`, `servables/tensorflow/*.cc`).
"""

import base64
import contextlib
import functools
import http.server
import itertools
import json
import re
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

HTTP_CODES = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "FAILED_PRECONDITION": 400}
PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>\w+))?"
    r"(?P<rest>/metadata|:predict|:regress|)"
)


class Refused(Exception):
    """An error of the server, by the name of its code."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Loaded:
    """A version in a session of its own."""

    def __init__(self, export):
        with tf.Graph().as_default():
            self.session = tf.compat.v1.Session()
            meta_graph = tf.compat.v1.saved_model.load(self.session, ["serve"], export)
        self.signatures = meta_graph.signature_def
        self.calls = {name: self.call(s) for name, s in self.signatures.items() if s.inputs}

    def call(self, signature):
        """A function of the inputs in the order of their names; TensorFlow checks no shape."""
        options = config_pb2.CallableOptions(
            feed=[signature.inputs[n].name for n in sorted(signature.inputs)],
            fetch=[signature.outputs[n].name for n in sorted(signature.outputs)],
        )
        return self.session._make_callable_from_options(options)

    def signature(self, name):
        if name not in self.signatures:
            raise Refused("INVALID_ARGUMENT", f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def run(self, name, tensors):
        """Arrays by name from arrays by name."""
        signature = self.signature(name)
        inputs = signature.inputs
        if set(tensors) != set(inputs):
            missing = ",".join(sorted(set(inputs) - set(tensors)))
            extra = ",".join(sorted(set(tensors) - set(inputs)))
            raise Refused(
                "INVALID_ARGUMENT",
                f"input size does not match signature. Sent extra: {{{extra}}}. Missing but "
                f"required: {{{missing}}}.",
            )
        try:
            values = self.calls[name](*(tensors[n] for n in sorted(inputs)))
            return dict(zip(sorted(signature.outputs), values, strict=True))
        except tf.errors.OpError as error:
            raise Refused(name_of(error.error_code), error.message) from None


load = functools.cache(Loaded)


def name_of(code):
    return next(c.name for c in grpc.StatusCode if c.value[0] == code)


class Stub:
    """A model with versions and labels, on a port for REST and one for gRPC.

    Args:
      versions: folder of each version.
      labels: version of each label.
      before: called with the number of each request for scores, from 1, before it is answered.
    """

    def __init__(self, versions, labels=(), name="diffumin", before=lambda number: None):
        self.name, self.labels, self.before = name, dict(labels), before
        self.loaded = {number: load(str(export)) for number, export in versions.items()}
        self.requests = itertools.count(1)
        self.served = []  # versions, in the order in which they were asked for
        self.connections = set()

    def __enter__(self):
        handler = type("Handler", (RestHandler,), {"stub": self})
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=[0.01], daemon=True).start()
        self.grpc = grpc.server(futures.ThreadPoolExecutor(8))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            GrpcServicer(self), self.grpc
        )
        self.grpc_port = self.grpc.add_insecure_port("127.0.0.1:0")
        self.grpc.start()
        return self

    def __exit__(self, *exception):
        self.stop()

    def server(self, protocol):
        port = self.http.server_address[1] if protocol == "rest" else self.grpc_port
        return f"127.0.0.1:{port}"

    def stop(self):
        """Goes away, with all connections."""
        threading.Thread(target=self.http.shutdown).start()
        self.http.server_close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(2)
        self.grpc.stop(0)

    def find(self, name, version=None, label=None):
        """Number and session of a version."""
        if label:
            if name != self.name or label not in self.labels:
                raise Refused("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
            version = self.labels[label]
        asked = f"Specific({name}, {version})" if version else f"Latest({name})"
        number = version or max(self.loaded)
        if name != self.name or number not in self.loaded:
            raise Refused("NOT_FOUND", f"Servable not found for request: {asked}")
        self.served.append(number)
        return number, self.loaded[number]

    def metadata(self, name, version, label):
        number, loaded = self.find(name, version, label)
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.model_spec.name, answer.model_spec.version.value = name, number
        found = get_model_metadata_pb2.SignatureDefMap(signature_def=loaded.signatures)
        answer.metadata["signature_def"].Pack(found)
        return answer, found

    def regress(self, loaded, signature, examples):
        if not examples:
            raise Refused("INVALID_ARGUMENT", "Input is empty.")
        outputs = loaded.signature(signature).outputs
        if list(outputs) != ["outputs"]:
            raise Refused("INVALID_ARGUMENT", "Expected one output Tensor.")
        serialised = np.array([e.SerializeToString() for e in examples], dtype=object)
        return loaded.run(signature, {"inputs": serialised})["outputs"]


class RestHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    stub = None

    def setup(self):
        super().setup()
        self.stub.connections.add(self.connection)

    def finish(self):
        self.stub.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._reply(self._get)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._reply(lambda match: self._post(match, body))

    def _reply(self, answer):
        match = PATH.fullmatch(self.path)
        try:
            if not match:
                raise Refused("INVALID_ARGUMENT", f"Malformed request: {self.path}")
            code, content = 200, answer(match)
        except Refused as error:
            code, content = HTTP_CODES.get(error.code, 500), {"error": str(error)}
        body = json.dumps(content, indent=4).encode()
        with contextlib.suppress(OSError):
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _get(self, match):
        number = match["version"] and int(match["version"])
        if match["rest"] == "/metadata":
            _, found = self.stub.metadata(match["name"], number, match["label"])
            signatures = json_format.MessageToDict(
                found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
            return {"metadata": {"signature_def": signatures}}
        self.stub.find(match["name"], number)
        states = [{"version": str(n), "state": "AVAILABLE"} for n in self.stub.loaded]
        return {"model_version_status": states}

    def _post(self, match, body):
        self.stub.before(next(self.stub.requests))
        version = match["version"] and int(match["version"])
        _, loaded = self.stub.find(match["name"], version, match["label"])
        try:
            content = json.loads(body)
        except ValueError as error:
            raise Refused("INVALID_ARGUMENT", f"JSON Parse error: {error}") from None
        name = content.get("signature_name", "serving_default")
        if match["rest"] == ":regress":
            examples = [example_of(features) for features in content["examples"]]
            return {"results": self.stub.regress(loaded, name, examples).tolist()}
        infos = loaded.signature(name).inputs
        if "instances" in content:
            outputs = loaded.run(name, tensors_of_rows(content["instances"], infos))
            rows = [
                {n: float(v[i]) for n, v in outputs.items()} for i in range(len(outputs["pctr"]))
            ]
            return {"predictions": rows}
        outputs = loaded.run(name, tensors_of_columns(content["inputs"], infos))
        return {"outputs": {key: values.tolist() for key, values in outputs.items()}}


def tensors_of_columns(inputs, infos):
    for name in sorted(infos):
        if name not in inputs:
            raise Refused("INVALID_ARGUMENT", f"Missing named input: {name} in 'inputs' object.")
    return {name: tensor_of(inputs[name], infos[name].dtype) for name in infos}


def tensors_of_rows(instances, infos):
    for number, row in enumerate(instances):
        if set(row) != set(infos):
            names = ",".join(sorted(infos))
            raise Refused(
                "INVALID_ARGUMENT",
                f"Failed to process element: {number} of 'instances' list. JSON object: "
                f"{json.dumps(row)} must only have keys: {names}",
            )
    return {n: tensor_of([row[n] for row in instances], infos[n].dtype) for n in infos}


def tensor_of(values, dtype):
    """An array of the type of the signature; no number is rounded to a whole one."""
    try:
        array = np.array(values)
    except ValueError:
        raise Refused("INVALID_ARGUMENT", "Encountered list at unexpected size") from None
    wanted = tf.as_dtype(dtype).as_numpy_dtype
    if array.size and (array.dtype.kind not in "if" or (dtype == 9 and array.dtype.kind == "f")):
        told = types_pb2.DataType.Name(dtype)[3:].lower()
        raise Refused("INVALID_ARGUMENT", f"JSON Value: {values} is not of expected type: {told}")
    return array.astype(wanted)


def example_of(features):
    """A `tf.train.Example` of JSON: a number with a point is a float, one without is an int64."""
    example = tf.train.Example()
    for name, values in features.items():
        feature = example.features.feature[name]
        for value in values if isinstance(values, list) else [values]:
            kind = {int: "int64_list", float: "float_list", dict: "bytes_list"}[type(value)]
            if feature.WhichOneof("kind") not in (None, kind):
                raise Refused("INVALID_ARGUMENT", f"Unexpected element type in feature: {name}")
            plain = base64.b64decode(value["b64"]) if kind == "bytes_list" else value
            getattr(feature, kind).value.append(plain)
    return example


class GrpcServicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, stub):
        self.stub = stub

    def GetModelMetadata(self, request, context):
        with refusing(context):
            return self.stub.metadata(*asked(request))[0]

    def Predict(self, request, context):
        self.stub.before(next(self.stub.requests))
        with refusing(context):
            number, loaded = self.stub.find(*asked(request))
            infos = loaded.signature(request.model_spec.signature_name).inputs
            tensors = {name: tf.make_ndarray(t) for name, t in request.inputs.items()}
            for place, (name, tensor) in enumerate(tensors.items()):
                wanted = tf.as_dtype(infos[name].dtype) if name in infos else tensor.dtype
                if tf.as_dtype(tensor.dtype) != wanted:
                    raise Refused(
                        "INVALID_ARGUMENT", f"Expects arg[{place}] to be {wanted} but is another"
                    )
            outputs = loaded.run(request.model_spec.signature_name, tensors)
            answer = predict_pb2.PredictResponse()
            answer.model_spec.version.value = number
            for name, values in outputs.items():  # in fields, as TensorFlow Serving does
                tensor = answer.outputs[name]
                tensor.dtype = types_pb2.DT_FLOAT
                tensor.tensor_shape.dim.add(size=len(values))
                tensor.float_val.extend(values)
            return answer

    def Regress(self, request, context):
        self.stub.before(next(self.stub.requests))
        with refusing(context):
            _, loaded = self.stub.find(*asked(request))
            examples = request.input.example_list.examples
            answer = regression_pb2.RegressionResponse()
            for value in self.stub.regress(loaded, request.model_spec.signature_name, examples):
                answer.result.regressions.add(value=value)
            return answer


def asked(request):
    spec = request.model_spec
    return spec.name, spec.version.value or None, spec.version_label


@contextlib.contextmanager
def refusing(context):
    try:
        yield
    except Refused as error:
        context.abort(grpc.StatusCode[error.code], str(error))


def slow(seconds, every):
    """A `before` that lets every n-th request wait."""
    return lambda number: time.sleep(seconds if number % every == 0 else 0)
