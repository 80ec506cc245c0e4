"""Memory that a training step needs beyond what is there before it, each in its own process."""

from __future__ import annotations

import ctypes
import os
import pathlib
import statistics
from collections.abc import Callable, Iterable, Sequence

import tensorflow as tf

from benchmarks import apart, contenders
from benchmarks.contenders import PRODUCT, REFERENCE, TRAINING
from benchmarks.plan import Plan
from benchmarks.settings import Setting, random_batch
from benchmarks.tables import table

# What runs beside what differs from step to step, and with it the peak.
_STEPS, _REPEATS = 3, 5
_STATUS, _CLEAR_REFS = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # what proc(5) says resets VmHWM
_AT_ONCE = 2
# With oneDNN, TensorFlow keeps what it once had in a pool, and a step that needs no more than the
# one before it would seem to need nothing.
_WITHOUT_POOL = {"TF_ENABLE_ONEDNN_OPTS": "0"}

_known: dict[tuple[str, Setting], dict] = {}


def measure(plan: Plan, say: Callable[[str], None]) -> dict | None:
    """Peaks of both contenders by L, and their ratios; None where memory cannot be observed."""
    if not observable():
        say("memory: left out, because this system has no /proc/self/clear_refs")
        return None
    settings = {str(length): plan.standard(length) for length in plan.lengths}
    say(f"memory: training steps at L={', '.join(settings)}, in processes of their own")
    peaks = peaks_of([(c, setting) for c in (REFERENCE, PRODUCT) for setting in settings.values()])
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
    return _gpu() or _CLEAR_REFS.exists()


def peaks_of(pairs: Iterable[tuple[str, Setting]]) -> dict[tuple[str, Setting], dict]:
    """`measure_here` of contenders at settings, each measured once."""
    missing = [pair for pair in dict.fromkeys(pairs) if pair not in _known]
    # The reference has one graph for all lengths, which takes longest to make.
    together = [s for contender, s in missing if contender == REFERENCE]
    jobs = [(REFERENCE, together)] if together else []
    jobs += [(PRODUCT, [s]) for contender, s in missing if contender == PRODUCT]
    # Two processes that share a GPU would disturb each other.
    at_once = 1 if _gpu() else min(_AT_ONCE, os.cpu_count() or 1)
    found = apart.in_fresh_processes(measure_here, jobs, at_once, variables=_WITHOUT_POOL)
    for (contender, settings), peaks in zip(jobs, found, strict=True):
        _known.update({(contender, s): peak for s, peak in zip(settings, peaks, strict=True)})
    return _known


def measure_here(contender: str, settings: Sequence[Setting]) -> list[dict[str, int]]:
    """Memory of training steps in this process, for settings that can share a graph.

    Returns:
      For each setting ``step_bytes``: the peak during steps above the level before them, and
      ``process_bytes``: the highest level of the process so far, preparing the graph included.
    """
    step = contenders.BY_NAME[contender](max(settings, key=lambda s: s.length))[TRAINING]
    peaks, highest = [], 0
    for setting in settings:
        batch = random_batch(setting, 0)
        step(batch)  # prepares the graph, which is no part of a step
        above = []
        for _ in range(_REPEATS):
            highest, before = max(highest, _peak()), _level()
            _reset_peak()
            for _ in range(_STEPS):
                step(batch)
            above.append(_peak() - before)
        highest = max(highest, _peak())
        peaks.append({"step_bytes": statistics.median(above), "process_bytes": highest})
    return peaks


def _gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


def _level() -> int:
    """Bytes in use, after what is free was given back."""
    if _gpu():
        return tf.config.experimental.get_memory_info("GPU:0")["current"]
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
    return _status("VmRSS")


def _peak() -> int:
    if _gpu():
        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return _status("VmHWM")


def _reset_peak() -> None:
    if _gpu():
        tf.config.experimental.reset_memory_stats("GPU:0")
    else:
        _CLEAR_REFS.write_text(_RESET_PEAK)


def _status(key: str) -> int:
    (line,) = (x for x in _STATUS.read_text().splitlines() if x.startswith(f"{key}:"))
    return 1024 * int(line.split()[1])
