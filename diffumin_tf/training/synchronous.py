"""Synchronous training: one update for each batch, made by all replicas together."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from diffumin_tf.errors import NotFiniteError
from diffumin_tf.input.batch import Batch
from diffumin_tf.input.dataset import Batches
from diffumin_tf.layers import replicas, xla
from diffumin_tf.model import RankingModel
from diffumin_tf.training import one_cluster
from diffumin_tf.training.engine import Wishes
from diffumin_tf.training.one_cluster import OneCluster
from diffumin_tf.training.state import TrainingState
from diffumin_tf.training.strategy import Distribution


class SynchronousEngine:
    """`model.update` on every replica, as one graph for all batch sizes.

    With `jit_compile`, full batches of the only replica have a graph of their own: `OneCluster`.

    Several processes must save, validate and stop at the same step. Each sends its wishes with
    every step; they are summed up like the gradients. What one process wishes, all do one step
    later, so that nobody waits for the sum.

    Args:
        model: compiled; built in the scope of the strategy.
        data: batches for the replicas of this process.
        jit_compile: whether XLA compiles the step.
    """

    def __init__(
        self,
        model: RankingModel,
        data: Batches,
        state: TrainingState,
        distribution: Distribution,
        jit_compile: bool = False,
    ) -> None:
        self._model = model
        self._data = data
        self._state = state
        self._strategy = distribution.strategy
        self._workers = distribution.workers
        self._wants_one_cluster = jit_compile and not distribution.is_distributed
        self._losses: dict[str, tf.Tensor] = {}
        self._restarts_metrics = False
        self._sum_of_wishes: tf.Tensor | None = None
        self._agreed = Wishes()

    def epoch(self, wishes: Callable[[], Wishes]) -> Iterator[Wishes]:
        state = self._state
        for batch in self._data.epoch(state.epoch, state.batch):
            if self._restarts_metrics:
                self._model.reset_metrics()
                self._restarts_metrics = False
            agreed = self._step(batch, wishes())
            labels = self._strategy.experimental_local_results(batch.label)
            samples = sum(len(label) for label in labels)
            state.advance(1, samples * self._workers)
            yield agreed

    def restart_metrics(self) -> None:
        self._restarts_metrics = True

    def metrics(self) -> dict[str, float]:
        results = self._metrics_of_replicas() | self._losses
        return {name: float(value) for name, value in results.items()}

    def catch_up(self) -> None:
        """Nothing happens between two steps."""

    def end_updates(self) -> None:
        """No update is under way between two steps."""

    def _step(self, batch: Batch, wishes: Wishes) -> Wishes:
        """Updates the model once; returns what to do now."""
        try:
            graph = self._graph_of(batch)
            self._losses, total = graph(batch, tf.constant(wishes, tf.float32))
        except tf.errors.InvalidArgumentError as error:
            if "training loss" not in error.message:
                raise
            self._state.batch += 1
            raise NotFiniteError(f"step {self._state.step + 1}: the loss is not finite") from None
        return wishes if self._workers == 1 else self._agree(total)

    def _graph_of(self, batch: Batch) -> Callable[..., Any]:
        """The one in a single cluster, for batches of full size where there may be such a one."""
        full = self._has_one_cluster and len(batch.label) == self._data.batch_size
        return self._full_graph if full else self._any_graph

    @functools.cached_property
    def _has_one_cluster(self) -> bool:
        return self._wants_one_cluster and one_cluster.fits(self._model, self._data.spec)

    @functools.cached_property
    def _full_graph(self) -> Callable[..., Any]:
        cluster = OneCluster(self._model, self._data.batch_size)
        return self._traced(lambda batch, wishes: (cluster.update(batch), wishes))

    @functools.cached_property
    def _any_graph(self) -> Callable[..., Any]:
        if not self._has_one_cluster:
            return self._traced(self._update)

        def uncompiled(batch: Batch, wishes: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
            with xla.not_by_parts():  # which would be compiled for a single batch, the last one
                return self._update(batch, wishes)

        return self._traced(uncompiled)

    def _traced(self, update: Callable[..., Any]) -> Callable[..., Any]:
        wishes = tf.TensorSpec([len(Wishes._fields)], tf.float32)
        # Layers branch by TensorFlow's own operations; to convert their code takes long.
        return tf.function(update, input_signature=[self._data.spec, wishes], autograph=False)

    def _update(self, batch: Batch, wishes: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        def on_replica(batch: Batch, wishes: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
            if self._workers > 1:
                # A copy, since what is reduced must have a device, and arguments have none.
                wishes = replicas.total(tf.identity(wishes))
            return self._model.update(batch), wishes

        results = self._strategy.run(on_replica, args=(batch, wishes))
        return tf.nest.map_structure(self._first, results)

    def _agree(self, total: tf.Tensor) -> Wishes:
        """What was wished for with the step before, and is not done yet."""
        before, self._sum_of_wishes = self._sum_of_wishes, total
        wishes = Wishes() if before is None else Wishes(*(before.numpy() > 0))
        # A process repeats its wish until it is done, so that the next step holds it once more.
        self._agreed = Wishes(*(w and not a for w, a in zip(wishes, self._agreed, strict=True)))
        return self._agreed

    @functools.cached_property
    def _metrics_of_replicas(self) -> Callable[[], dict[str, tf.Tensor]]:
        """Metrics of all replicas as a graph; outside of one, each variable is summed by itself."""

        def results() -> dict[str, tf.Tensor]:
            return {metric.name: metric.result() for metric in self._model.metrics}

        def on_replicas() -> dict[str, tf.Tensor]:
            return tf.nest.map_structure(self._first, self._strategy.run(results))

        return tf.function(on_replicas, input_signature=[], autograph=False)

    def _first(self, value: Any) -> tf.Tensor:
        """What is the same on all replicas."""
        return self._strategy.experimental_local_results(value)[0]
