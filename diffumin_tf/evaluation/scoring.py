"""Scores of a whole data set, in its order."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from diffumin_tf.evaluation import metrics
from diffumin_tf.model import RankingModel, compiled_for_any_batch


@dataclasses.dataclass(frozen=True)
class Scores:
    """Labels and predictions of n samples.

    Attributes:
      labels: float32 [n].
      pctr: float32 [n], predicted click probability.
      users: int64 [n], or None when the records tell no user.
    """

    labels: np.ndarray
    pctr: np.ndarray
    users: np.ndarray | None

    def metrics(self) -> dict[str, float | int | None]:
        """AUC, GAUC, log loss, calibration and the number of examples."""
        return metrics.all_metrics(self.labels, self.pctr, self.users)


def predict_function(model: RankingModel):
    """A compiled (inputs) → pctr; build it once per model and pass it to `score`."""

    return compiled_for_any_batch(lambda inputs: model.predict_click(inputs)["pctr"])


def score(predict, batches: Iterable) -> Scores:
    """Scores every batch of (inputs, label).

    Args:
      predict: from `predict_function`.
      batches: of (inputs, label), in order.
    """
    labels, pctr, users = [], [], []
    for inputs, label in batches:
        labels.append(label.numpy())
        pctr.append(predict(inputs).numpy())
        if "user" in inputs:
            users.append(inputs["user"].numpy())
    return Scores(
        np.concatenate(labels), np.concatenate(pctr), np.concatenate(users) if users else None
    )
