"""The training loop: epochs of steps, progress, validation, early stopping, checkpoints."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import tensorflow as tf

from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import NotFiniteError
from diffumin_tf.model import RankingModel
from diffumin_tf.training.checkpoints import Checkpoints
from diffumin_tf.training.preemption import Preemption
from diffumin_tf.training.progress import Progress
from diffumin_tf.training.state import TrainingState
from diffumin_tf.training.step import Requests, TrainingStep
from diffumin_tf.training.strategy import Distribution
from diffumin_tf.training.summaries import Summaries


class TrainingData(Protocol):
    """Where the batches of an epoch come from.

    Attributes:
        spec: types of a batch, known once an epoch was begun.
        examples: samples of an epoch; None when unknown.
    """

    spec: Any
    examples: int | None

    def epoch(self, number: int, skip: int) -> Iterator:
        """Batches of an epoch, the first `skip` left out."""


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """How a run went.

    Attributes:
        steps: updates done.
        best_step: step whose weights are the best ones.
        best_auc: their validation AUC, None without a validation split.
        samples_per_second: since this process began, the first step and validation left out.
    """

    steps: int
    best_step: int
    best_auc: float | None
    samples_per_second: float


class Trainer:
    """Trains a compiled model from where its state says to the end.

    Args:
        model: compiled, its weights created.
        config: epochs, validation, early stopping, checkpoint and summary intervals.
        state: where training is; from a checkpoint, or fresh.
        checkpoints: where states go.
        summaries: takes scalars for TensorBoard.
        validate: computes the validation metrics of the model as it is; None without validation.
        distribution: how the model is spread over devices.
        preemption: tells that the process must end.
        report: takes a line of progress.
    """

    def __init__(
        self,
        model: RankingModel,
        config: TaskConfig,
        state: TrainingState,
        checkpoints: Checkpoints,
        summaries: Summaries,
        validate: Callable[[], dict[str, float]] | None,
        distribution: Distribution,
        preemption: Preemption,
        report: Callable[[str], None] = print,
    ) -> None:
        self._model = model
        self._config = config
        self._state = state
        self._checkpoints = checkpoints
        self._summaries = summaries
        self._validate = validate
        self._preemption = preemption
        self._report = report
        self._step = TrainingStep(model, distribution)
        self._distribution = distribution
        self._reported_step = -1
        self._last_save = time.monotonic()

    def fit(self, data: TrainingData) -> TrainingResult:
        """Runs the epochs that are left.

        Raises:
            TrainingError: the loss is not finite, and `max_rollbacks` are used up; names the step
                and the last good checkpoint.
            Preempted, KeyboardInterrupt: the process was told to end; everything is saved.
        """
        state = self._state
        progress = Progress(
            self._config.epoch,
            data.examples,
            state.samples,
            state.batch * self._config.batch_size,
        )
        with self._preemption.deferred():
            while state.epoch < self._config.epoch and not state.stopped:
                try:
                    self._epoch(data, progress)
                except NotFiniteError as error:
                    self._roll_back(error)
        if self._validate is None and state.best_step != state.step:
            state.best_step = state.step
            self._checkpoints.save_best()
        self._summaries.flush()
        return TrainingResult(state.step, state.best_step, state.best_auc, progress.overall_speed())

    def _epoch(self, data: TrainingData, progress: Progress) -> None:
        """What is left of an epoch, with the validation at its end."""
        state, every = self._state, self._config.evaluate_every_steps
        if every and state.batch and state.step % every == 0 and not self._evaluated(progress):
            return
        logs: dict[str, Any] = {}
        for batch in data.epoch(state.epoch, state.batch):
            logs, samples, requests = self._updated(batch, data, progress)
            state.advance(samples)
            progress.count(samples)
            self._after_step(requests, logs, progress)
            if every and state.step % every == 0 and not self._evaluated(progress):
                return
        if logs and self._reported_step != state.step:
            self._tell(logs, progress)
        self._save()
        if self._evaluated(progress):
            progress.end_of_epoch()
            state.next_epoch()

    def _updated(self, batch: Any, data: TrainingData, progress: Progress) -> tuple:
        state = self._state
        if state.step % self._config.save_summary_steps == 0 or state.batch == 0:
            self._model.reset_metrics()
        try:
            return self._step(batch, data.spec, self._requests(progress))
        except tf.errors.InvalidArgumentError as error:
            if "training loss" not in error.message:
                raise
            self._state.batch += 1
            raise NotFiniteError(f"step {self._state.step + 1}: the loss is not finite") from None

    def _requests(self, progress: Progress) -> Requests:
        """What this process wants done after the step; with several workers, all will do it."""
        seconds = time.monotonic() - self._last_save
        return Requests(
            stop=self._preemption.requested,
            save=seconds > self._config.save_checkpoints_secs,
            report=progress.is_due(),
        )

    def _after_step(self, requests: Requests, logs: dict[str, Any], progress: Progress) -> None:
        step, config = self._state.step, self._config
        if step % config.save_summary_steps == 0:
            speed = {"samples_per_second": progress.recent_speed()}
            self._summaries.write("train/", step, {**self._step.values(logs), **speed})
        if requests.report:
            self._tell(logs, progress)
        by_steps = config.save_checkpoints_steps
        if requests.stop:
            saved = self._checkpoints.save()
            told = f"saved {saved}; start the same command again to go on"
            if self._preemption.interrupted:
                self._report(f"step {step}: interrupted; {told}")
            self._distribution.end_together(lambda: tf.io.gfile.exists(f"{saved}.index"))
            self._preemption.stop(f"step {step}: stopped by SIGTERM; {told}")
        if requests.save or (by_steps and step % by_steps == 0):
            self._save()

    def _tell(self, logs: dict[str, Any], progress: Progress) -> None:
        state = self._state
        self._reported_step = state.step
        self._report(progress.line(state.epoch, state.step, self._step.values(logs)))

    def _roll_back(self, error: NotFiniteError) -> None:
        """Back to the last checkpoint, past the data since then; or the end of the run."""
        state, allowed = self._state, self._config.max_rollbacks
        before = dataclasses.replace(state)
        if state.rollbacks >= allowed or not self._checkpoints.restore(self._report):
            used = f", or raise max_rollbacks {allowed}" if before.rollbacks >= allowed > 0 else ""
            none = ", or set save_checkpoints_steps" if before.rollbacks < allowed else ""
            raise NotFiniteError(
                f"{error}; lower learning_rate or lazyAdam_learning_rate and begin in another "
                f"--model_dir{used}{none}; last good checkpoint: {self._checkpoints.last_good}"
            ) from None
        skipped = before.batch - state.batch if state.epoch == before.epoch else before.batch
        state.epoch, state.batch = before.epoch, before.batch
        state.rollbacks = before.rollbacks + 1
        if before.validated_step <= state.step:  # what was judged after the checkpoint was written
            state.keep_judgement(before)
        self._report(
            f"{error}; back to the weights of step {state.step}, {skipped} batches skipped "
            f"(rollback {state.rollbacks} of {allowed})"
        )

    def _evaluated(self, progress: Progress) -> bool:
        """Validates, once a step; False when there was no improvement for too long."""
        state = self._state
        if self._validate is None or state.validated_step == state.step:
            return True
        self._save()  # before anything can go wrong with the validation data
        with progress.paused(), self._preemption.deferred(self._distribution.workers > 1):
            metrics = self._validate()
        self._summaries.write("valid/", state.step, metrics)
        improved, lines = state.judge(state.step, metrics, self._config.early_stopping_patience)
        for line in lines:
            self._report(line)
        if improved:
            self._checkpoints.save_best()
        return not state.stopped

    def _save(self) -> None:
        self._checkpoints.save()
        self._last_save = time.monotonic()
