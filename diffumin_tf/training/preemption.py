"""SIGTERM, by which schedulers announce that they take the machine away."""

import contextlib
import signal
import threading
from collections.abc import Iterator

from diffumin_tf.errors import Preempted

_MESSAGE = "stopped by SIGTERM; start the same command again to go on"


class Preemption:
    """Notes SIGTERM while training; outside of steps it raises `Preempted` at once.

    Attributes:
      requested: whether the signal came.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False

    @contextlib.contextmanager
    def watched(self) -> Iterator["Preemption"]:
        """Listens for the signal; Python allows that in the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = signal.signal(signal.SIGTERM, self._received)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)

    @contextlib.contextmanager
    def deferred(self, is_deferred: bool = True) -> Iterator[None]:
        """A block that sees to `requested` itself, or, nested and false, one that does not."""
        before, self._deferred = self._deferred, is_deferred
        try:
            if self.requested and not is_deferred:
                raise Preempted(_MESSAGE)
            yield
        finally:
            self._deferred = before

    def _received(self, number: int, frame: object) -> None:
        self.requested = True
        if not self._deferred:
            raise Preempted(_MESSAGE)
