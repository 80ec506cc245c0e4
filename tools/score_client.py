"""Scores requests by a running TensorFlow Serving, and says how fast it was.

usage: python tools/score_client.py --server HOST:PORT --model NAME --input FILE
         [--protocol rest|grpc] [--signature serving_default|examples|request]
         [--version N | --label L] [--count N] [--seconds S] [--threads T] [--batch B]
         [--timeout S] [--output scores.jsonl]

FILE holds JSON lines, each the inputs of one request by name, as in {"user": [[3]], …}; for
--signature examples a TFRecord of serialised tf.train.Example, of which --batch go into a request.
At most 10,000 requests are read, or as many as --count says, and none beyond the 256 MB that they
take as they are sent. All are sent once; with --count or --seconds, from the first one again until
there were as many, or the time is up. --output gets a line for each answer. Ctrl-C ends it as if
the time were up. The exit code is 1 when any request failed, 130 after Ctrl-C. REST needs no more
than Python, and TensorFlow to read a TFRecord; gRPC needs pip install 'diffumin_tf[serving]'.
"""

import contextlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.terminal import UsageError, exit_code, parse
from tools.serving.client_load import Scores, Transport, send_all
from tools.serving.client_requests import EXAMPLES, read_requests, typed

_HELD = 10_000
_BYTES = 256 * 10**6


def main(argv: list[str]) -> int:
    """Sends the requests and prints the report; exit code 0 when all were answered."""
    values = flags.FlagValues()
    flags.DEFINE_string("server", None, "Host and port.", values)
    flags.DEFINE_enum("protocol", "rest", ["rest", "grpc"], "How to speak to it.", values)
    flags.DEFINE_string("model", None, "Name of the model.", values)
    flags.DEFINE_integer("version", None, "Version of the model.", 1, flag_values=values)
    flags.DEFINE_string("label", None, "Label of a version.", values)
    signatures = ["serving_default", EXAMPLES, "request"]
    flags.DEFINE_enum("signature", "serving_default", signatures, "What to ask.", values)
    flags.DEFINE_string("input", None, "File of requests.", values)
    flags.DEFINE_integer("count", None, "Requests to send.", 1, flag_values=values)
    flags.DEFINE_float("seconds", None, "How long to send.", 0.001, flag_values=values)
    flags.DEFINE_integer("threads", 1, "Requests under way at a time.", 1, flag_values=values)
    flags.DEFINE_integer("batch", 1, "Examples in a request.", 1, flag_values=values)
    flags.DEFINE_float("timeout", 10.0, "Seconds for one request.", 0.001, flag_values=values)
    flags.DEFINE_string("output", None, "File for the scores.", values)
    return exit_code(lambda: _score(values, argv))


def _score(values: flags.FlagValues, argv: list[str]) -> int:
    parse(values, "score_client", argv, ["server", "model", "input"], __doc__)
    if values.version and values.label:
        raise UsageError("score_client: give --version or --label, not both")
    transport = _transport(values)
    encoded = _encoded(values, transport)
    count = values.count or (None if values.seconds else len(encoded))
    with _keeping(values.output) as keep:
        outcome = send_all(transport, encoded, count, values.seconds, values.threads, keep)
    print("\n".join(outcome.lines()))
    if outcome.interrupted:
        return 130
    return 1 if outcome.failures else 0


def _encoded(values: flags.FlagValues, transport: Transport) -> list[tuple[str, Any]]:
    """Place and encoded content of each request; says so where the file holds more of them."""
    types = transport.types()
    encoded, size = [], 0
    read = read_requests(values.input, values.signature, values.batch)
    for request in itertools.islice(read, values.count):
        if size >= _BYTES or (not values.count and len(encoded) == _HELD):
            print(f"read {len(encoded):,} requests of {size / 1e6:,.1f} MB; the file has more")
            break
        content = request.content
        if values.signature != EXAMPLES:
            content = typed(values.input, request, types)
        encoded.append((request.place, transport.encode(content)))
        size += transport.size(encoded[-1][1])
    return encoded


def _transport(values: flags.FlagValues) -> Transport:
    scheme, found, _ = values.server.partition("://")
    if found:
        raise ConfigError(
            f"--server: leave out {scheme + found!r}; it is HOST:PORT, got {values.server!r}"
        )
    host, _, port = values.server.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError(f"--server: must be HOST:PORT, got {values.server!r}")
    if values.protocol == "rest":
        from tools.serving.client_rest import Rest as Chosen
    else:
        from tools.serving.client_grpc import Grpc as Chosen
    asked = {"version": values.version, "label": values.label}
    chosen = {kind: value for kind, value in asked.items() if value}
    return Chosen((host, int(port)), values.model, chosen, values.signature, values.timeout)


@contextlib.contextmanager
def _keeping(path: str | None) -> Iterator[Callable[[int, str, Scores], None]]:
    """A function that writes the scores of a request; the file is there when the block ended."""
    if path is None:
        yield lambda number, place, scores: None
        return
    temporary = f"{path}.incomplete-{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8") as file:

            def keep(number: int, place: str, scores: Scores) -> None:
                line = {"request": number, "place": place, "scores": scores}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

            yield keep
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            os.remove(temporary)


if __name__ == "__main__":
    # TensorFlow only reads and packs here; the memory of a GPU is for the server.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    sys.exit(main(sys.argv[1:]))
