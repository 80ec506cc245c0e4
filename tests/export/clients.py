"""Runs the score client."""

import json
import re

import numpy as np

from tests.tools import tool

PROTOCOLS = ["rest", "grpc"]
REFUSED = {"rest": "HTTP 400 Bad Request", "grpc": "INVALID_ARGUMENT"}
CANDIDATES = 7

client = tool("score_client")


def lines(path, requests):
    """A file with a line for each request."""
    plain = [{n: np.asarray(v).tolist() for n, v in inputs.items()} for inputs in requests]
    path.write_text("".join(json.dumps(inputs) + "\n" for inputs in plain))
    return str(path)


def run(stub, protocol, signature, file, *more):
    server = stub if isinstance(stub, str) else stub.server(protocol)
    return client.main(
        [
            f"--server={server}",
            f"--protocol={protocol}",
            "--model=diffumin",
            f"--signature={signature}",
            f"--input={file}",
            *more,
        ]
    )


def figures(report):
    """Milliseconds of the report by name."""
    return {k: float(v) for k, v in re.findall(r"(p\d\d|longest) ([\d.]+)", report)}
