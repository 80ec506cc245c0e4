"""Checkpoints of a run: the latest few, from which it goes on, and the best by validation."""

import contextlib
import posixpath
import re
from collections.abc import Callable

import tensorflow as tf

from diffumin_tf.errors import DataError, NotFiniteError, TrainingError
from diffumin_tf.files import is_disk_full, sync, write_text
from diffumin_tf.model import RankingModel
from diffumin_tf.training.state import TrainingState

BEST = "best"
LATEST = "checkpoints"
VALUE = ".ATTRIBUTES/VARIABLE_VALUE"  # how the key of a variable in a checkpoint ends
_PREFIX = "ckpt"
# What TensorFlow raises on reading a file that is cut short, damaged, gone, or of another model.
UNREADABLE = (AssertionError, DataError, LookupError, RuntimeError, ValueError, tf.errors.OpError)


class Checkpoints:
    """Saves a model with its optimisers and its place in the data, and the best weights apart.

    A checkpoint appears complete or not at all: its index file is written last. Several workers
    must call the same methods at the same step, since some variables are summed over them; the
    chief alone writes into the folder of the run.

    Args:
        model: a compiled model whose weights and optimiser slots exist.
        keep: how many of the latest checkpoints stay.
        worker: None for the chief; the name of any other worker.
    """

    def __init__(
        self,
        model_dir: str,
        model: RankingModel,
        state: TrainingState,
        keep: int,
        worker: str | None = None,
    ) -> None:
        self._model = model
        self._state = state
        self._keep = keep
        self._scratch = worker and posixpath.join(model_dir, f".{worker.replace(' ', '-')}")
        self._folder = posixpath.join(model_dir, LATEST)
        self._best_folder = posixpath.join(model_dir, BEST)
        self._whole = tf.train.Checkpoint(
            model=model,
            optimizer=model.optimizer,
            table_optimizer=model.table_optimizer,
            state=state,
        )
        self._weights = _weights_of(model)
        self._saved_step = -1

    def save(self) -> str:
        """Saves the state of training, once a step at most; returns the path.

        Raises:
            NotFiniteError: a weight is not finite; nothing is saved.
            TrainingError: the disk is full; nothing is kept of it.
        """
        for variable in self._model.variables:
            if variable.dtype.is_floating and not _is_finite(variable):
                raise NotFiniteError(
                    f"step {self._state.step}: weight {variable.name} is not finite"
                )
        if self._saved_step != self._state.step:
            self._write(self._whole, self._folder, self._keep)
            self._saved_step = self._state.step
        return self._path(self._folder)

    def save_best(self) -> None:
        self._write(self._weights, self._best_folder, keep=1)

    def restore(self, report: Callable[[str], None]) -> bool:
        """Restores the newest readable checkpoint; False if there is none.

        A damaged one is reported and removed, and the one before is taken.

        Raises:
            TrainingError: there are checkpoints, and none can be read; they stay.
        """
        paths, damaged = complete(self._folder), []
        for path in reversed(paths):
            try:
                self._whole.read(path).assert_existing_objects_matched()
            except UNREADABLE as error:
                reason = str(error).strip().partition("\n")[0][:200]
                report(f"{path}: cannot be read, trying the one before: {reason}")
                damaged.append(path)
                continue
            self._saved_step = self._state.step
            for other in damaged if not self._scratch else ():
                _remove(other)
            return True
        if damaged:
            raise TrainingError(
                f"{self._folder}: none of the {len(paths)} checkpoints can be read; choose another "
                "--model_dir, or remove them to start from the beginning"
            )
        return False

    @property
    def last_good(self) -> str:
        """Path of the latest checkpoint, or words that there is none."""
        return (complete(self._folder) or ["none was saved yet"])[-1]

    def _path(self, folder: str) -> str:
        return posixpath.join(folder, f"{_PREFIX}-{self._state.step}")

    def _write(self, content: tf.train.Checkpoint, folder: str, keep: int) -> None:
        path = self._path(self._scratch or folder)
        tf.io.gfile.makedirs(posixpath.dirname(path))
        try:
            content.write(path)
            sync([*tf.io.gfile.glob(path + ".*"), posixpath.dirname(path)])
        except (tf.errors.OpError, OSError) as error:
            _remove(path)
            if not is_disk_full(error):
                raise
            raise TrainingError(
                f"{path}: no space left on the disk; nothing of it was kept; last good "
                f"checkpoint: {self.last_good}; make room and start the same command again"
            ) from None
        if self._scratch:
            tf.io.gfile.rmtree(self._scratch)
            return
        paths = complete(folder)
        for old in paths[:-keep]:
            _remove(old)
        _list_for_others(folder, paths[-keep:])


