"""Asynchronous training: what the chief of a parameter-server cluster does."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

import tensorflow as tf

from diffumin_tf.errors import DiffuminError, NotFiniteError, TrainingError
from diffumin_tf.input.damage import plain_text
from diffumin_tf.model import RankingModel
from diffumin_tf.training.asynchronous.piece_work import AsynchronousState, PieceWork
from diffumin_tf.training.asynchronous.servers import RESTART, Attendance
from diffumin_tf.training.engine import Wishes

_POLL_SECONDS = 0.2
_DYING_SECONDS = 2.0  # a server that was killed may listen for longer than its connections last
_DRAIN_SECONDS = 20.0  # for the steps under way when training must end


class AsynchronousEngine:
    """Lets workers train a model whose weights lie on servers, each at its own pace.

    Every worker reads pieces of the training split, computes gradients by weights that others
    change meanwhile, and sends them to the servers, which apply them as they come. The chief hands
    out pieces and counts. Data and the folder of the run must have the same names for all tasks:
    workers read the data, and each server writes its own part of a checkpoint.

    A checkpoint knows which pieces are done with. After a restart, with however many workers and
    servers, the others are read again, from their beginning.

    Args:
        model: compiled, its weights and optimiser slots created in the scope of the strategy.
    """

    def __init__(
        self, model: RankingModel, state: AsynchronousState, work: PieceWork, attendance: Attendance
    ) -> None:
        self._model = model
        self._state = state
        self._work = work
        self._attendance = attendance
        self._counts = self._window_start = work.counts()
        self._metrics: dict[str, float] = {}
        self._is_amid_epoch = False

    def epoch(self, wishes: Callable[[], Wishes]) -> Iterator[Wishes]:
        self._work.start(self._state.epoch, self._state.pieces_done)
        self._is_amid_epoch = True
        while self._is_amid_epoch:
            time.sleep(_POLL_SECONDS)
            self._attendance.look()
            is_finished = self._is_finished()
            self.catch_up()
            self._is_amid_epoch = not is_finished
            yield wishes()

    def restart_metrics(self) -> None:
        self._model.reset_metrics()
        self._window_start = self._counts

    def metrics(self) -> dict[str, float]:
        samples = self._counts.samples - self._window_start.samples
        if samples:
            metrics = {metric.name: float(metric.result()) for metric in self._model.metrics}
            loss = (self._counts.loss - self._window_start.loss) / samples
            self._metrics = {**metrics, "loss": loss}
        return self._metrics

    def catch_up(self) -> None:
        before, self._counts = self._counts, self._work.counts()
        steps, samples = self._counts.steps - before.steps, self._counts.samples - before.samples
        self._state.advance(steps, samples)
        if self._is_amid_epoch:
            self._state.pieces_done = self._work.done()

    def end_updates(self) -> None:
        self._work.stop()
        end = time.monotonic() + _DRAIN_SECONDS
        while not self._is_finished() and time.monotonic() < end:
            time.sleep(_POLL_SECONDS / 4)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turns errors of workers and of connections to them into one clear error."""
        logger = tf.get_logger()
        level = logger.level
        logger.setLevel(logging.CRITICAL)  # no stack trace of every worker that is lost
        try:
            yield
        except DiffuminError:
            raise
        except Exception as raised:
            error = _original(raised)
            if not isinstance(error, tf.errors.OpError):
                raise
            self._work.raise_if_damaged(error)
            self._attendance.check_servers()
            time.sleep(_DYING_SECONDS)
            self._attendance.check_servers()
            raise TrainingError(
                f"a task of the cluster failed: {plain_text(error)}; {RESTART}"
            ) from None
        finally:
            logger.setLevel(level)

    def _is_finished(self) -> bool:
        try:
            return self._work.finished()
        except Exception as raised:
            error = _original(raised)
            if isinstance(error, tf.errors.OpError) and "training loss" in error.message:
                step = self._state.step
                raise NotFiniteError(f"after step {step}: the loss is not finite") from None
            raise


def _original(error: Exception) -> Exception:
    """The error of a worker, which the coordinator may wrap in a class of its own."""
    return getattr(error, "original_exception", error)
