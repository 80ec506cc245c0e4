"""Memory that a training step needs beyond what is there before it, each in its own process."""

from __future__ import annotations

import ctypes
import os
import pathlib
from collections.abc import Callable, Iterable

import tensorflow as tf

from benchmarks import apart, contenders
from benchmarks.contenders import PRODUCT, REFERENCE, TRAINING
from benchmarks.plan import Plan
from benchmarks.settings import Setting, random_batch
from benchmarks.tables import table

_STEPS = 3
_STATUS, _CLEAR_REFS = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # what proc(5) says resets VmHWM
_AT_ONCE = 2

_known: dict[tuple[str, Setting], dict] = {}


def measure(plan: Plan, say: Callable[[str], None]) -> dict | None:
    """Peaks of both contenders by L, and their ratios; None where memory cannot be observed."""
    if not observable():
        say("memory: left out, because this system has no /proc/self/clear_refs")
        return None
    settings = {str(length): plan.standard(length) for length in plan.lengths}
    say(f"memory: training steps at L={', '.join(settings)}, each in a process of its own")
    pairs = [(c, s) for s in reversed(settings.values()) for c in (REFERENCE, PRODUCT)]
    peaks = steps_memory(pairs)
    rows = [
        {"length": int(name), "contender": contender, **peaks[contender, setting]}
        for name, setting in settings.items()
        for contender in (PRODUCT, REFERENCE)
    ]
    ratios = {
        name: peaks[PRODUCT, setting]["step_bytes"] / peaks[REFERENCE, setting]["step_bytes"]
        for name, setting in settings.items()
    }
    return {"rows": rows, "ratios": {"peak_memory": ratios}}


def tables(result: dict | None) -> list[str]:
    """Megabytes, and the product's share of the reference's."""
    if result is None:
        return []
    rows = []
    for row in result["rows"]:
        is_product = row["contender"] == PRODUCT
        share = result["ratios"]["peak_memory"][str(row["length"])]
        rows.append(
            [
                f"L={row['length']:,}",
                row["contender"],
                f"{row['step_bytes'] / 1e6:,.0f}",
                f"{row['process_bytes'] / 1e6:,.0f}",
                f"{share:.3f}" if is_product else "",
            ]
        )
    header = [
        "",
        "",
        "of a step, MB",
        "process at most, MB",
        "product / reference (less is better)",
    ]
    return [table("memory of a training step", header, rows)]


def observable() -> bool:
    """Whether peaks of memory can be observed here."""
    return bool(tf.config.list_physical_devices("GPU")) or _CLEAR_REFS.exists()


def steps_memory(pairs: Iterable[tuple[str, Setting]]) -> dict[tuple[str, Setting], dict]:
    """`step_memory` of contenders at settings, each measured once."""
    missing = [pair for pair in dict.fromkeys(pairs) if pair not in _known]
    # Two processes at a time would share the one GPU and disturb each other's numbers.
    at_once = 1 if tf.config.list_physical_devices("GPU") else min(_AT_ONCE, os.cpu_count() or 1)
    found = apart.in_fresh_processes(step_memory, missing, at_once)
    _known.update(zip(missing, found, strict=True))
    return _known


def step_memory(contender: str, setting: Setting) -> dict[str, int]:
    """Memory of training steps in this process.

    Returns:
      ``step_bytes``: the peak during steps above the level before them, and ``process_bytes``:
      the highest level of the process, which includes the preparation of the graph.
    """
    step = contenders.BY_NAME[contender](setting)[TRAINING]
    batch = random_batch(setting, 0)
    step(batch)  # prepares the graph, which is no part of a step
    before, highest = _level(), _peak()
    _reset_peak()
    for _ in range(_STEPS):
        step(batch)
    return {"step_bytes": _peak() - before, "process_bytes": max(highest, _peak())}


def _level() -> int:
    """Bytes in use, after what is free was given back."""
    if tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["current"]
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
    return _status("VmRSS")


def _peak() -> int:
    if tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return _status("VmHWM")


def _reset_peak() -> None:
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.reset_memory_stats("GPU:0")
    else:
        _CLEAR_REFS.write_text(_RESET_PEAK)


def _status(key: str) -> int:
    (line,) = (x for x in _STATUS.read_text().splitlines() if x.startswith(f"{key}:"))
    return 1024 * int(line.split()[1])
