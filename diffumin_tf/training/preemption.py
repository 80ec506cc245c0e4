"""SIGTERM, by which schedulers announce that they take the machine away, and Ctrl-C."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from diffumin_tf.errors import Preempted

_MESSAGE = "stopped by SIGTERM; start the same command again to go on"


@contextlib.contextmanager
def handled(handler: Callable[[int, Any], None] | signal.Handlers, *signals: int) -> Iterator[None]:
    """A block in which a handler takes signals; Python allows that in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class Preemption:
    """Handles SIGTERM and Ctrl-C: at once, or after the step in a `deferred` block.

    A second Ctrl-C always ends the process at once. `requested` is true when one of them came,
    `interrupted` when Ctrl-C did.
    """

    def __init__(self) -> None:
        self.requested = self.interrupted = False
        self._deferred = False

    @contextlib.contextmanager
    def watched(self) -> Iterator["Preemption"]:
        """Listens for the signals."""
        with handled(self._received, signal.SIGTERM, signal.SIGINT):
            yield self

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
