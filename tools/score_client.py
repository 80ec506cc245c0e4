"""Scores requests by a running TensorFlow Serving, over REST or gRPC.

usage: python tools/score_client.py --server HOST:PORT --model NAME --input INPUT
         [--protocol rest|grpc] [--signature serving_default|examples|request]
         [--version N | --label L] [--timeout SECONDS]

INPUT is a file of JSON lines, each the inputs of one request by name, as in {"user": [[3]], …}; or
the folder of an exported version, whose warm-up requests are sent, with --signature only those to
it. Prints the scores of each request as a line of JSON. The first request that fails, or takes
longer than --timeout (10 seconds), ends it with exit code 1.
"""

import base64
import concurrent.futures
import http.client
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from absl import flags

from diffumin_tf.errors import ConfigError, DataError, DiffuminError
from diffumin_tf.terminal import exit_code, parse, quietly

SIGNATURES = ("serving_default", "examples", "request")
_LARGEST = 2**28  # bytes of an answer

Inputs = dict[str, Any]
Outputs = dict[str, Any]


class RequestFailed(DiffuminError):
    """A server did not answer a request with scores."""

    def __init__(self, message: str) -> None:
        """Keeps the first line, without characters that would control a terminal."""
        line = (message.splitlines() or [""])[0][:500]
        super().__init__("".join(c if c.isprintable() else "?" for c in line))


@exit_code
def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    flags.DEFINE_string("server", None, "Host and port.", values)
    flags.DEFINE_string("model", None, "Name of the model.", values)
    flags.DEFINE_string("input", None, "JSON lines, or a folder.", values)
    flags.DEFINE_enum("protocol", "rest", ["rest", "grpc"], "How to ask.", values)
    flags.DEFINE_enum("signature", None, SIGNATURES, "What to ask.", values)
    flags.DEFINE_integer("version", None, "Version of the model.", 1, flag_values=values)
    flags.DEFINE_string("label", None, "Label of a version.", values)
    flags.DEFINE_float("timeout", 10.0, "Seconds for one request.", 0.001, flag_values=values)
    parse(values, "score_client", argv, ["server", "model", "input"], __doc__)
    if values.version and values.label:
        raise ConfigError("--version, --label: give one of them")
    ask = ask_by_rest(values) if values.protocol == "rest" else ask_by_grpc(values)
    for where, signature, inputs in read_requests(values.input, values.signature):
        try:
            outputs = ask(signature, inputs)
            for name, scores in outputs.items():
                if not _are_scores(scores):
                    raise RequestFailed(f"output {name!r} holds no scores")
        except RequestFailed as error:
            raise RequestFailed(f"{where}: {values.server}: {error}") from None
        print(json.dumps(outputs), flush=True)


def read_requests(path: str, signature: str | None) -> Iterator[tuple[str, str, Inputs]]:
    """Where a request stands, its signature, and its inputs as nested lists."""
    if os.path.isdir(path):
        with quietly():
            from diffumin_tf.export.warmup import read_warmup
        for number, (name, tensors) in enumerate(read_warmup(path), 1):
            if signature in (None, name):
                yield f"request {number}", name, {n: v.tolist() for n, v in tensors.items()}
        return
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                inputs = json.loads(line)
                if not isinstance(inputs, dict):
                    raise ValueError(f"line {number} holds no inputs by name")
                yield f"line {number}", signature or SIGNATURES[0], inputs
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a file of JSON lines: {error}") from None


def ask_by_rest(values: flags.FlagValues) -> Callable[[str, Inputs], Outputs]:
    """A function that asks by POST …:predict, with the inputs by column."""
    url = f"/v1/models/{quote(values.model, safe='')}"
    if values.version:
        url += f"/versions/{values.version}"
    if values.label:
        url += f"/labels/{quote(values.label, safe='')}"

    def post(body: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(values.server, timeout=values.timeout)
        connection.request("POST", f"{url}:predict", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read(_LARGEST)

    def ask(signature: str, inputs: Inputs) -> Outputs:
        content = {"signature_name": signature, "inputs": inputs}
        body = json.dumps(content, default=lambda text: {"b64": base64.b64encode(text).decode()})
        try:
            status, answer = _within(values.timeout, lambda: post(body))
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise RequestFailed(f"no answer by REST, usually on port 8501: {error!r}") from None
        try:
            content = json.loads(answer)
            if status != http.client.OK:
                raise RequestFailed(f"HTTP {status}: {content['error']}")
            outputs = content["outputs"]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise RequestFailed(f"HTTP {status}, not TensorFlow Serving: {answer[:99]}") from None
        # TensorFlow Serving omits the name of a single output.
        return outputs if isinstance(outputs, dict) else {"outputs": outputs}

    return ask


def ask_by_grpc(values: flags.FlagValues) -> Callable[[str, Inputs], Outputs]:
    """A function that asks by PredictionService.Predict."""
    with quietly():
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
    logging.getLogger("grpc").addHandler(logging.NullHandler())  # it logs what is no proto
    any_size = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    channel = grpc.insecure_channel(values.server, any_size)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    types = {"dense_feature": tf.float32, "inputs": tf.string}  # all others are int64

    def ask(signature: str, inputs: Inputs) -> Outputs:
        request = predict_pb2.PredictRequest()
        spec = request.model_spec
        spec.name, spec.signature_name = values.model, signature
        if values.version:
            spec.version.value = values.version
        if values.label:
            spec.version_label = values.label
        try:
            for name, value in inputs.items():
                tensor = tf.constant(value, types.get(name, tf.int64))  # rounds no decimals
                request.inputs[name].CopyFrom(tf.make_tensor_proto(tensor.numpy()))
            answer = stub.Predict(request, timeout=values.timeout)
            return {name: tf.make_ndarray(t).tolist() for name, t in answer.outputs.items()}
        except grpc.RpcError as error:
            raise RequestFailed(f"{error.code().name}: {error.details()}") from None
        except (TypeError, ValueError, OverflowError) as error:
            raise RequestFailed(f"not the tensors of the signature: {error}") from None

    return ask


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """What a call returns; the timeout of a socket alone begins anew with every byte."""
    future: concurrent.futures.Future = concurrent.futures.Future()

    def work() -> None:
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return future.result(seconds)
    except concurrent.futures.TimeoutError:
        raise RequestFailed(f"no answer within {seconds:g} seconds") from None


def _are_scores(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, int | float) for value in values)


if __name__ == "__main__":
    # The memory of a GPU is for the server.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    sys.exit(main(sys.argv[1:]))
