"""The training loop: epochs of updates, progress, validation, early stopping, checkpoints."""

import concurrent.futures
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import NotFiniteError
from diffumin_tf.training.checkpoints import Checkpoints
from diffumin_tf.training.engine import Engine, Wishes
from diffumin_tf.training.preemption import Preemption
from diffumin_tf.training.progress import Progress
from diffumin_tf.training.state import TrainingState
from diffumin_tf.training.strategy import Distribution
from diffumin_tf.training.summaries import Summaries
from diffumin_tf.training.validation import Validation

_POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long a run lasts and what is done how often, by the names of the configuration."""

    epoch: int
    batch_size: int
    early_stopping_patience: int
    evaluate_every_steps: int
    save_summary_steps: int
    save_checkpoints_steps: int
    save_checkpoints_secs: int
    max_rollbacks: int

    @classmethod
    def of(cls, config: TaskConfig) -> "Schedule":
        """The schedule of a configuration."""
        return cls(**{f.name: getattr(config, f.name) for f in dataclasses.fields(cls)})


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """How a run went."""

    steps: int
    best_step: int
    best_auc: float | None  # None without a validation split
    samples_per_second: float  # since this process began, the first step and validation left out


@dataclasses.dataclass(eq=False)
class TrainingLoop:
    """Trains from where the state says to the end."""

    engine: Engine
    schedule: Schedule
    state: TrainingState
    checkpoints: Checkpoints
    summaries: Summaries
    validation: Validation | None  # None without a validation split
    distribution: Distribution
    preemption: Preemption
    report: Callable[[str], None]

    def __post_init__(self) -> None:
        state, validation = self.state, self.validation
        self._reported_step = state.step
        self._last_save = time.monotonic()
        self._validating: tuple[int, concurrent.futures.Future[dict[str, Any]]] | None = None
        # Validation beside training may have lost a result with the process that began it.
        self._is_validation_due = validation is not None and validation.is_beside and state.step > 0

    def fit(self, examples: int | None) -> TrainingResult:
        """Runs the epochs that are left.

        Args:
            examples: samples of an epoch; None when unknown.

        Raises:
            TrainingError: the loss is not finite, and `max_rollbacks` are used up; names the step
                and the last good checkpoint.
            Preempted, KeyboardInterrupt: the process was told to end; everything is saved.
        """
        state, schedule = self.state, self.schedule
        self._progress = Progress(
            schedule.epoch,
            examples,
            state.samples,
            state.samples_in_epoch(schedule.batch_size, examples),
        )
        with self.preemption.deferred():
            while not self._is_done():
                pass
        if self.validation is None and state.best_step != state.step:
            state.best_step = state.step
            self.checkpoints.save_best()
        self.summaries.flush()
        speed = self._progress.overall_speed()
        return TrainingResult(state.step, state.best_step, state.best_auc, speed)

    def _is_done(self) -> bool:
        """Runs the epochs that are left, and validates; false after a way back to a checkpoint."""
        state = self.state
        try:
            while state.epoch < self.schedule.epoch and not state.stopped:
                self._epoch()
            self._await_validation()
            self._validate_if_due()
            self._await_validation()
        except NotFiniteError as error:
            self._roll_back(error)
            return False
        return True

    def _epoch(self) -> None:
        """What is left of an epoch, with the validation at its end."""
        state, schedule = self.state, self.schedule
        if state.batch == 0 or state.step % schedule.save_summary_steps == 0:
            self.engine.restart_metrics()
        self._reported_step, every = state.step, schedule.evaluate_every_steps
        self._is_validation_due |= bool(every and state.batch and state.step % every == 0)
        self._validate_if_due()
        if state.stopped:
            return
        step, samples = state.step, state.samples
        for wishes in self.engine.epoch(self._wishes):
            now = state.step, state.samples
            self._progress.count(now[1] - samples)
            self._after_updates(step, wishes)
            step, samples = now
            if state.stopped:
                self.engine.end_updates()
                self._save()
                return
        if self._reported_step != state.step:
            self._tell()
        self._save()
        self._is_validation_due = True
        self._validate_if_due()
        if not state.stopped:
            self._progress.end_of_epoch()
            state.next_epoch()

    def _wishes(self) -> Wishes:
        """What this process wants done after the step."""
        seconds = time.monotonic() - self._last_save
        return Wishes(
            stop=self.preemption.requested,
            save=seconds > self.schedule.save_checkpoints_secs,
            report=self._progress.is_due(),
        )

    def _after_updates(self, before: int, wishes: Wishes) -> None:
        """Summaries, progress, checkpoints and validation that are due since step `before`."""
        state, schedule = self.state, self.schedule

        def passed(interval: int) -> bool:
            return interval > 0 and state.step // interval > before // interval

        if passed(schedule.save_summary_steps):
            speed = {"samples_per_second": self._progress.recent_speed()}
            self.summaries.write("train/", state.step, {**self.engine.metrics(), **speed})
        if wishes.report and self._reported_step != state.step:
            self._tell()
        if passed(schedule.save_summary_steps):
            self.engine.restart_metrics()
        if wishes.stop:
            self._stop()
        if wishes.save or passed(schedule.save_checkpoints_steps):
            self._save()
        self._is_validation_due |= passed(schedule.evaluate_every_steps)
        self._validate_if_due()

    def _tell(self) -> None:
        state = self.state
        self._reported_step = state.step
        self.report(self._progress.line(state.epoch, state.step, self.engine.metrics()))

    def _stop(self) -> None:
        """Saves and ends, because of a signal."""
        self.engine.end_updates()
        path, step = self._save(), self.state.step
        tasks = " on all tasks" if self.distribution.cluster else ""
        remedy = f"saved {path}; start the same command again{tasks} to go on"
        if self.preemption.interrupted:
            self.report(f"step {step}: interrupted; {remedy}")
        self.distribution.end_together(lambda: tf.io.gfile.exists(f"{path}.index"))
        self.preemption.stop(f"step {step}: stopped by SIGTERM; {remedy}")

    def _roll_back(self, error: NotFiniteError) -> None:
        """Back to the last checkpoint, past the data since then; or the end of the run."""
        state, allowed = self.state, self.schedule.max_rollbacks
        before = dataclasses.replace(state)
        if state.rollbacks >= allowed or not self.checkpoints.restore(self.report):
            used = f", or raise max_rollbacks {allowed}" if before.rollbacks >= allowed > 0 else ""
            none = ", or set save_checkpoints_steps" if before.rollbacks < allowed else ""
            raise NotFiniteError(
                f"{error}; lower learning_rate or lazyAdam_learning_rate and begin in another "
                f"--model_dir{used}{none}; last good checkpoint: {self.checkpoints.last_good}"
            ) from None
        skipped = before.batch - state.batch if state.epoch == before.epoch else before.batch
        state.epoch, state.batch = before.epoch, before.batch
        state.rollbacks = before.rollbacks + 1
        if before.validated_step <= state.step:  # of a validation after the checkpoint was written
            state.keep_judgement(before)
        self.report(
            f"{error}; back to the weights of step {state.step}, {skipped} batches skipped "
            f"(rollback {state.rollbacks} of {allowed})"
        )

    def _validate_if_due(self) -> None:
        """Begins the validation that is due, if none is under way; takes the result if it is in."""
        state, validation = self.state, self.validation
        if validation is None:
            return
        if self._is_validation_due and not self._validating and not state.stopped:
            self._is_validation_due = False
            if state.validated_step != state.step:
                path = self._save()  # before anything can go wrong with the validation data
                self._validating = state.step, self._start_validation(path)
        if self._validating and self._validating[1].done():
            (step, done), self._validating = self._validating, None
            self._judge(step, done.result())

    def _start_validation(self, path: str) -> concurrent.futures.Future[dict[str, Any]]:
        step, validation = self.state.step, self.validation
        if validation.is_beside:
            return validation.start(step, path)
        # All is saved: SIGTERM may end the process at once, unless others wait for it.
        with self._progress.paused(), self.preemption.deferred(self.distribution.workers > 1):
            return validation.start(step, path)

    def _judge(self, step: int, metrics: dict[str, Any]) -> None:
        """Keeps the best weights; notes when there was no improvement for too long."""
        self.summaries.write("valid/", step, metrics)
        patience = self.schedule.early_stopping_patience
        improved, lines = self.state.judge(step, metrics, patience)
        for line in lines:
            self.report(line)
        if improved:
            self.validation.save_best()

    def _await_validation(self) -> None:
        while self._validating:
            time.sleep(_POLL_SECONDS)
            if self.preemption.requested:
                self._stop()
            self._validate_if_due()

    def _save(self) -> str:
        # The position in the data is noted before the weights are written. Workers that go on
        # meanwhile repeat some samples after a restart; none is left out.
        self.engine.catch_up()
        path = self.checkpoints.save()
        self._last_save = time.monotonic()
        return path
