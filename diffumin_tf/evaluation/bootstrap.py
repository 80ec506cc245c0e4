"""How far a metric would move on other test samples or users: paired bootstrap resampling.

A resample draws as many samples (or users) as there are, with replacement; it is kept as the number
of times each was drawn, which then weighs it. With the same seed, all models are measured on the
same resamples, so that what is hard about a resample cancels out of a difference.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from diffumin_tf.evaluation import metrics

# Numbers in a block of weights: 8 bytes each, and about four such blocks at a time. Small enough
# for a processor's cache to help, large enough for NumPy's own overhead to vanish.
_BLOCK = 2**18


def interval(draws: np.ndarray) -> dict[str, float]:
    """95 % interval (percentiles 2.5 and 97.5) and standard deviation of values on resamples [R].

    Values that are not a number are left out.
    """
    draws = draws[np.isfinite(draws)]
    if len(draws) < 2:
        return dict.fromkeys(("low", "high", "standard_error"), float("nan"))
    low, high = np.percentile(draws, [2.5, 97.5])
    error = float(np.std(draws, ddof=1))
    return {"low": float(low), "high": float(high), "standard_error": error}


def auc_draws(
    labels: np.ndarray,
    scores: np.ndarray,
    resamples: int,
    seed: int,
    users: np.ndarray | None = None,
) -> np.ndarray:
    """AUC of a model on R resamples of the samples, or of the users with all their samples.

    Args:
        labels: [n], 0 or 1; `scores` [n].
        users: [n]; given, users are drawn instead of samples. Samples of one user depend on each
            other, so that this interval is the honest one for a population of users.

    Returns:
        float64 [R]; NaN where a resample lacks clicks or non-clicks.
    """
    units, unit = len(labels), slice(None)
    if users is not None:
        found, unit = np.unique(users, return_inverse=True)
        units = len(found)
    blocks = _counts(units, resamples, seed, wide=len(labels))
    return np.concatenate([*_weighted_aucs(labels, scores, (drawn[unit] for drawn in blocks))])


def gauc_draws(
    labels: np.ndarray, scores: np.ndarray, users: np.ndarray, resamples: int, seed: int
) -> np.ndarray:
    """GAUC of a model on R resamples of the users, those of `auc_draws` with the same seed.

    Returns:
        float64 [R]; NaN where no drawn user has both classes.
    """
    found, unit = np.unique(users, return_inverse=True)
    areas, sizes = np.zeros(len(found)), np.zeros(len(found))
    both, area, size = metrics.auc_by_group(unit, labels, scores)
    areas[both], sizes[both] = area, size
    with np.errstate(invalid="ignore"):
        blocks = _counts(len(found), resamples, seed, wide=len(found))
        return np.concatenate([(areas * sizes) @ drawn / (sizes @ drawn) for drawn in blocks])


def _counts(units: int, resamples: int, seed: int, wide: int) -> Iterator[np.ndarray]:
    """How often each unit was drawn [units, b], for a block of b resamples at a time.

    Args:
        wide: rows of the largest array that is made of a block; settles b, and nothing else.
    """
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // max(wide, 1))
    for first in range(0, resamples, block):
        drawn = [
            np.bincount(rng.integers(0, units, units), minlength=units)
            for _ in range(min(block, resamples - first))
        ]
        yield np.stack(drawn, axis=1).astype(np.float64)


def _weighted_aucs(
    labels: np.ndarray, scores: np.ndarray, blocks: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """AUC [b] of one model for each block of weights [n, b] of its samples.

    Σ_i w_i · (½ W(<s_i) + ½ W(≤s_i)) / (W₊ · W₋): i runs over the clicks, W(<s) is the weight of
    the non-clicks that score below s, and W₊, W₋ are those of all clicks and all non-clicks.
    """
    clicked, scores = np.asarray(labels) > 0, np.asarray(scores)
    clicks, others = np.flatnonzero(clicked), np.flatnonzero(~clicked)
    others = others[np.argsort(scores[others], kind="stable")]
    lower = np.searchsorted(scores[others], scores[clicks], side="left")
    upper = np.searchsorted(scores[others], scores[clicks], side="right")
    tied = np.flatnonzero(upper > lower)  # few, as a rule
    for weights in blocks:
        below = np.zeros([len(others) + 1, weights.shape[1]])
        np.cumsum(weights[others], axis=0, out=below[1:])
        won = below[lower]
        won[tied] = (won[tied] + below[upper[tied]]) / 2
        of_clicks = weights[clicks]
        with np.errstate(invalid="ignore"):
            yield np.einsum("ib,ib->b", of_clicks, won) / (of_clicks.sum(axis=0) * below[-1])