def complete(folder: str) -> list[str]:
    """Paths of the complete checkpoints in a folder, the newest last."""
    if not tf.io.gfile.isdir(folder):
        return []
    found = [re.fullmatch(rf"({_PREFIX}-(\d+))\.index", n) for n in tf.io.gfile.listdir(folder)]
    names = sorted((int(match[2]), match[1]) for match in found if match)
    return [posixpath.join(folder, name) for _, name in names]


def latest(model_dir: str) -> str | None:
    """Path of the latest checkpoint of a run; None without any."""
    return (complete(posixpath.join(model_dir, LATEST)) or [None])[-1]


def best(model_dir: str) -> str | None:
    """Path of the best weights of a run, or of its latest checkpoint where it never validated.

    Raises:
        DataError: the weights are of an earlier version, which numbered them.
    """
    paths = complete(posixpath.join(model_dir, BEST))
    if not paths:
        return latest(model_dir)
    if _is_numbered(paths[-1]):
        raise DataError(
            f"{paths[-1]}: written by an earlier version, which numbered the weights; remove "
            f"{posixpath.join(model_dir, BEST)} to take those of the latest checkpoint, or use "
            "the version that trained the run"
        )
    return paths[-1]


def has_any(model_dir: str) -> bool:
    return any(complete(posixpath.join(model_dir, folder)) for folder in (LATEST, BEST))


def clean(model_dir: str) -> None:
    """Removes what a killed process left of checkpoints that it was writing."""
    for folder in (posixpath.join(model_dir, LATEST), posixpath.join(model_dir, BEST)):
        if not tf.io.gfile.isdir(folder):
            continue
        whole = {posixpath.basename(path) for path in complete(folder)}
        for name in tf.io.gfile.listdir(folder):
            started = re.match(rf"({_PREFIX}-\d+)\.", name)
            if (started and started[1] not in whole) or ".tmp" in name or "_temp" in name:
                with contextlib.suppress(tf.errors.OpError):
                    tf.io.gfile.remove(posixpath.join(folder, name))


def read_weights(path: str, model: RankingModel) -> None:
    """Puts the weights of a checkpoint into a model, into however many parts each was cut."""
    status = _weights_of(model).read(path)
    status.assert_existing_objects_matched().expect_partial()


def restore_weights(model_dir: str, model: RankingModel) -> None:
    """Loads the best weights of a run into a model whose weights exist.

    Raises:
        DataError: the run has no checkpoint, or one of another model.
    """
    path = best(model_dir)
    if path is None:
        raise DataError(
            f"{model_dir}: no checkpoint in {BEST} or {LATEST}; did `diffumin train` finish?"
        )
    try:
        read_weights(path, model)
    except UNREADABLE as error:
        raise DataError(f"{path}: does not fit {model_dir}/config.json: {error}") from None


def _weights_of(model: RankingModel) -> tf.train.Checkpoint:
    """A model without its optimisers, by the names that it has in a whole checkpoint."""
    children = tf.train.TrackableView.children(model)
    parts = {name: child for name, child in children.items() if "optimizer" not in name}
    return tf.train.Checkpoint(model=tf.train.Checkpoint(**parts))


def _is_numbered(path: str) -> bool:
    try:
        return tf.train.load_checkpoint(path).has_tensor(f"weights/0/{VALUE}")
    except UNREADABLE:
        return False  # reading it will fail, with a message of its own


def _is_finite(variable: tf.Variable) -> bool:
    with tf.device(variable.device):  # a part of the table stays on its server
        return bool(tf.reduce_all(tf.math.is_finite(variable)))


def _list_for_others(folder: str, paths: list[str]) -> None:
    """Writes the file by which TensorFlow's own tools find the latest checkpoint."""
    names = [posixpath.basename(path) for path in paths]
    lines = [f'model_checkpoint_path: "{names[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
    write_text(posixpath.join(folder, "checkpoint"), "\n".join(lines) + "\n")


def _remove(path: str) -> None:
    """Removes a checkpoint, its index first, so that the rest is never taken for one."""
    for file in [f"{path}.index", *tf.io.gfile.glob(path + ".*")]:
        with contextlib.suppress(tf.errors.OpError):
            tf.io.gfile.remove(file)
