"""Exact ranking and calibration metrics of n samples.

Labels are 0 or 1, scores and predictions are floats, users are integers that tell users apart; all
are arrays [n].
"""

import numpy as np


def auc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Area under the ROC curve: P(score of a click > score of a non-click), ties count half.

    None when only one class occurs.
    """
    _, area, _ = auc_by_group(np.zeros(len(labels), np.int64), labels, scores)
    return float(area[0]) if len(area) else None


def gauc(labels: np.ndarray, scores: np.ndarray, users: np.ndarray) -> float | None:
    """Mean of per-user AUCs, weighted by the user's samples; users with one class are left out.

    None when no user has both classes.
    """
    _, areas, sizes = auc_by_group(users, labels, scores)
    return float(np.average(areas, weights=sizes)) if len(areas) else None


def log_loss(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean binary cross-entropy in nats; predictions are clipped to [1e-7, 1 − 1e-7]."""
    p = np.clip(predictions.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(labels > 0, np.log(p), np.log1p(-p))))


def calibration(labels: np.ndarray, predictions: np.ndarray) -> float | None:
    """Mean prediction over mean label; 1 is right, None without a click."""
    clicks = labels.mean(dtype=np.float64)
    return float(predictions.mean(dtype=np.float64) / clicks) if clicks else None


def all_metrics(
    labels: np.ndarray, predictions: np.ndarray, users: np.ndarray | None = None
) -> dict[str, float | int | None]:
    """AUC, GAUC (None without users), log loss, calibration and the number of examples."""
    return {
        "auc": auc(labels, predictions),
        "gauc": None if users is None else gauc(labels, predictions, users),
        "logloss": log_loss(labels, predictions),
        "calibration": calibration(labels, predictions),
        "examples": int(len(labels)),
    }


def auc_by_group(
    groups: np.ndarray, labels: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The groups that have both classes, ascending, their AUCs and their numbers of samples.

    Args:
        groups: int64 [n]; samples with the same number are of one group.
    """
    order = np.lexsort((scores, groups))
    groups, scores = np.asarray(groups)[order], np.asarray(scores)[order]
    clicked = np.asarray(labels)[order] > 0
    if not len(order):
        return np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64)
    new_group = np.r_[True, groups[1:] != groups[:-1]]
    new_tie = new_group | np.r_[True, scores[1:] != scores[:-1]]
    tie = np.cumsum(new_tie) - 1
    tie_start = np.flatnonzero(new_tie)
    tie_end = np.r_[tie_start[1:], len(order)]
    mid_rank = (tie_start + tie_end - 1) / 2.0
    group = np.cumsum(new_group) - 1
    size = np.bincount(group)
    first = np.flatnonzero(new_group)
    clicks = np.bincount(group, clicked)
    rank_sum = np.bincount(group, np.where(clicked, mid_rank[tie] - first[group], 0.0))
    both = (clicks > 0) & (clicks < size)
    clicks, others = clicks[both], (size - clicks)[both]
    areas = (rank_sum[both] - clicks * (clicks - 1) / 2) / (clicks * others)
    return groups[first][both], areas, size[both]
