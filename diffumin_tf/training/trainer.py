"""The training loop: epochs of steps, progress, validation, early stopping, checkpoints."""

import dataclasses
import time
from collections.abc import Callable, Iterable

import tensorflow as tf

from diffumin_tf.config import TaskConfig
from diffumin_tf.errors import TrainingError
from diffumin_tf.model import RankingModel, compiled_for_any_batch
from diffumin_tf.training.checkpoints import Checkpoints

PROGRESS_SECONDS = 10.0

# What tf.summary.scalar writes; that function needs the tensorboard package to write, not to show.
_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1
)


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """How a run went.

    Attributes:
      steps: updates done.
      best_step: step whose weights the model holds now.
      best_auc: their validation AUC, None without a validation split.
      samples_per_second: over the whole run, the first step and validation left out.
    """

    steps: int
    best_step: int
    best_auc: float | None
    samples_per_second: float


class Trainer:
    """Trains a compiled model; leaves the best weights in it.

    Args:
      model: compiled, its weights created.
      config: epochs, validation, early stopping, checkpoint and summary intervals.
      checkpoints: where states go.
      summary_dir: folder for TensorBoard.
      validate: computes the validation metrics of the model as it is; None without validation.
      report: takes a line of progress.
    """

    def __init__(
        self,
        model: RankingModel,
        config: TaskConfig,
        step: tf.Variable,
        checkpoints: Checkpoints,
        summary_dir: str,
        validate: Callable[[], dict[str, float]] | None,
        report: Callable[[str], None] = print,
    ) -> None:
        self._model = model
        self._config = config
        self._step = step
        self._checkpoints = checkpoints
        self._summaries = tf.summary.create_file_writer(summary_dir)
        self._validate = validate
        self._report = report
        self._train_step = compiled_for_any_batch(model.train_step)
        self._best_auc: float | None = None
        self._best_step = 0
        self._without_improvement = 0
        self._last_save = time.monotonic()

    def fit(
        self, epoch_batches: Callable[[int], Iterable], examples_per_epoch: int | None
    ) -> TrainingResult:
        """Runs the epochs.

        Args:
          epoch_batches: batches of (inputs, label) of an epoch, by its number from 0.
          examples_per_epoch: for the time left; None when unknown.

        Raises:
          TrainingError: the loss is not finite; names the step and the last good checkpoint.
        """
        progress = _Progress(self._config.epoch, examples_per_epoch)
        try:
            for epoch in range(self._config.epoch):
                if not self._epoch(epoch, epoch_batches(epoch), progress):
                    break
                progress.end_of_epoch()
        except KeyboardInterrupt:
            self._report(f"step {int(self._step)}: interrupted; saved {self._checkpoints.save()}")
            raise
        self._save()
        if self._validate is None:
            self._keep_best(None)
        self._checkpoints.restore_best()
        self._summaries.flush()
        return TrainingResult(
            int(self._step), self._best_step, self._best_auc, progress.overall_speed()
        )

    def _epoch(self, epoch: int, batches: Iterable, progress: "_Progress") -> bool:
        """One epoch; False when early stopping ends the run."""
        every = self._config.evaluate_every_steps
        evaluated = reported = -1
        for inputs, label in batches:
            logs = self._update(inputs, label)
            progress.count(len(label))
            step = int(self._step)
            if step % self._config.save_summary_steps == 0:
                self._summarise("train/", logs, {"samples_per_second": progress.recent_speed()})
            if progress.is_due():
                reported = step
                self._report(progress.line(epoch, step, logs))
                self._model.reset_metrics()
            if time.monotonic() - self._last_save > self._config.save_checkpoints_secs:
                self._save()
            if every and step % every == 0:
                evaluated = step
                if not self._evaluate(progress):
                    return False
        step = int(self._step)
        if reported != step:
            self._report(progress.line(epoch, step, logs))
        return evaluated == step or self._evaluate(progress)

    def _update(self, inputs: dict[str, tf.Tensor], label: tf.Tensor) -> dict[str, tf.Tensor]:
        try:
            logs = self._train_step((inputs, label))
        except tf.errors.InvalidArgumentError as error:
            if "training loss" not in error.message:
                raise
            raise TrainingError(
                f"step {int(self._step) + 1}: the loss is not finite; lower learning_rate or "
                f"lazyAdam_learning_rate; last good checkpoint: {self._checkpoints.last_good}"
            ) from None
        self._step.assign_add(1)
        return logs

    def _evaluate(self, progress: "_Progress") -> bool:
        """Validates; False when there was no improvement for too long."""
        if self._validate is None:
            return True
        self._save()  # before anything can go wrong with the validation data
        with progress.paused():
            metrics = self._validate()
        self._summarise("valid/", metrics)
        auc = metrics["auc"]
        if auc is None:
            raise TrainingError("the validation split holds one class only; it has no AUC")
        improved = self._best_auc is None or auc > self._best_auc
        self._report(
            f"step {int(self._step)}: validation auc {auc:.4f} logloss {metrics['logloss']:.4f} "
            f"calibration {metrics['calibration']:.3f}{' (best so far)' if improved else ''}"
        )
        if improved:
            self._keep_best(auc)
            self._without_improvement = 0
            return True
        self._without_improvement += 1
        patience = self._config.early_stopping_patience
        if patience and self._without_improvement >= patience:
            self._report(f"stopping early: best was step {self._best_step}")
            return False
        return True

    def _keep_best(self, auc: float | None) -> None:
        self._best_auc, self._best_step = auc, int(self._step)
        self._checkpoints.save_best()

    def _save(self) -> None:
        self._checkpoints.save()
        self._last_save = time.monotonic()

    def _summarise(self, prefix: str, *groups: dict) -> None:
        with self._summaries.as_default(step=self._step):
            for name, value in (item for group in groups for item in group.items()):
                if value is not None:
                    tf.summary.write(prefix + name, tf.cast(value, tf.float32), metadata=_SCALAR)


class _Progress:
    """Counts samples and time; says how fast it goes and how long it takes."""

    def __init__(self, epochs: int, examples_per_epoch: int | None) -> None:
        self._epochs = epochs
        self._per_epoch = examples_per_epoch
        self._done = 0
        self._first = 0
        self._start = self._window_start = time.monotonic()
        self._window_done = 0
        self._this_epoch = 0

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

    def line(self, epoch: int, step: int, logs: dict[str, tf.Tensor]) -> str:
        speed = self.recent_speed()
        self._window_start, self._window_done = time.monotonic(), self._done
        parts = [f"epoch {epoch + 1}/{self._epochs} step {step}"]
        parts += [f"{name} {float(value):.4f}" for name, value in logs.items()]
        parts.append(f"{speed:,.0f} samples/s")
        if self._per_epoch and speed:
            left = max(self._per_epoch * self._epochs - self._done, 0) / self.overall_speed()
            parts.append(f"{int(left) // 60}:{int(left) % 60:02d} left")
        return "  ".join(parts)


class _Pause:
    """Leaves the time of a block out of the progress."""

    def __init__(self, progress: _Progress) -> None:
        self._progress = progress

    def __enter__(self) -> None:
        self._entered = time.monotonic()

    def __exit__(self, *exception) -> None:
        self._progress.shift(time.monotonic() - self._entered)
