"""Times of several contenders in turn, their spread, tables of it, and fresh processes."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

from diffumin_tf.terminal import quiet_stderr


@dataclasses.dataclass(frozen=True)
class Spread:
    """Median, lowest and highest of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int = 0) -> str:
        """`median (low–high)`."""
        median, low, high = (f"{value:,.{digits}f}" for value in (self.median, self.low, self.high))
        return f"{median} ({low}–{high})"


@dataclasses.dataclass(frozen=True)
class Timed:
    """How long one contender took.

    Attributes:
        first_seconds: its first call, which traces and compiles.
        seconds: of a step, one value a round.
    """

    first_seconds: float
    seconds: list[float]

    def per_second(self, samples: int) -> Spread:
        """Samples a second, where a step takes so many."""
        return Spread.of([samples / value for value in self.seconds])

    def milliseconds(self) -> Spread:
        """Milliseconds of a step."""
        return Spread.of([1000 * value for value in self.seconds])

    def times_faster_than(self, other: Timed) -> Spread:
        """Ratio of the times, round by round."""
        return Spread.of([o / s for s, o in zip(self.seconds, other.seconds, strict=True)])


def seconds_of(call: Callable[[], Any]) -> float:
    """Seconds that one call takes; the call must wait for its result."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turn(
    contenders: dict[str, Callable[[Any], Any]],
    batches: Sequence[Any],
    rounds: int,
    round_seconds: float,
) -> dict[str, Timed]:
    """Times contenders in turn, so that what slows the machine for a while slows all of them.

    Args:
        contenders: by name; each makes a step on a batch and waits for its result.
        batches: steps take one after the other.
        rounds: how often each contender has its turn.
        round_seconds: how long a turn should take; it is at least one step.

    Returns:
        Times by name. The first call, and a second one that warms up, are no part of the rounds.
    """
    firsts, steps = {}, {}
    for name, step in contenders.items():
        firsts[name] = seconds_of(lambda step=step: step(batches[0]))
        warm = seconds_of(lambda step=step: step(batches[-1]))
        steps[name] = max(1, math.ceil(round_seconds / warm))
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name, step in contenders.items():
            start = time.perf_counter()
            for i in range(steps[name]):
                step(batches[(turn + i) % len(batches)])
            seconds[name].append((time.perf_counter() - start) / steps[name])
    return {name: Timed(firsts[name], seconds[name]) for name in contenders}


def in_fresh_process(function: Callable, *arguments: Any, variables: dict[str, str]) -> Any:
    """Calls a function of a module in a new process, so that neither leaves a trace in the other.

    Args:
        function: what to call.
        arguments: its arguments.
        variables: environment variables that TensorFlow reads when it is loaded.
    """
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn) as pool:
        with mock.patch.dict(os.environ, variables), quiet_stderr():
            call = pool.submit(function, *arguments)  # starts the process
        return call.result()


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as text; the first column is aligned to the left, all others to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells
    ]
    return "\n".join(["", title, lines[0], "-" * len(lines[0]), *lines[1:]])
