"""Checkpoints of a run: the latest few, and the best by validation."""

import posixpath

import tensorflow as tf

from diffumin_tf.errors import DataError, TrainingError
from diffumin_tf.model import RankingModel

BEST = "best"
LATEST = "checkpoints"


class Checkpoints:
    """Saves a model with its optimisers and its step, and the weights of the best one apart.

    Args:
      model_dir: folder of the run.
      model: a compiled model whose weights exist.
      step: int64 variable, updates done.
      keep: latest checkpoints kept.
    """

    def __init__(self, model_dir: str, model: RankingModel, step: tf.Variable, keep: int) -> None:
        self._model = model
        self._step = step
        state = tf.train.Checkpoint(
            model=model,
            optimizer=model.optimizer,
            table_optimizer=model.table_optimizer,
            step=step,
        )
        self._latest = tf.train.CheckpointManager(
            state, posixpath.join(model_dir, LATEST), max_to_keep=keep
        )
        self._best = tf.train.CheckpointManager(
            tf.train.Checkpoint(weights=model.variables), best_folder(model_dir), max_to_keep=1
        )

    def save(self) -> str:
        """Saves the state of training.

        Raises:
          TrainingError: a weight is not finite; nothing is saved.
        """
        for variable in self._model.variables:
            if variable.dtype.is_floating and not tf.reduce_all(tf.math.is_finite(variable)):
                raise TrainingError(
                    f"step {int(self._step)}: weight {variable.name} is not finite; "
                    f"last good checkpoint: {self.last_good}"
                )
        return self._latest.save(checkpoint_number=self._step)

    def save_best(self) -> str:
        """Saves the weights as the best ones so far."""
        return self._best.save(checkpoint_number=self._step)

    def restore_best(self) -> None:
        """Puts the best weights back into the model."""
        self._best.restore_or_initialize()

    @property
    def last_good(self) -> str:
        """Path of the latest checkpoint, or words that there is none."""
        return self._latest.latest_checkpoint or "none was saved yet"


def best_folder(model_dir: str) -> str:
    """Where the best weights of a run lie."""
    return posixpath.join(model_dir, BEST)


def restore_weights(model_dir: str, model: RankingModel) -> str:
    """Loads the best weights of a run into a model whose weights exist.

    A run that ended before its first validation has none; then its latest checkpoint serves.

    Returns:
      Path of the checkpoint.

    Raises:
      DataError: the run has no checkpoint, or one of another model.
    """
    path = tf.train.latest_checkpoint(best_folder(model_dir))
    state = tf.train.Checkpoint(weights=model.variables)
    if path is None:
        path = tf.train.latest_checkpoint(posixpath.join(model_dir, LATEST))
        state = tf.train.Checkpoint(model=model)
    if path is None:
        raise DataError(
            f"{model_dir}: no checkpoint in {BEST} or {LATEST}; did `diffumin train` finish?"
        )
    try:
        status = state.read(path)
        status.assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        raise DataError(f"{path}: does not fit {model_dir}/config.json: {error}") from None
    return path
