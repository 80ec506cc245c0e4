"""Asynchronous training: the chief of a parameter-server cluster."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

import tensorflow as tf

from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import DiffuminError, NotFiniteError, TrainingError
from diffumin_tf.input.damage import plain_text
from diffumin_tf.model import RankingModel
from diffumin_tf.training.asynchronous.piece_work import AsynchronousState, Counts, PieceWork
from diffumin_tf.training.asynchronous.servers import RESTART, Attendance
from diffumin_tf.training.asynchronous.validation import BackgroundValidation, Validated
from diffumin_tf.training.checkpoints import Checkpoints
from diffumin_tf.training.loop import TrainingResult
from diffumin_tf.training.preemption import Preemption
from diffumin_tf.training.progress import Progress
from diffumin_tf.training.summaries import Summaries

_POLL_SECONDS = 0.2
_DYING_SECONDS = 2.0  # a server that was killed may listen for longer than its connections last
_DRAIN_SECONDS = 20.0  # for the steps under way when training must end


class AsynchronousTrainer:
    """Lets workers train a model whose weights lie on servers, each at its own pace.

    Every worker reads pieces of the training split, computes gradients by weights that others
    change meanwhile, and sends them to the servers, which apply them as they come. The chief hands
    out pieces, saves, and validates checkpoints beside training. Data and the folder of the run
    must be there for all tasks under the same names: workers read the data, and each server writes
    its own part of a checkpoint.

    A checkpoint knows which pieces are done with. After a restart, with however many workers and
    servers, the others are read again, from their beginning.

    Args:
        model: compiled, its weights and optimiser slots created in the scope of the strategy.
        config: epochs, validation, early stopping, checkpoint and summary intervals.
        state: where training is; from a checkpoint, or fresh.
        checkpoints: where states go.
        work: hands pieces of the data to the workers.
        validation: validates checkpoints, and keeps the best weights.
        summaries: takes scalars for TensorBoard.
        attendance: tells which tasks are there.
        preemption: tells that the process must end.
        report: takes a line of progress.
    """

    def __init__(
        self,
        model: RankingModel,
        config: TaskConfig,
        state: AsynchronousState,
        checkpoints: Checkpoints,
        work: PieceWork,
        validation: BackgroundValidation,
        summaries: Summaries,
        attendance: Attendance,
        preemption: Preemption,
        report: Callable[[str], None] = print,
    ) -> None:
        self._model = model
        self._config = config
        self._state = state
        self._checkpoints = checkpoints
        self._work = work
        self._validation = validation
        self._summaries = summaries
        self._attendance = attendance
        self._preemption = preemption
        self._report = report
        self._progress = Progress(config.epoch, None)
        self._before = state.step, state.samples
        self._counts = self._told = self._summarised = work.counts()
        self._is_amid_epoch = False
        self._is_validation_due = False
        self._last_save = time.monotonic()

    def fit(self, examples: int | None) -> TrainingResult:
        """Runs the epochs that are left.

        Args:
            examples: samples of an epoch; None when unknown.

        Raises:
            TrainingError: the loss is not finite, a server is lost, or all workers are.
            DataError: a file is gone or damaged.
            Preempted: the process was told to end; everything is saved.
        """
        state = self._state
        in_epoch = max(state.samples - state.epoch * examples, 0) if examples else 0
        self._progress = Progress(self._config.epoch, examples, state.samples, in_epoch)
        with self._preemption.deferred(), self._explained(), _quiet_coordinator():
            try:
                if self._validation.is_wanted and 0 < state.step != state.validated_step:
                    # A result that was found after the checkpoint is lost with the process.
                    self._validation.start(state.step, self._checkpoints.last_good)
                while state.epoch < self._config.epoch and not state.stopped:
                    self._epoch()
                self._last_validation()
            finally:
                self._validation.end()
        self._report(f"updates by worker: {', '.join(map(str, self._counts.by_worker))}")
        self._summaries.flush()
        return TrainingResult(
            state.step, state.best_step, state.best_auc, self._progress.overall_speed()
        )

    def _epoch(self) -> None:
        """What is left of an epoch; validation at its end goes on beside the next one."""
        state = self._state
        self._work.start(state.epoch, state.pieces_done)
        self._is_amid_epoch = True
        while not self._work.finished():
            time.sleep(_POLL_SECONDS)
            self._attendance.look()
            self._heed_preemption()
            before = state.step
            self._count()
            self._after_steps(before)
            if state.stopped:
                self._end_steps()
                return
        self._count()
        if self._counts.steps > self._told.steps:
            self._tell()
        self._is_amid_epoch = False
        self._progress.end_of_epoch()
        state.next_epoch()
        self._is_validation_due = True

    def _count(self) -> None:
        """Brings the state up to what the workers have done."""
        before, self._counts = self._counts, self._work.counts()
        if self._counts.samples > before.samples:
            self._progress.count(self._counts.samples - before.samples)
        self._state.step = self._before[0] + self._counts.steps
        self._state.samples = self._before[1] + self._counts.samples

    def _after_steps(self, before: int) -> None:
        """All that is due now and then; the step was `before` when this was called last."""
        state, config = self._state, self._config

        def passed(interval: int) -> bool:
            return interval > 0 and state.step // interval > before // interval

        if passed(config.save_summary_steps):
            speed = {"samples_per_second": self._progress.recent_speed()}
            self._summaries.write("train/", state.step, {**self._values(self._summarised), **speed})
            self._summarised = self._counts
        if self._progress.is_due() and self._counts.steps:
            self._tell()
        seconds = time.monotonic() - self._last_save
        if passed(config.save_checkpoints_steps) or seconds > config.save_checkpoints_secs:
            self._save()
        self._is_validation_due |= passed(config.evaluate_every_steps)
        self._validate_beside()

    def _tell(self) -> None:
        state = self._state
        self._report(self._progress.line(state.epoch, state.step, self._values(self._told)))
        self._told = self._counts
        self._model.reset_metrics()

    def _values(self, since: Counts) -> dict[str, float]:
        """The metrics, and the mean loss since then."""
        metrics = {metric.name: float(metric.result()) for metric in self._model.metrics}
        samples = max(self._counts.samples - since.samples, 1)
        return {**metrics, "loss": (self._counts.loss - since.loss) / samples}

    def _save(self) -> str:
        """Saves; returns the path.

        The position is noted first: what is trained on while the weights are being written is done
        twice after a restart, never left out.
        """
        self._count()
        if self._is_amid_epoch:
            self._state.pieces_done = self._work.done()
        path = self._checkpoints.save()
        self._last_save = time.monotonic()
        return path

    def _validate_beside(self) -> None:
        """Takes a result that is there; begins the validation that is due if none is under way."""
        result = self._validation.result()
        if result:
            self._heed(result)
        if self._is_validation_due and self._validation.is_wanted and self._validation.is_idle:
            path = self._save()
            self._validation.start(self._state.step, path)
            self._is_validation_due = False

    def _last_validation(self) -> None:
        """Validates the last weights, after what is under way."""
        state, validation = self._state, self._validation
        self._await_validation()
        path = self._save()
        if not validation.is_wanted:
            if state.best_step != state.step:
                validation.load(state.step, path)
                state.best_step = state.step
                self._validation.save_best()
        elif not state.stopped and state.validated_step != state.step:
            validation.start(state.step, path)
            self._await_validation()

    def _await_validation(self) -> None:
        while not self._validation.is_idle:
            time.sleep(_POLL_SECONDS)
            self._heed_preemption()
            result = self._validation.result()
            if result:
                self._heed(result)

    def _heed(self, result: Validated) -> None:
        """Keeps the best weights; notes when there was no improvement for too long."""
        state, (step, metrics) = self._state, result
        self._summaries.write("valid/", step, metrics)
        improved, lines = state.judge(step, metrics, self._config.early_stopping_patience)
        for line in lines:
            self._report(line)
        if improved:
            self._validation.save_best()

    def _heed_preemption(self) -> None:
        if self._preemption.requested:
            path, step = self._leave(), self._state.step
            told = f"saved {path}; start the same command again on all tasks to go on"
            if self._preemption.interrupted:
                self._report(f"step {step}: interrupted; {told}")
            self._preemption.stop(f"step {step}: stopped by SIGTERM; {told}")

    def _leave(self) -> str:
        """Ends training before its time; returns the path of the last checkpoint."""
        self._end_steps()
        return self._save()

    def _end_steps(self) -> None:
        """Lets the workers end the steps that they are in."""
        self._work.stop()
        end = time.monotonic() + _DRAIN_SECONDS
        while not self._work.finished() and time.monotonic() < end:
            time.sleep(_POLL_SECONDS / 4)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns an error of a worker, or of the connection to it, into one clear sentence."""
        try:
            yield
        except NotFiniteError as error:
            raise self._not_finite(str(error)) from None
        except DiffuminError:
            raise
        except Exception as raised:
            # The coordinator wraps some errors in classes of its own.
            error = getattr(raised, "original_exception", raised)
            if not isinstance(error, tf.errors.OpError):
                raise
            if "training loss" in error.message:
                where = f"after step {self._state.step}: the loss is not finite"
                raise self._not_finite(where) from None
            self._work.raise_if_damaged(error)
            self._attendance.check_servers()
            time.sleep(_DYING_SECONDS)
            self._attendance.check_servers()
            raise TrainingError(
                f"a task of the cluster failed: {plain_text(error)}; {RESTART}"
            ) from None

    def _not_finite(self, what: str) -> TrainingError:
        return TrainingError(
            f"{what}; lower learning_rate or lazyAdam_learning_rate; last good checkpoint: "
            f"{self._checkpoints.last_good}"
        )


@contextlib.contextmanager
def _quiet_coordinator() -> Iterator[None]:
    """Keeps back the stack traces that TensorFlow logs of every worker that is lost."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
