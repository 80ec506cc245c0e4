"""Cells as child processes: some at a time, none left behind."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from diffumin_tf.comparison.cell import JOBS, THREADS, TIED
from diffumin_tf.comparison.cell_folder import LOG, CellFolder
from diffumin_tf.terminal import LOG_LEVEL

_POLL_SECONDS, _GRACE_SECONDS = 0.1, 60.0


class Process(Protocol):
    """What is needed of `subprocess.Popen`."""

    def poll(self) -> int | None:
        """Exit code; None while it runs."""

    def terminate(self) -> None:
        """Tells it to end."""

    def kill(self) -> None:
        """Ends it."""

    def wait(self, timeout: float | None = None) -> int:
        """Exit code, once it ended."""


Start = Callable[[str, int], Process]


def start_cell(folder: str, jobs: int) -> Process:
    """Starts the process of a cell; what it prints goes to its log.

    Args:
        folder: of the cell.
        jobs: how many cells run at a time and share the processor cores.
    """
    environment = {**os.environ, JOBS: str(jobs)}
    environment.setdefault(LOG_LEVEL, "3")
    if jobs > 1:
        environment[THREADS] = str(max(1, (os.cpu_count() or 1) // jobs))
        # The first one would take all memory of a GPU otherwise.
        environment.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    command = [sys.executable, "-m", "diffumin_tf.comparison.cell", folder, TIED]
    with open(CellFolder(folder).file(LOG), "a", encoding="utf-8") as log:
        # A session of its own: Ctrl-C reaches this process alone, which then ends its children.
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,  # by whose end the child learns that this process is gone
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def run_all(
    folders: Sequence[str],
    jobs: int,
    ended: Callable[[str, int], None],
    start: Start = start_cell,
) -> None:
    """Runs the cells of all folders, `jobs` at a time; ends those that run if it is interrupted.

    Args:
        folders: in the order in which to start them.
        jobs: how many at a time.
        ended: is told the folder and the exit code of each.
        start: starts one.
    """
    waiting, running = list(folders), {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running[waiting[0]] = start(waiting[0], jobs)
                waiting.pop(0)
            for folder, process in list(running.items()):
                code = process.poll()
                if code is not None:
                    del running[folder]
                    ended(folder, code)
            if len(running) == jobs or not waiting and running:
                time.sleep(_POLL_SECONDS)
    finally:
        _end(list(running.values()))


def _end(processes: Sequence[Process]) -> None:
    """Tells processes to end, which save where they are, and ends those that do not."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
