"""One request with N candidates against the same candidates as N samples, in turn."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.contenders import build_model
from benchmarks.measuring import seconds_of, table
from benchmarks.samples import random_ids, random_records
from benchmarks.settings import Plan, Setting
from diffumin_tf.export.inputs import SignatureInputs
from diffumin_tf.export.signatures import REQUEST, SERVING_DEFAULT, signatures
from diffumin_tf.input.features import FeaturePath
from diffumin_tf.input.vocabulary import HashedRows

# Different samples, of which the first has the history of all; the candidates come again and again.
_SAMPLES = 64
_IDS = 100_000
_AT_LEAST = 5  # calls of each signature


def measure(plan: Plan, say: Callable[[str], None]) -> dict:
    """Rows by L and N: milliseconds of a request and of its samples, and what they send."""
    rows = []
    for length in plan.histories:
        served, requests = _served(plan.standard.at(length))
        for count in plan.candidates:
            say(f"serving: L={length:,}, N={count:,}, a request and its samples in turn")
            inputs = {
                REQUEST: requests.request(count),
                SERVING_DEFAULT: requests.of_one_user(count),
            }
            seconds = call_in_turn(served, inputs, plan.serve_seconds)
            row = {
                name: _described(seconds[name], tensors.values())
                for name, tensors in inputs.items()
            }
            ratio = row[SERVING_DEFAULT]["p50"] / row[REQUEST]["p50"]
            rows.append({"length": length, "candidates": count, **row, "ratio": ratio})
    return {"rows": rows}


def tables(result: dict) -> list[str]:
    """One line for each L and N."""
    # What N calls of one sample take.
    single = {
        row["length"]: row[SERVING_DEFAULT]["p50"]
        for row in result["rows"]
        if row["candidates"] == 1
    }
    rows = []
    for row in result["rows"]:
        one, each, count = row[REQUEST], row[SERVING_DEFAULT], row["candidates"]
        apart = count * single.get(row["length"], np.nan) / one["p50"]
        rows.append(
            [
                f"L={row['length']:,} N={count:,}",
                *(f"{x[key]:,.1f}" for x in (one, each) for key in ("p50", "p99")),
                f"{one['calls']}, {each['calls']}",
                f"{row['ratio']:.1f}",
                f"{apart:.1f}",
                *(f"{x['bytes'] / 1e6:,.2f}" for x in (one, each)),
            ]
        )
    header = ["", "request p50, ms", "p99", "samples p50, ms", "p99", "calls", "times"]
    header += ["times N calls", "request, MB", "samples, MB"]
    return [table("one request with N candidates, and the same as N samples", header, rows)]


def call_in_turn(
    served: dict[str, Callable], inputs: dict[str, dict[str, np.ndarray]], seconds: float
) -> dict[str, list[float]]:
    """Seconds of the calls of each signature; slow ones have fewer, over the same time."""
    calls, taken = {}, {name: [] for name in inputs}
    for name, arrays in inputs.items():
        tensors = {key: tf.constant(values) for key, values in arrays.items()}
        calls[name] = lambda name=name, tensors=tensors: served[name](**tensors)["pctr"].numpy()
        calls[name]()  # traces nothing, but prepares the graph
    end = time.perf_counter() + 2 * seconds
    while time.perf_counter() < end or min(map(len, taken.values())) < _AT_LEAST:
        behind = min(taken, key=lambda name: (sum(taken[name]), name))
        taken[behind].append(seconds_of(calls[behind]))
    return taken


def _served(setting: Setting) -> tuple[dict[str, Callable], SignatureInputs]:
    model = build_model(setting)
    rows_of = HashedRows(setting.rows)
    path = FeaturePath(setting.schema, setting.layout, setting.config.seq_len, rows_of)
    lengths = np.full(_SAMPLES, setting.length)
    records = random_records(np.random.default_rng(0), setting.schema, random_ids(_IDS), lengths)
    served = signatures(model, setting.schema, path)
    return served, SignatureInputs(setting.schema, setting.layout, records)


def _described(seconds: list[float], arrays: Any) -> dict[str, float]:
    p50, p99 = np.percentile(np.array(seconds) * 1e3, [50, 99])
    size = sum(tf.make_tensor_proto(array).ByteSize() for array in arrays)
    return {"p50": float(p50), "p99": float(p99), "calls": len(seconds), "bytes": size}
