"""Means over seeds, and differences to the baseline with what they are uncertain by."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from diffumin_tf.evaluation import bootstrap
from diffumin_tf.evaluation.bootstrap import Spread
from diffumin_tf.evaluation.scoring import Scores

RESAMPLES, _SEED = 1_000, 1

# 97.5 % quantiles of Student's t for 1, 2, … 30 degrees of freedom; beyond, that of the normal.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160),
    *(2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056),
    *(2.052, 2.048, 2.045, 2.042),
)
_NORMAL = 1.960


def over_seeds(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Mean and standard deviation (None for one value); None where a value is missing."""
    if not values or None in values:
        return None
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": sd, "values": list(values)}


def between_seeds(differences: Sequence[float]) -> dict[str, Any] | None:
    """What paired differences, one a seed, tell about their mean: 95 % interval by Student's t.

    None for one seed, which says nothing about others.
    """
    count = len(differences)
    if count < 2:
        return None
    mean, sd = float(np.mean(differences)), float(np.std(differences, ddof=1))
    error = sd / math.sqrt(count)
    reach = error * (_T[count - 2] if count - 2 < len(_T) else _NORMAL)
    return {"sd": sd, "standard_error": error, "low": mean - reach, "high": mean + reach}


class Draws:
    """Metrics of some models on resamples, which are the same for whatever models of these samples.

    Args:
        scores: of one experiment, one a seed; all of the same samples.
        resamples: how many.
    """

    def __init__(self, scores: Sequence[Scores], resamples: int = RESAMPLES) -> None:
        labels, users = scores[0].labels, scores[0].users
        predictions = [s.pctr for s in scores]
        self._draws = {"auc": bootstrap.auc_draws(labels, predictions, resamples, _SEED)}
        if users is not None:
            by_users = bootstrap.auc_draws(labels, predictions, resamples, _SEED, users)
            gauc = bootstrap.gauc_draws(labels, predictions, users, resamples, _SEED)
            self._draws |= {"auc_by_users": by_users, "gauc": gauc}
        found = [s.metrics() for s in scores]
        self._values = {
            "auc": [m["auc"] for m in found],
            "auc_by_users": [m["auc"] for m in found],
            "gauc": [m["gauc"] for m in found],
        }

    def difference(self, baseline: "Draws", own: list[int], others: list[int]) -> dict[str, Any]:
        """Mean differences over seeds to the baseline.

        Args:
            baseline: of the same samples.
            own, others: places of the seeds that both have, here and in the baseline.

        Returns:
            By metric (`auc`; with users `auc_by_users`, resampled by users, and `gauc`):
            `mean`; `values`, one a seed; `resampled`: interval and standard error by drawing
            samples or users anew, with the trained models as they are; `between_seeds`: the same
            by the spread of the seeds, with the samples as they are.
        """
        found = {}
        for metric, draws in self._draws.items():
            mine = [self._values[metric][place] for place in own]
            theirs = [baseline._values[metric][place] for place in others]
            if None in mine or None in theirs:
                continue
            values = [a - b for a, b in zip(mine, theirs, strict=True)]
            moved = (draws[own] - baseline._draws[metric][others]).mean(axis=0)
            found[metric] = {
                "mean": float(np.mean(values)),
                "values": values,
                "resampled": dataclasses.asdict(Spread.of(moved)),
                "between_seeds": between_seeds(values),
            }
        return found


def same_samples(one: Scores, other: Scores) -> bool:
    """Whether two runs were scored on the same samples, as far as labels and users tell."""
    if not np.array_equal(one.labels, other.labels):
        return False
    if one.users is None or other.users is None:
        return one.users is other.users
    return np.array_equal(one.users, other.users)
