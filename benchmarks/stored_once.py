"""Histories stored once for all impressions of a user, against once for each of them, in turn."""

import posixpath
import tempfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from benchmarks import memory
from benchmarks.contenders import product_model
from benchmarks.measuring import Spread, in_fresh_process, table
from benchmarks.pipeline import batches_of, pass_speed, vocabulary_of
from benchmarks.samples import random_batch, random_ids, shared_batch, write_records
from benchmarks.settings import Plan, Setting
from diffumin_tf.input.batch import Batch
from diffumin_tf.model import compiled_for_any_batch

_LENGTH, _IDS = 5000, 100_000
_KINDS = {"each": False, "once": True}


def measure(plan: Plan, say: Callable[[str], None]) -> dict:
    """Samples a second read, trained on from memory and from disk; bytes; peaks of memory."""
    setting, count = plan.standard.at(_LENGTH), plan.impressions
    ids = random_ids(_IDS)
    lengths = np.full(-(-plan.records // count), _LENGTH)
    data, sizes = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        rows_of = vocabulary_of(folder, ids)
        for kind, once in _KINDS.items():
            say(f"stored once: writing {kind}")
            target = posixpath.join(folder, kind)
            files = write_records(target, setting.schema, ids, lengths, count, once)
            data[kind] = batches_of(setting, files, rows_of)
            written = sum(tf.io.gfile.stat(file).length for file in files)
            sizes[kind] = written / (len(lengths) * count)
        say("stored once: reading and training, in turn")
        speeds = _speeds(plan, setting, data, len(lengths) * count)
    peaks = None
    if memory.observable():
        say("stored once: memory, in a process of its own")
        variables = memory.WITHOUT_POOL
        peaks = in_fresh_process(peaks_of_both, setting, count, variables=variables)
    return {"impressions": count, "speeds": speeds, "bytes_per_sample": sizes, "peak_bytes": peaks}


def tables(result: dict) -> list[str]:
    """Both kinds side by side, and how many times better it is to store a history once."""
    names = {"read": "read", "memory": "trained from memory", "disk": "trained from disk"}
    rows = []
    for key, name in names.items():
        each, once, times = (result["speeds"][key][kind] for kind in (*_KINDS, "times"))
        rows.append([f"{name}, samples/s", each.text(), once.text(), times.text(2)])
    least = {"bytes a sample": result["bytes_per_sample"], "peak, bytes": result["peak_bytes"]}
    for name, by_kind in least.items():
        if by_kind:
            each, once = (by_kind[kind] for kind in _KINDS)
            rows.append([name, f"{each:,.0f}", f"{once:,.0f}", f"{each / max(once, 1):.2f}"])
    header = ["", "for each impression", "once", "times better"]
    title = f"histories of {_LENGTH:,} of users with {result['impressions']} impressions, stored"
    read, trained = (result["speeds"][key]["once"].median for key in ("read", "memory"))
    return [table(title, header, rows), f"stored once: read / trained = {read / trained:.2f}"]


def peaks_of_both(setting: Setting, impressions: int) -> dict[str, int]:
    """Bytes that a training step needs at most, by kind."""
    update = _step(setting)
    batches = random_batch(setting, 0), shared_batch(setting, impressions, 0)
    return {k: memory.peak_of(update, b) for k, b in zip(_KINDS, batches, strict=True)}


def _step(setting: Setting) -> Callable[[Batch], object]:
    update = compiled_for_any_batch(product_model(setting).train_step)
    return lambda batch: update(batch)["total_loss"].numpy()


def _speeds(
    plan: Plan, setting: Setting, data: dict[str, tf.data.Dataset], samples: int
) -> dict[str, dict[str, Spread]]:
    """Samples a second by what is done and kind, and the ratios, round by round."""
    update = _step(setting)
    in_memory = {kind: list(batches) for kind, batches in data.items()}
    ways = {
        "read": lambda kind: (data[kind].repeat(2), lambda batch: None),
        "memory": lambda kind: (2 * in_memory[kind], update),
        "disk": lambda kind: (data[kind].repeat(2), update),
    }
    speeds = {}
    for way, make in ways.items():
        found: dict[str, list[float]] = {kind: [] for kind in data}
        for _ in range(plan.passes):
            for kind in data:
                batches, use = make(kind)
                found[kind].append(pass_speed(batches, samples, use).median)
        times = [once / each for each, once in zip(*found.values(), strict=True)]
        speeds[way] = {kind: Spread.of(values) for kind, values in found.items()}
        speeds[way]["times"] = Spread.of(times)
    return speeds
