"""How fast training goes, how far it is, and the line that says so."""

import contextlib
import time
from collections.abc import Iterator, Mapping

PROGRESS_SECONDS = 10.0


class Progress:
    """Counts samples and time.

    Args:
        examples_per_epoch: None when unknown.
        done_before: samples that earlier processes of the run trained on.
        done_in_epoch: how many of them in the epoch that is under way.
    """

    def __init__(
        self, epochs: int, examples_per_epoch: int | None, done_before: int, done_in_epoch: int
    ) -> None:
        self._epochs = epochs
        self._per_epoch = examples_per_epoch
        self._before = done_before
        self._this_epoch = done_in_epoch
        self._done = self._first = self._window_done = 0
        self._start = self._window_start = time.monotonic()

    def count(self, samples: int) -> None:
        if not self._done:  # the first step compiles; it says nothing about the speed
            self._first = self._window_done = samples
            self._start = self._window_start = time.monotonic()
        self._done += samples
        self._this_epoch += samples

    def end_of_epoch(self) -> None:
        self._per_epoch = self._this_epoch
        self._this_epoch = 0

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time of a block out."""
        entered = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - entered
            self._start += seconds
            self._window_start += seconds

    def is_due(self) -> bool:
        return time.monotonic() - self._window_start > PROGRESS_SECONDS

    def overall_speed(self) -> float:
        """Samples a second since the first step."""
        return (self._done - self._first) / max(time.monotonic() - self._start, 1e-9)

    def recent_speed(self) -> float:
        """Samples a second since the last line."""
        samples = self._done - self._window_done
        if not samples:
            return self.overall_speed()
        return samples / max(time.monotonic() - self._window_start, 1e-9)

    def line(self, epoch: int, step: int, values: Mapping[str, float]) -> str:
        """Epoch, step, values, speed and the time that is left."""
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
