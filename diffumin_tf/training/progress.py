"""How fast training goes, how far it is, and the line that says so."""

import time
from collections.abc import Mapping

PROGRESS_SECONDS = 10.0


class Progress:
    """Counts samples and time; says how fast it goes and how long it takes.

    Args:
        epochs: epochs of the run.
        examples_per_epoch: samples of each; None when unknown.
        done_before: samples that earlier processes of the run trained on.
        done_in_epoch: how many of them in the epoch that is under way.
    """

    def __init__(
        self,
        epochs: int,
        examples_per_epoch: int | None,
        done_before: int = 0,
        done_in_epoch: int = 0,
    ) -> None:
        self._epochs = epochs
        self._per_epoch = examples_per_epoch
        self._before = done_before
        self._done = 0
        self._first = 0
        self._start = self._window_start = time.monotonic()
        self._window_done = 0
        self._this_epoch = done_in_epoch

    def count(self, samples: int) -> None:
        if not self._done:  # the first step compiles; it says nothing about the speed
            self._first = self._window_done = samples
            self._start = self._window_start = time.monotonic()
        self._done += samples
        self._this_epoch += samples

    def end_of_epoch(self) -> None:
        self._per_epoch = self._this_epoch
        self._this_epoch = 0

    def paused(self) -> "_Pause":
        return _Pause(self)

    def shift(self, seconds: float) -> None:
        self._start += seconds
        self._window_start += seconds

    def is_due(self) -> bool:
        return time.monotonic() - self._window_start > PROGRESS_SECONDS

    def overall_speed(self) -> float:
        return (self._done - self._first) / max(time.monotonic() - self._start, 1e-9)

    def recent_speed(self) -> float:
        samples = self._done - self._window_done
        if not samples:
            return self.overall_speed()
        return samples / max(time.monotonic() - self._window_start, 1e-9)

    def line(self, epoch: int, step: int, values: Mapping[str, float]) -> str:
        speed = self.recent_speed()
        self._window_start, self._window_done = time.monotonic(), self._done
        parts = [f"epoch {epoch + 1}/{self._epochs} step {step}"]
        parts += [f"{name} {value:.4f}" for name, value in values.items()]
        parts.append(f"{speed:,.0f} samples/s")
        if self._per_epoch and speed:
            done = self._before + self._done
            left = max(self._per_epoch * self._epochs - done, 0) / self.overall_speed()
            parts.append(f"{int(left) // 60}:{int(left) % 60:02d} left")
        return "  ".join(parts)


class _Pause:
    """Leaves the time of a block out of the progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __enter__(self) -> None:
        self._entered = time.monotonic()

    def __exit__(self, *exception) -> None:
        self._progress.shift(time.monotonic() - self._entered)
