"""Wall clocks: steps of several contenders in turn, and the spread of what they took."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """Median, lowest and highest of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def per_second(self, samples: int) -> Spread:
        """Seconds a step as samples a second."""
        return Spread(samples / self.median, samples / self.high, samples / self.low)


class Timed(NamedTuple):
    """How one contender did.

    Attributes:
        first_seconds: its first call, which traces and compiles.
        seconds: a step, one value a round.
    """

    first_seconds: float
    seconds: list[float]


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
            for place in range(steps[name]):
                step(batches[(turn + place) % len(batches)])
            seconds[name].append((time.perf_counter() - start) / steps[name])
    return {name: Timed(firsts[name], seconds[name]) for name in contenders}


def ratios(slow: Timed, fast: Timed) -> Spread:
    """How many times faster `fast` is than `slow`, round by round."""
    return Spread.of([s / f for s, f in zip(slow.seconds, fast.seconds, strict=True)])
