"""Validation while training waits or goes on beside it, and the best weights that it finds."""

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from diffumin_tf.evaluation.scoring import predict_function, score
from diffumin_tf.model import RankingModel
from diffumin_tf.training.checkpoints import Checkpoints, read_weights
from diffumin_tf.training.state import TrainingState

Metrics = dict[str, Any]


class WaitingValidation:
    """Validates the model that is trained, which waits."""

    is_beside = False  # training does not go on meanwhile

    def __init__(self, validate: Callable[[], Metrics], checkpoints: Checkpoints) -> None:
        self._validate = validate
        self.save_best = checkpoints.save_best

    def start(self, step: int, checkpoint: str) -> concurrent.futures.Future[Metrics]:
        """Validates the weights of a checkpoint, which the model has."""
        done: concurrent.futures.Future[Metrics] = concurrent.futures.Future()
        done.set_result(self._validate())
        return done


class BackgroundValidation:
    """Validates by a model of its own, in a thread of its own; ends with its `with` block.

    Args:
        model: compiled, on one device, used by nobody else.
    """

    is_beside = True

    def __init__(
        self, model_dir: str, model: RankingModel, batches: Callable[[], Iterable]
    ) -> None:
        self._model = model
        self._batches = batches
        self._predict = predict_function(model)
        self._loaded = TrainingState()
        self._saved = Checkpoints(model_dir, model, self._loaded, keep=1)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "validation")
        self._is_cancelled = False

    def __enter__(self) -> "BackgroundValidation":
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_cancelled = True
        self._thread.shutdown()

    def start(self, step: int, checkpoint: str) -> concurrent.futures.Future[Metrics]:
        """Begins to validate the weights of a checkpoint; one at a time."""
        read_weights(checkpoint, self._model)
        self._loaded.step = step
        return self._thread.submit(lambda: score(self._predict, self._until_cancelled()).metrics())

    def save_best(self) -> None:
        """Saves the weights that were validated last as the best ones so far."""
        self._saved.save_best()

    def _until_cancelled(self) -> Iterator:
        for batch in self._batches():
            if self._is_cancelled:
                raise concurrent.futures.CancelledError
            yield batch


Validation = WaitingValidation | BackgroundValidation
