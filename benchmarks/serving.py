"""One request with N candidates against the same candidates as N samples, in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from benchmarks import machine
from benchmarks.clock import seconds_of
from benchmarks.floor import works
from benchmarks.machine import Rates
from benchmarks.plan import Plan
from benchmarks.settings import Setting, build_model
from benchmarks.synthetic import random_samples, vocabulary_ids
from benchmarks.tables import table
from diffumin_tf.export.inputs import SignatureInputs
from diffumin_tf.export.signatures import REQUEST, SERVING_DEFAULT, signatures
from diffumin_tf.input.features import FeaturePath
from diffumin_tf.input.records import encode
from diffumin_tf.input.vocabulary import HashedRows

# Different samples, of which the first has the history of all; the candidates come again and again.
_SAMPLES = 64
_IDS = 100_000
_AT_LEAST = 5  # calls of each
_HISTORY = "look up all behaviours"


class Called(NamedTuple):
    """How one signature did.

    Attributes:
        seconds: of each call, from tensors to scores.
        parse_seconds: from the tensors' bytes on the wire to tensors, the least of some turns.
        bytes: of its tensors on the wire.
    """

    seconds: list[float]
    parse_seconds: float
    bytes: int


def measure(plan: Plan, say: Callable[[str], None]) -> dict:
    """Rows by L and N: milliseconds of a request, of its samples, and of what is least to do."""
    rates, rows = machine.rates(plan.standard(plan.histories[0]).rows), []
    for length in plan.histories:
        setting = plan.standard(length)
        served, requests = _served(setting)
        for count in plan.candidates:
            say(f"serving: L={length:,}, N={count:,}, a request and its samples in turn")
            asked = {
                REQUEST: requests.request(count),
                SERVING_DEFAULT: requests.of_one_user(count),
            }
            called = _in_turn(served, asked, plan.serve_seconds)
            rows.append(_row(setting, count, called, rates))
    for row in rows:
        row["ratio_apart"] = _ratio_apart(row, rows)
    return {"rows": rows}


def tables(result: dict) -> list[str]:
    """One line for each L and N."""
    rows = [
        [
            f"L={row['length']:,} N={row['candidates']:,}",
            *(f"{row[REQUEST][key]:,.1f}" for key in ("p50", "p99")),
            *(f"{row[SERVING_DEFAULT][key]:,.1f}" for key in ("p50", "p99")),
            f"{row[REQUEST]['calls']}, {row[SERVING_DEFAULT]['calls']}",
            f"{row['ratio']:.1f}",
            "" if row["ratio_apart"] is None else f"{row['ratio_apart']:.1f}",
            f"{row['ratio_with_parsing']:.1f}",
            f"{row[REQUEST]['bytes'] / 1e6:,.2f}",
            f"{row[SERVING_DEFAULT]['bytes'] / 1e6:,.1f}",
            f"{row['floor']['moved'] / 1e6:,.1f}",
            f"{row['floor']['multiply_adds'] / 1e6:,.0f}",
            f"{row['floor']['ms']:,.1f}",
        ]
        for row in result["rows"]
    ]
    header = [
        "",
        "request p50, ms",
        "p99",
        "samples p50, ms",
        "p99",
        "calls",
        "times",
        "times N calls",
        "with parsing",
        "request, MB",
        "samples, MB",
        "floor: MB",
        "M multiply-adds",
        "ms",
    ]
    return [table("one request with N candidates, and the same as N samples", header, rows)]


def _served(setting: Setting) -> tuple[dict[str, Callable], SignatureInputs]:
    model = build_model(setting)
    rows_of = HashedRows(setting.rows)
    path = FeaturePath(setting.schema, setting.layout, setting.config.seq_len, rows_of)
    rng, lengths = np.random.default_rng(0), np.full(_SAMPLES, setting.length)
    samples = random_samples(rng, setting.schema, vocabulary_ids(_IDS), lengths)
    recorded = list(encode(setting.schema, samples))
    served = signatures(model, setting.schema, path)
    return served, SignatureInputs(setting.schema, setting.layout, recorded)


def _in_turn(
    served: dict[str, Callable], asked: dict[str, dict[str, np.ndarray]], seconds: float
) -> dict[str, Called]:
    """Calls each signature for so long; slow ones have fewer turns, spread over all of it."""
    calls, taken = {}, {name: [] for name in asked}
    for name, inputs in asked.items():
        tensors = {key: tf.constant(values) for key, values in inputs.items()}
        calls[name] = lambda name=name, tensors=tensors: served[name](**tensors)["pctr"].numpy()
        calls[name]()  # traces nothing, but prepares the graph
    end = time.perf_counter() + 2 * seconds
    while time.perf_counter() < end or min(map(len, taken.values())) < _AT_LEAST:
        behind = min(taken, key=lambda name: (sum(taken[name]), name))
        taken[behind].append(seconds_of(calls[behind]))
    return {name: Called(taken[name], *_parsing(asked[name])) for name in asked}


def _parsing(inputs: dict[str, np.ndarray]) -> tuple[float, int]:
    wire = [tf.make_tensor_proto(values).SerializeToString() for values in inputs.values()]

    def parse() -> list[Any]:
        return [tf.make_ndarray(tensor_pb2.TensorProto.FromString(tensor)) for tensor in wire]

    return min(seconds_of(parse) for _ in range(_AT_LEAST)), sum(map(len, wire))


def _row(setting: Setting, count: int, called: dict[str, Called], rates: Rates) -> dict:
    row: dict[str, Any] = {"length": setting.length, "candidates": count}
    for name, one in called.items():
        p50, p99 = np.percentile(np.array(one.seconds) * 1e3, [50, 99])
        row[name] = {
            "p50": p50,
            "p99": p99,
            "calls": len(one.seconds),
            "parse_ms": 1e3 * one.parse_seconds,
            "bytes": one.bytes,
        }
    one, each = row[REQUEST], row[SERVING_DEFAULT]
    row["ratio"] = each["p50"] / one["p50"]
    row["ratio_with_parsing"] = (each["p50"] + each["parse_ms"]) / (one["p50"] + one["parse_ms"])
    return {**row, "floor": _floor(setting, count, rates)}


def _ratio_apart(row: dict, rows: list[dict]) -> float | None:
    """How much longer N calls with one sample take; None where none was measured at that L."""
    alone = [r for r in rows if r["length"] == row["length"] and r["candidates"] == 1]
    if not alone:
        return None
    return row["candidates"] * alone[0][SERVING_DEFAULT]["p50"] / row[REQUEST]["p50"]


def _floor(setting: Setting, count: int, rates: Rates) -> dict[str, float]:
    """What a request cannot do without: all of N samples but one history for N."""
    parts = []
    for work in works(setting, training=False):
        # The tower's kernels are read once, whatever N.
        per_sample = 1 if work.part == _HISTORY else count
        parts.append(
            work._replace(
                streamed=work.streamed
                if work.part == "tower"
                else work.streamed / setting.batch_size * per_sample,
                gathered=work.gathered / setting.batch_size * per_sample,
                narrow=work.narrow / setting.batch_size * per_sample,
                wide=work.wide / setting.batch_size * per_sample,
            )
        )
    return {
        "moved": sum(work.streamed + work.gathered for work in parts),
        "multiply_adds": sum(work.narrow + work.wide for work in parts),
        "ms": 1e3 * sum(work.seconds(rates, rates.narrow) for work in parts),
    }
