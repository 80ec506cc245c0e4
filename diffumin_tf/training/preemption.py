"""SIGTERM, by which schedulers announce that they take the machine away, and Ctrl-C."""

import contextlib
import signal
import threading
from collections.abc import Iterator

from diffumin_tf.errors import Preempted

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_MESSAGE = "stopped by SIGTERM; start the same command again to go on"


class Preemption:
    """Handles SIGTERM and Ctrl-C: at once, or after the step in a `deferred` block.

    A second Ctrl-C always ends the process at once.

    Attributes:
        requested: whether one of them came.
        interrupted: whether Ctrl-C did.
    """

    def __init__(self) -> None:
        self.requested = self.interrupted = False
        self._deferred = False

    @contextlib.contextmanager
    def watched(self) -> Iterator["Preemption"]:
        """Listens for the signals; Python allows that in the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._received) for number in _SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self, is_deferred: bool = True) -> Iterator[None]:
        """A block in which a signal only sets `requested`; with False, it ends the process."""
        before, self._deferred = self._deferred, is_deferred
        try:
            if self.requested and not is_deferred:
                self.stop(_MESSAGE)
            yield
        finally:
            self._deferred = before

    def stop(self, message: str) -> None:
        """Raises what ends the process: Preempted, or KeyboardInterrupt after Ctrl-C."""
        raise KeyboardInterrupt if self.interrupted else Preempted(message)

    def _received(self, number: int, frame: object) -> None:
        again, self.requested = self.interrupted, True
        self.interrupted |= number == signal.SIGINT
        if again or not self._deferred:
            self.stop(_MESSAGE)
