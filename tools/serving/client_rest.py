"""The REST API of TensorFlow Serving, by the standard library."""

import base64
import http.client
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from diffumin_tf.errors import ConfigError
from tools.serving.client_load import Failed, Scores, no_signature, not_served
from tools.serving.client_requests import EXAMPLES

_JSON = {"Content-Type": "application/json"}


class Rest:
    """A `Transport`.

    Args:
        server: host and port.
        model: name of the model.
        chosen: `version` or `label` to ask for; empty leaves it to the server.
        signature: which of its signatures.
        timeout: seconds to wait for the server, each time.
    """

    def __init__(
        self,
        server: tuple[str, int],
        model: str,
        chosen: dict[str, Any],
        signature: str,
        timeout: float,
    ) -> None:
        self._server, self._timeout = server, timeout
        self._name, self._signature = model, signature
        self._model = f"/v1/models/{quote(model, safe='')}"
        for kind, value in chosen.items():
            self._model += f"/{kind}s/{quote(str(value), safe='')}"

    def types(self) -> dict[str, str]:
        host, port = self._server
        try:
            answer = self.connect()(("GET", f"{self._model}/metadata", None))
            found = json.loads(answer)["metadata"]["signature_def"]["signature_def"]
        except Failed as error:
            usual = "REST port is 8501 unless --rest_api_port"
            raise not_served(f"{host}:{port}", self._name, error, usual) from None
        except (ValueError, LookupError, TypeError):
            raise ConfigError(f"{host}:{port}: is there, but no TensorFlow Serving") from None
        if self._signature not in found:
            raise no_signature(f"{host}:{port}", self._signature, found)
        inputs = found[self._signature]["inputs"]
        return {name: info["dtype"] for name, info in inputs.items()}

    def encode(self, content: Any) -> tuple[str, str, bytes]:
        if self._signature == EXAMPLES:
            body = {"examples": [_features(example) for example in content]}
            call = "regress"
        else:  # by columns, because the inputs of `request` differ in their number of rows
            body, call = {"inputs": content}, "predict"
        body = {"signature_name": self._signature, **body}
        return "POST", f"{self._model}:{call}", json.dumps(body).encode()

    def size(self, encoded: tuple[str, str, bytes]) -> int:
        return len(encoded[-1])

    def connect(self) -> Callable[[Any], bytes]:
        connection = http.client.HTTPConnection(*self._server, timeout=self._timeout)

        def send(request: tuple[str, str, bytes | None]) -> bytes:
            try:
                connection.request(*request, headers=_JSON)
                answer = connection.getresponse()
                body = answer.read()
            except TimeoutError:
                connection.close()  # opened anew by the next request
                told = f"no answer in {self._timeout:g} s"
                raise Failed("timed out", told, unanswered=True) from None
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                told = "what comes back is no HTTP"
                if isinstance(error, OSError):
                    told = error.strerror or str(error)
                raise Failed("unreachable", told, unanswered=True) from None
            if answer.status != http.client.OK:
                raise Failed(f"HTTP {answer.status} {answer.reason}", _error_of(body))
            return body

        return send

    def decode(self, answer: bytes) -> Scores:
        try:
            found = json.loads(answer)
            if self._signature == EXAMPLES:
                return {"outputs": found["results"]}
            # With a single output, TensorFlow Serving leaves its name away.
            outputs = found["outputs"]
            return outputs if isinstance(outputs, dict) else {"outputs": outputs}
        except (ValueError, LookupError, TypeError):
            raise Failed("not understood", answer[:200].decode(errors="replace")) from None


def _error_of(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, LookupError, TypeError):
        return body[:200].decode(errors="replace")


def _features(example: Any) -> dict[str, list]:
    """A `tf.train.Example` as the Regress API takes it in JSON: decimals are floats."""
    features = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        if kind == "bytes_list":
            values = [{"b64": base64.b64encode(value).decode()} for value in values]
        features[name] = values
    return features
