"""Validation beside training, and the best weights that it finds."""

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from diffumin_tf.evaluation.scoring import predict_function, score
from diffumin_tf.model import RankingModel
from diffumin_tf.training.checkpoints import Checkpoints
from diffumin_tf.training.state import TrainingState


class Validated(NamedTuple):
    """Validation metrics of the weights after a step."""

    step: int
    metrics: dict[str, Any]


class BackgroundValidation:
    """Scores training checkpoints by a model of its own, in a thread of its own, one at a time.

    Args:
        model_dir: folder of the run.
        model: compiled, on one device, used by nobody else; holds the weights that were loaded
            last.
        batches: gives the batches to score; None where nothing is validated.
    """

    def __init__(
        self, model_dir: str, model: RankingModel, batches: Callable[[], Iterable] | None
    ) -> None:
        self._model = model
        self._batches = batches
        self._predict = predict_function(model)
        self._loaded = TrainingState()
        self._saved = Checkpoints(model_dir, model, self._loaded, keep=1)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "validation")
        self._running: concurrent.futures.Future | None = None
        self._cancelled = False

    @property
    def is_wanted(self) -> bool:
        """Whether there is anything to validate on."""
        return self._batches is not None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being validated, and no result waits to be taken."""
        return self._running is None

    def load(self, step: int, checkpoint: str) -> None:
        """Takes the weights of a training checkpoint, into however many parts it was cut."""
        status = tf.train.Checkpoint(model=self._model).read(checkpoint)
        status.assert_existing_objects_matched().expect_partial()
        self._loaded.step = step

    def start(self, step: int, checkpoint: str) -> None:
        """Loads the weights of a training checkpoint, and begins to validate them."""
        self.load(step, checkpoint)
        self._running = self._thread.submit(lambda: score(self._predict, self._until_cancelled()))

    def result(self) -> Validated | None:
        """Takes the result; None while there is none. Raises what went wrong."""
        if self._running is None or not self._running.done():
            return None
        running, self._running = self._running, None
        return Validated(self._loaded.step, running.result().metrics())

    def save_best(self) -> None:
        """Saves the loaded weights as the best ones so far."""
        self._saved.save_best()

    def end(self) -> None:
        """Ends what is going on, and drops its result."""
        self._cancelled = True
        self._thread.shutdown()

    def _until_cancelled(self) -> Iterator:
        for batch in self._batches():
            if self._cancelled:
                raise concurrent.futures.CancelledError
            yield batch
