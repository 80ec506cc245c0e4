"""AUC within slices of a split: by length of the history, by popularity of the candidate."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diffumin_tf.comparison.uncertainty import over_seeds
from diffumin_tf.evaluation import metrics

# By kind: by what is sliced, and what is counted.
TITLES = {
    "history": ("length of the history", "behaviours in the record"),
    "popularity": ("popularity of the candidate", "sightings in the training split"),
}


class Bucket(NamedTuple):
    """Samples whose number lies in [low, high]; no upper end where `high` is None."""

    name: str
    low: int
    high: int | None


HISTORY = (
    Bucket("0", 0, 0),
    Bucket("1–10", 1, 10),
    Bucket("11–50", 11, 50),
    Bucket("51–200", 51, 200),
    Bucket("201–1,000", 201, 1_000),
    Bucket(">1,000", 1_001, None),
)
POPULARITY = (
    Bucket("0", 0, 0),
    Bucket("1–4", 1, 4),
    Bucket("5–19", 5, 19),
    Bucket("20–99", 20, 99),
    Bucket("100–999", 100, 999),
    Bucket("≥1,000", 1_000, None),
)


def auc_by(
    buckets: Sequence[Bucket], values: np.ndarray, labels: np.ndarray, scores: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """AUC within each bucket that is not empty, mean over the scores of several seeds.

    Args:
        buckets: which.
        values: [n], what decides about the bucket.
        labels: [n], 0 or 1.
        scores: one array [n] a seed.

    Returns:
        `{"bucket", "samples", "clicks", "auc", "sd"}` a bucket: mean and standard deviation (None
        for one seed) over seeds. The AUC is None with one class alone.
    """
    rows = []
    for bucket in buckets:
        inside = values >= bucket.low
        if bucket.high is not None:
            inside &= values <= bucket.high
        if not inside.any():
            continue
        found = over_seeds([metrics.auc(labels[inside], s[inside]) for s in scores])
        rows.append(
            {
                "bucket": bucket.name,
                "samples": int(inside.sum()),
                "clicks": int((labels[inside] > 0).sum()),
                "auc": found and found["mean"],
                "sd": found and found["sd"],
            }
        )
    return rows
