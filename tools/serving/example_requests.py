"""Requests to an export that are made of its signatures: right in form, with made-up ids."""

import itertools
import json
import os
import re

import tensorflow as tf

from tools.serving.saved_model import Inputs, Version

_SAMPLES = 2
_BEHAVIOURS = 3


def write_examples(folder: str, version: Version) -> None:
    """Writes a body for each REST call, and the files that tools/score_client.py reads.

    Args:
        folder: where to; it is there.
        version: its signatures say what a request holds.
    """
    tensors = _inputs(version.signatures["serving_default"])
    request = _inputs(version.signatures["request"])
    if "context" in request:  # Most often the same for all candidates, for which one row will do.
        request["context"] = request["context"][:1]
    rows = [{name: values[i] for name, values in tensors.items()} for i in range(_SAMPLES)]
    bodies = {
        "serving_default.rows": {"instances": rows},
        "serving_default.columns": {"inputs": tensors},
        "request.columns": {"signature_name": "request", "inputs": request},
        "examples.regress": {"signature_name": "examples", "examples": rows},
    }
    for name, body in bodies.items():
        _write(os.path.join(folder, f"{name}.json"), _indented(body))
    for name, inputs in (("serving_default", tensors), ("request", request)):
        _write(os.path.join(folder, f"{name}.jsonl"), json.dumps(inputs) + "\n")
    with tf.io.TFRecordWriter(os.path.join(folder, "examples.tfrecord")) as writer:
        for row in rows:
            writer.write(_example(row).SerializeToString(deterministic=True))


def _inputs(specs: Inputs) -> dict[str, list]:
    """Values by name; ids count up, so that no two inputs are alike."""
    ids = itertools.count(1)
    filled = {}
    for name, spec in specs.items():
        rows, columns = (
            size or unknown
            for size, unknown in zip(spec.shape.as_list(), (_SAMPLES, _BEHAVIOURS), strict=True)
        )
        value = (lambda: next(ids)) if spec.dtype.is_integer else (lambda: 0.5)
        filled[name] = [[value() for _ in range(columns)] for _ in range(rows)]
    return filled


def _example(row: dict[str, list]) -> tf.train.Example:
    example = tf.train.Example()
    for name, values in row.items():
        feature = example.features.feature[name]
        whole = isinstance(values[0], int)
        (feature.int64_list if whole else feature.float_list).value.extend(values)
    return example


def _indented(body: dict) -> str:
    """JSON with a line for each row of a tensor."""
    text = json.dumps(body, indent=2)
    return re.sub(r"\[\s+([^][{}]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text) + "\n"


def _write(path: str, text: str) -> None:
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(text)
