"""The REST API of TensorFlow Serving 2.21: its paths, and its JSON (`util/json_tensor.cc`)."""

import base64
import contextlib
import http.server
import json
import re

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import types_pb2

from tests.export.stub_model import Refused

HTTP_CODES = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "FAILED_PRECONDITION": 400}
PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>\w+))?"
    r"(?P<rest>/metadata|:predict|:regress|)"
)


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
        states = [{"version": str(n), "state": self.stub.state} for n in self.stub.loaded]
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
