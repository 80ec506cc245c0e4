"""Tasks in processes, and a line that says how far they are."""

import concurrent.futures
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TextIO

from diffumin_tf.errors import DataError
from diffumin_tf.terminal import quietly

_LINE_SECONDS = 15.0  # between lines where there is no terminal
_REDRAW_SECONDS = 0.3
_BYTES_A_JOB = 16 * 2**20  # a process takes seconds to start …
_MOST_JOBS = 8  # … and a gigabyte of memory

_Task = Callable[[Any, Callable[[int, float], None]], None]
_reports: Any = None  # of a process of the pool: where it tells how far it is


def sensible_jobs(files: int, total_bytes: int) -> int:
    """How many processes are worth their start."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, files, total_bytes // _BYTES_A_JOB, _MOST_JOBS))


def run_tasks(task: _Task, arguments: Sequence[Any], jobs: int, total_bytes: int) -> None:
    """Calls `task(argument, report)` for every argument.

    Args:
        task: a function of a module; it reports (samples, bytes of input) as it goes.
        jobs: processes; 1 works in this one.
        total_bytes: of all input.

    Raises:
        DataError: a process died.
    """
    progress = Progress(total_bytes)
    if jobs == 1 or len(arguments) <= 1:
        for argument in arguments:
            task(argument, progress.add)
        progress.close()
        return
    context = multiprocessing.get_context("spawn")
    reports = context.Queue()
    pool = concurrent.futures.ProcessPoolExecutor(jobs, context, _begin, (reports,))
    try:
        waiting = {pool.submit(_call, task, argument) for argument in arguments}
        while waiting:
            done, waiting = concurrent.futures.wait(
                waiting, _REDRAW_SECONDS, concurrent.futures.FIRST_COMPLETED
            )
            while not reports.empty():
                progress.add(*reports.get())
            for future in done:
                future.result()
    except BrokenProcessPool:
        raise DataError(
            "a process ended without a word, most likely for want of memory; "
            "start again with fewer --jobs: finished files are kept"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
    progress.close()


def _begin(reports: Any) -> None:
    """Makes a process of the pool ready: no GPU, no notices, an end with its parent's."""
    global _reports
    _reports = reports
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # what the parent says is enough
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    with quietly():
        import tensorflow  # noqa: F401


def _call(task: _Task, argument: Any) -> None:
    task(argument, lambda *counts: _reports.put(counts))


class Progress:
    """Counts samples and bytes of input, and says how far the work is."""

    def __init__(self, total_bytes: int, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._total, self._bytes, self._samples = total_bytes, 0.0, 0
        self._first: tuple[int, float] | None = None  # tells nothing of the speed: it came late
        self._start = self._last = 0.0

    def add(self, samples: int, read_bytes: float) -> None:
        now = time.monotonic()
        self._samples += samples
        self._bytes += read_bytes
        if self._first is None:
            self._first = samples, read_bytes
            self._start = self._last = now
        on_screen = self._out.isatty()
        if now - self._last >= (_REDRAW_SECONDS if on_screen else _LINE_SECONDS):
            self._last = now
            begin, end = ("\r", "") if on_screen else ("", "\n")
            print(f"{begin}{self.line(now - self._start)}", end=end, file=self._out, flush=True)

    def line(self, seconds: float) -> str:
        """Share of the input, samples, speed and the time that is left."""
        samples, read_bytes = self._first
        share = min(self._bytes / max(self._total, 1), 1.0)
        left = int(seconds * (self._total - self._bytes) / max(self._bytes - read_bytes, 1e-9))
        bar = ("#" * round(20 * share)).ljust(20, ".")
        speed = f"{self._samples:,} samples  {(self._samples - samples) / seconds:,.0f}/s"
        return f"[{bar}] {share:4.0%}  {speed}  {left // 60}:{left % 60:02d} left "

    def close(self) -> None:
        if self._out.isatty():
            print("\r\x1b[K", end="", file=self._out, flush=True)
