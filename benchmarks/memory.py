"""Memory that a training step needs beyond what is there before it, each in its own process."""

from __future__ import annotations

import ctypes
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence

import tensorflow as tf

from benchmarks import apart, contenders
from benchmarks.contenders import PRODUCT, REFERENCE, TRAINING
from benchmarks.plan import Plan
from benchmarks.settings import Setting, random_batch
from benchmarks.tables import table

# What runs beside what differs from step to step, and with it the peak.
_STEPS, _REPEATS = 2, 12
_STATUS, _CLEAR_REFS = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # what proc(5) says resets VmHWM
_AT_ONCE = 2
_M_MMAP_THRESHOLD, _MAPPED_FROM = -3, 2**16  # of mallopt(3); bytes
# With oneDNN, TensorFlow keeps what it once had in a pool, and a step that needs no more than the
# one before it would seem to need nothing.
WITHOUT_POOL = {"TF_ENABLE_ONEDNN_OPTS": "0"}

_known: dict[tuple[str, Setting], dict] = {}


def measure(plan: Plan, say: Callable[[str], None]) -> dict | None:
    """Peaks of both contenders by L, and their ratios; None where memory cannot be observed."""
    if not observable():
        say("memory: left out, because this system has no /proc/self/clear_refs")
        return None
    settings = {str(length): plan.standard(length) for length in plan.lengths}
    say(f"memory: training steps at L={', '.join(settings)}, in processes of their own")
    pairs = [(c, setting) for c in (REFERENCE, PRODUCT) for setting in settings.values()]
    # Those of the curve take no time to speak of in a process that is there.
    peaks = peaks_of([*pairs, *((PRODUCT, plan.standard(length)) for length in plan.curve)])
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
    jobs: dict[tuple, list[Setting]] = {}
    for contender, setting in dict.fromkeys(pairs):
        if (contender, setting) not in _known:
            job = (contender, contenders.shared(contender, setting))
            jobs.setdefault(job, []).append(setting)
    # Two processes that share a GPU would disturb each other.
    at_once = 1 if _gpu() else min(_AT_ONCE, os.cpu_count() or 1)
    arguments = [(contender, settings) for (contender, _), settings in jobs.items()]
    found = apart.in_fresh_processes(measure_here, arguments, at_once, variables=WITHOUT_POOL)
    for (contender, _), peaks in zip(arguments, found, strict=True):
        _known.update({(contender, setting): peak for setting, peak in peaks.items()})
    return _known


def measure_here(contender: str, settings: Sequence[Setting]) -> dict[Setting, dict[str, int]]:
    """Memory of training steps in this process, for settings that share a graph.

    Returns:
        By setting `step_bytes`: the highest peak during steps above the level before them, and
        `process_bytes`: the highest level of the process so far, preparing the graph included.
    """
    return_freed_memory()
    peaks, highest = {}, 0
    for setting in sorted(settings, key=lambda s: s.length):
        step = contenders.BY_NAME[contender](setting)[TRAINING]
        batch = random_batch(setting, 0)
        step(batch)  # prepares the graph, which is no part of a step
        above = []
        for _ in range(_REPEATS):
            highest = max(highest, _peak())
            above.append(peak_above(functools.partial(_some_steps, step, batch)))
        highest = max(highest, _peak())
        peaks[setting] = {"step_bytes": max(above), "process_bytes": highest}
    return peaks


def peak_above(call: Callable[[], object]) -> int:
    """Bytes of the highest peak during a call above the level before it."""
    before = _level()
    _reset_peak()
    call()
    return _peak() - before


def return_freed_memory() -> None:
    """Has glibc return the memory of a tensor when it is freed, so that the level tells its use."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM)


def _some_steps(step: Callable, batch: object) -> None:
    for _ in range(_STEPS):
        step(batch)


def _gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


def _level() -> int:
    """Bytes in use."""
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
