"""Memory that a training step needs beyond what is there before it."""

import ctypes
import pathlib
from collections.abc import Callable, Sequence

import tensorflow as tf

from benchmarks.contenders import PRODUCT, REFERENCE, TRAINING, Step, steps
from benchmarks.measuring import in_fresh_process, table
from benchmarks.samples import random_batch
from benchmarks.settings import Plan, Setting
from diffumin_tf import devices
from diffumin_tf.input.batch import Batch

# What runs beside what differs from step to step, and with it the peak.
_STEPS, _REPEATS = 2, 12
_STATUS, _CLEAR_REFS = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # what proc(5) says resets VmHWM
_M_MMAP_THRESHOLD, _MAPPED_FROM = -3, 2**16  # of mallopt(3); bytes
# With oneDNN, TensorFlow keeps what it once had in a pool, and a step that needs no more than the
# one before it would seem to need nothing.
WITHOUT_POOL = {"TF_ENABLE_ONEDNN_OPTS": "0"}


def measure(plan: Plan, say: Callable[[str], None]) -> dict | None:
    """Peaks of both contenders by L, and their ratios; None where memory cannot be observed."""
    if not observable():
        say(f"memory: left out, because this system has no {_CLEAR_REFS}")
        return None
    settings, peaks = [plan.standard.at(length) for length in sorted(plan.lengths)], {}
    for contender in (PRODUCT, REFERENCE):
        say(f"memory: training steps of the {contender}, in a process of its own")
        peaks[contender] = in_fresh_process(
            peaks_of_steps, contender, settings, variables=WITHOUT_POOL
        )
    rows, ratios = [], {}
    for setting, product, reference in zip(settings, *peaks.values(), strict=True):
        rows.append({"length": setting.length, PRODUCT: product, REFERENCE: reference})
        ratios[str(setting.length)] = product / reference
    return {"rows": rows, "ratios": {"peak_memory": ratios}}


def tables(result: dict | None) -> list[str]:
    """Megabytes, and the product's share of the reference's."""
    if result is None:
        return []
    ratios = result["ratios"]["peak_memory"]
    rows = [
        [
            f"L={row['length']:,}",
            *(f"{row[contender] / 1e6:,.0f}" for contender in (PRODUCT, REFERENCE)),
            f"{ratios[str(row['length'])]:.3f}",
        ]
        for row in result["rows"]
    ]
    header = ["MB", PRODUCT, REFERENCE, "product / reference (less is better)"]
    return [table("memory of a training step, above what was there before it", header, rows)]


def peaks_of_steps(contender: str, settings: Sequence[Setting]) -> list[int]:
    """Bytes of the highest peak during training steps above the level before them, by setting."""
    return [
        peak_of(steps(contender, setting)[TRAINING], random_batch(setting, 0))
        for setting in settings
    ]


def peak_of(step: Step, batch: Batch) -> int:
    """Bytes of the highest peak during steps on a batch above the level before them."""
    _return_freed_memory()
    step(batch)  # prepares the graph, which is no part of a step
    above = []
    for _ in range(_REPEATS):
        before = _level()
        _reset_peak()
        for _ in range(_STEPS):
            step(batch)
        above.append(_peak() - before)
    return max(above)


def observable() -> bool:
    """Whether this system tells the peak of a process."""
    return _gpu() or _CLEAR_REFS.exists()


def _return_freed_memory() -> None:
    """Has glibc return the memory of a tensor when it is freed, so that the level tells its use."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM)


def _gpu() -> bool:
    return devices.gpus() > 0


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
