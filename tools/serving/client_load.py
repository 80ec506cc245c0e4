"""Sends requests from several threads and measures how long each one took."""

import dataclasses
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from diffumin_tf.errors import ConfigError

Scores = dict[str, list[float]]

_GONE = 20  # requests in a row without an answer, after which no more are sent


class Failed(Exception):
    """A request came to nothing.

    Args:
        kind: in few words, the same for all failures of the kind.
        message: what the server or the system said.
        unanswered: whether no server answered at all.
    """

    def __init__(self, kind: str, message: str, unanswered: bool = False) -> None:
        super().__init__(message)
        self.kind, self.unanswered = kind, unanswered


class Transport(Protocol):
    """A way to a server."""

    def types(self) -> dict[str, str]:
        """Type of each input of the signature, as in `DT_INT64`; asks the server for it."""

    def encode(self, content: Any) -> Any:
        """Inputs by name, or Examples, as they are sent."""

    def size(self, encoded: Any) -> int:
        """Bytes of what `encode` made."""

    def connect(self) -> Callable[[Any], Any]:
        """A function for one thread that sends what `encode` made; raises Failed."""

    def decode(self, answer: Any) -> Scores:
        """Scores of an answer by name."""


@dataclasses.dataclass
class Outcome:
    """What became of the requests.

    Attributes:
        seconds: from the first request to the last answer.
        answered: milliseconds of each answered request, in the order of the answers.
        scores: number of scores that came back.
        failures: by kind: how many, and the place and the message of the first.
        gone: whether it was given up because the server was.
        interrupted: whether it was ended by Ctrl-C.
    """

    seconds: float = 0.0
    answered: list[float] = dataclasses.field(default_factory=list)
    scores: int = 0
    failures: dict[str, tuple[int, str, str]] = dataclasses.field(default_factory=dict)
    gone: bool = False
    interrupted: bool = False

    def lines(self) -> list[str]:
        """The report."""
        failed = sum(count for count, *_ in self.failures.values())
        rate = len(self.answered) / self.seconds if self.seconds else 0.0
        lines = [
            f"sent {len(self.answered) + failed:,} in {self.seconds:.2f} s: "
            f"{len(self.answered):,} answered, {rate:,.1f} a second, with {self.scores:,} scores"
        ]
        if self.answered:
            told = ", ".join(f"p{q} {percentile(self.answered, q):.2f}" for q in (50, 95, 99))
            lines.append(f"ms from request to answer: {told}, longest {max(self.answered):.2f}")
        for kind, (count, place, message) in sorted(self.failures.items()):
            lines.append(f"{count:,} failed, {kind}; the first, {place}: {message}")
        if self.gone:
            lines.append(f"given up after {_GONE} requests in a row without an answer")
        if self.interrupted:
            lines.append("interrupted")
        return lines


def not_served(server: str, model: str, error: Failed, port: str) -> ConfigError:
    """Why a model cannot be asked; `port` tells the usual one, and the flag that changes it."""
    if not error.unanswered:
        return ConfigError(f"{server}: model {model!r}: {error}")
    protocol = port.split()[0]
    return ConfigError(
        f"{server}: no TensorFlow Serving answers by {protocol}: {error}; its {port} says otherwise"
    )


def no_signature(server: str, signature: str, known: Iterable[str]) -> ConfigError:
    """A model answers nothing of that name."""
    only = ", ".join(sorted(known))
    return ConfigError(f"{server}: the model has no signature {signature!r}, only {only}")


def percentile(values: Sequence[float], q: float) -> float:
    """The smallest of the values that at least q percent of them do not exceed."""
    return sorted(values)[max(math.ceil(q * len(values) / 100), 1) - 1]


def send_all(
    transport: Transport,
    encoded: Sequence[tuple[str, Any]],
    count: int | None,
    seconds: float | None,
    threads: int,
    keep: Callable[[int, str, Scores], None],
) -> Outcome:
    """Sends requests in turn, from the first one again where there are too few.

    Ctrl-C ends it as well, once those under way are answered.

    Args:
        transport: the way to the server.
        encoded: place and encoded content of each request.
        count: how many to send; None sends until the time is up.
        seconds: how long to send; None sends until there were as many.
        threads: how many are under way at a time.
        keep: called with number, place and scores of each answered request, one at a time.
    """
    sending = _Sending(transport, encoded, count, seconds, keep)
    with ThreadPoolExecutor(threads) as pool:
        try:
            for worker in [pool.submit(sending.work) for _ in range(threads)]:
                worker.result()
        except KeyboardInterrupt:
            sending.outcome.interrupted = True
        finally:
            sending.stop.set()
    sending.outcome.seconds = time.perf_counter() - sending.start
    return sending.outcome


class _Sending:
    """What the threads of `send_all` share; arguments as there."""

    def __init__(self, transport, encoded, count, seconds, keep) -> None:
        self._transport, self._encoded = transport, encoded
        self._seconds, self._keep = seconds, keep
        self._numbers = itertools.count() if count is None else iter(range(count))
        self._lock = threading.Lock()
        self._in_a_row = 0  # requests without an answer
        self.outcome, self.stop = Outcome(), threading.Event()
        self.start = time.perf_counter()

    def work(self) -> None:
        """What one thread does."""
        send = self._transport.connect()
        while not self.stop.is_set() and not self._is_late():
            with self._lock:
                number = next(self._numbers, None)
            if number is None:
                return
            place, content = self._encoded[number % len(self._encoded)]
            sent = time.perf_counter()
            try:
                answer = send(content)
                took = time.perf_counter() - sent
                scores = self._transport.decode(answer)
            except Failed as error:
                self._failed(place, error)
            else:
                self._answered(number, place, took, scores)

    def _is_late(self) -> bool:
        return self._seconds is not None and time.perf_counter() - self.start >= self._seconds

    def _failed(self, place: str, error: Failed) -> None:
        said = (str(error).splitlines() or [""])[0]  # TensorFlow adds nodes below
        with self._lock:
            before, *first = self.outcome.failures.get(error.kind, (0, place, said))
            self.outcome.failures[error.kind] = before + 1, *first
            self._in_a_row = self._in_a_row + 1 if error.unanswered else 0
            if self._in_a_row == _GONE:
                self.outcome.gone = True
                self.stop.set()

    def _answered(self, number: int, place: str, took: float, scores: Scores) -> None:
        with self._lock:
            self._in_a_row = 0
            self.outcome.answered.append(1e3 * took)
            self.outcome.scores += max(map(len, scores.values()), default=0)
            self._keep(number, place, scores)
