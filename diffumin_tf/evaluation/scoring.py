"""Scores of a whole data set, in its order."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from diffumin_tf.evaluation import metrics
from diffumin_tf.input.batch import Batch
from diffumin_tf.layers import replicas
from diffumin_tf.model import RankingModel, compiled_for_any_batch


@dataclasses.dataclass(frozen=True)
class Scores:
    """Predicted click probabilities, float32 [n], and labels, float32 [n], and users, int64 [n].

    Labels and users are None where they are not known.
    """

    labels: np.ndarray | None
    pctr: np.ndarray
    users: np.ndarray | None = None

    def metrics(self) -> dict[str, float | int | None]:
        return metrics.all_metrics(self.labels, self.pctr, self.users)


def predict_function(model: RankingModel):
    """A compiled function from a batch to its pctr; build it once a model, pass it to `score`."""
    return compiled_for_any_batch(lambda batch: model.predict_click(batch)["pctr"])


def score(predict, batches: Iterable) -> Scores:
    """Scores every batch, in order; `predict` is from `predict_function`."""
    scored = [score_batch(predict, batch) for batch in batches]
    columns = zip(*((each.labels, each.pctr, each.users) for each in scored), strict=True)
    return Scores(*(None if column[0] is None else np.concatenate(column) for column in columns))


def score_batch(predict, batch: Batch) -> Scores:
    """Scores one batch; `predict` is from `predict_function`."""
    known = (batch.label, predict(batch), batch.user)
    return Scores(*(column.numpy() if tf.is_tensor(column) else None for column in known))


class ReplicaScorer:
    """Scores by all replicas of a model that is being trained; every process gets all scores."""

    def __init__(self, model: RankingModel, strategy: tf.distribute.Strategy) -> None:
        self._model = model
        self._strategy = strategy
        self._graph: Callable[..., Any] | None = None

    def __call__(self, batches: Iterable, spec: Callable[[], Any]) -> Scores:
        """Scores every global batch.

        Args:
            batches: in order, for the replicas of this process.
            spec: gives the type of a batch once the first was read.
        """
        columns: list[list[np.ndarray]] = []
        for batch in batches:
            if self._graph is None:
                signature = [spec()]
                self._graph = tf.function(self._on_replicas, signature, autograph=False)
            columns.append([column.numpy() for column in self._graph(batch)])
        return Scores(*(np.concatenate(column) for column in zip(*columns, strict=True)))

    def _on_replicas(self, batch: Batch) -> tuple[tf.Tensor, ...]:
        def on_replica(batch: Batch) -> tuple[tf.Tensor, ...]:
            users = (batch.user,) if tf.is_tensor(batch.user) else ()
            columns = (batch.label, self._model.predict_click(batch)["pctr"], *users)
            return replicas.gather(columns, replicas.batch_rows(tf.shape(batch.label)[0]))

        columns = self._strategy.run(on_replica, args=(batch,))
        return tuple(self._strategy.experimental_local_results(column)[0] for column in columns)
