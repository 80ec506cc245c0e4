"""One training step on every replica, and what the processes of a run agree on beside it."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from diffumin_tf.layers import replicas
from diffumin_tf.model import RankingModel
from diffumin_tf.training.strategy import Distribution


class Requests(NamedTuple):
    """What is wanted after a step.

    Attributes:
        stop: save and end.
        save: save.
        report: tell how training goes.
    """

    stop: bool = False
    save: bool = False
    report: bool = False


class TrainingStep:
    """`model.update` on every replica, as one graph for all batch sizes.

    Several processes must save, validate and stop at the same step. Each says with every step
    what it wants; what any of them wants, all do, one step later, when the sum of the wishes is
    there without anybody waiting for it.

    Args:
        model: compiled; built in the scope of the strategy.
        distribution: where it runs.
    """

    def __init__(self, model: RankingModel, distribution: Distribution) -> None:
        self._model = model
        self._strategy = distribution.strategy
        self._alone = distribution.workers == 1
        self._graph: Callable[..., Any] | None = None
        self._wished: tf.Tensor | None = None
        self._agreed = Requests()

    def __call__(
        self, batch: Any, spec: Any, requests: Requests
    ) -> tuple[dict[str, tf.Tensor], int, Requests]:
        """Updates the model once.

        Args:
            batch: a `Batch` for the replicas of this process.
            spec: its type, the same for all batches.
            requests: what this process wants.

        Returns:
            The losses, the number of samples, and what to do now.
        """
        if self._graph is None:
            wishes = tf.TensorSpec([len(Requests._fields)], tf.float32)
            # Layers branch by TensorFlow's own operations; to convert their code takes long.
            self._graph = tf.function(self._update, input_signature=[spec, wishes], autograph=False)
        losses, wished = self._graph(batch, tf.constant(requests, tf.float32))
        labels = self._strategy.experimental_local_results(batch.label)
        samples = sum(len(label) for label in labels)
        if self._alone:
            return losses, samples, requests
        return losses, samples * self._workers(), self._settle(wished)

    def values(self, losses: dict[str, tf.Tensor]) -> dict[str, float]:
        """Metrics so far and the losses of a step; all processes must ask at the same step."""
        results = self._metrics() | losses
        return {name: float(value) for name, value in results.items()}

    def _update(self, batch: Any, wishes: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        def on_replica(batch: Any, wishes: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
            if not self._alone:
                # A copy, since what is reduced must have a device, and arguments have none.
                wishes = replicas.total(tf.identity(wishes))
            return self._model.update(batch), wishes

        results = self._strategy.run(on_replica, args=(batch, wishes))
        return tf.nest.map_structure(self._first, results)

    def _settle(self, wished: tf.Tensor) -> Requests:
        """What was wished for with the step before, and is not done yet."""
        before, self._wished = self._wished, wished
        wishes = Requests() if before is None else Requests(*(before.numpy() > 0))
        # A wish is repeated until it is heard, one step after it came true.
        self._agreed = Requests(*(w and not a for w, a in zip(wishes, self._agreed, strict=True)))
        return self._agreed

    @functools.cached_property
    def _metrics(self) -> Callable[[], dict[str, tf.Tensor]]:
        """Metrics of all replicas as a graph; outside of one, each variable is summed by itself."""

        def results() -> dict[str, tf.Tensor]:
            return {metric.name: metric.result() for metric in self._model.metrics}

        def on_replicas() -> dict[str, tf.Tensor]:
            return tf.nest.map_structure(self._first, self._strategy.run(results))

        return tf.function(on_replicas, input_signature=[], autograph=False)

    def _first(self, value: Any) -> tf.Tensor:
        """What is the same on all replicas."""
        return self._strategy.experimental_local_results(value)[0]

    def _workers(self) -> int:
        local = self._strategy.extended.worker_devices
        return self._strategy.num_replicas_in_sync // len(local)
