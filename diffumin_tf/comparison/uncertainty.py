"""Means over seeds, and differences to the baseline with what they are uncertain by."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from diffumin_tf.evaluation import bootstrap
from diffumin_tf.evaluation.scoring import Scores

RESAMPLES, _SEED = 1_000, 1

# 97.5 % quantiles of Student's t for 1, 2, … 30 degrees of freedom; beyond, that of the normal.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160),
    *(2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056),
    *(2.052, 2.048, 2.045, 2.042),
)
_NORMAL = 1.960


class Measured(NamedTuple):
    """A metric of one run: its value on the samples, and on resamples of them [R]."""

    value: float | None
    draws: np.ndarray


def over_seeds(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Mean and standard deviation (None for one value); None where a value is missing."""
    if not values or None in values:
        return None
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": sd, "values": list(values)}


def between_seeds(differences: Sequence[float]) -> dict[str, Any] | None:
    """95 % interval by Student's t of the mean of paired differences, one a seed; None for one."""
    count = len(differences)
    if count < 2:
        return None
    mean, sd = float(np.mean(differences)), float(np.std(differences, ddof=1))
    error = sd / math.sqrt(count)
    reach = error * (_T[count - 2] if count - 2 < len(_T) else _NORMAL)
    return {"sd": sd, "standard_error": error, "low": mean - reach, "high": mean + reach}


def resample(scores: Scores, resamples: int = RESAMPLES) -> dict[str, Measured]:
    """Metrics of a run on resamples, which are the same for all runs on the same samples.

    Returns:
        `auc`, by samples that are drawn anew; where users are known, `auc_by_users` and `gauc`, by
        users that are drawn anew with all their samples.
    """
    labels, pctr, users = scores.labels, scores.pctr, scores.users
    metrics = scores.metrics()
    draws = {"auc": bootstrap.auc_draws(labels, pctr, resamples, _SEED)}
    if users is not None:
        draws["auc_by_users"] = bootstrap.auc_draws(labels, pctr, resamples, _SEED, users)
        draws["gauc"] = bootstrap.gauc_draws(labels, pctr, users, resamples, _SEED)
    return {kind: Measured(metrics[kind.split("_")[0]], drawn) for kind, drawn in draws.items()}


def difference(
    pairs: Sequence[tuple[Mapping[str, Measured], Mapping[str, Measured]]],
) -> dict[str, Any]:
    """Mean differences to the baseline over seeds.

    Args:
        pairs: a run and that of the baseline with the same seed, on the same samples.

    Returns:
        By metric: `mean`; `values`, one a seed; `resampled`: interval and standard error by drawing
        samples or users anew, with the trained models as they are; `between_seeds`: the same
        by the differences between the seeds, with the samples as they are.
    """
    found = {}
    for metric in pairs[0][0]:
        of_metric = [(run[metric], base[metric]) for run, base in pairs]
        if any(None in (run.value, base.value) for run, base in of_metric):
            continue
        values = [run.value - base.value for run, base in of_metric]
        draws = np.mean([run.draws - base.draws for run, base in of_metric], axis=0)
        found[metric] = {
            "mean": float(np.mean(values)),
            "values": values,
            "resampled": bootstrap.interval(draws),
            "between_seeds": between_seeds(values),
        }
    return found


def same_samples(one: Scores, other: Scores | None) -> bool:
    """Whether two runs were scored on the same samples, as far as labels and users tell."""
    return other is not None and all(
        np.array_equal(mine, theirs)
        for mine, theirs in ((one.labels, other.labels), (one.users, other.users))
    )
