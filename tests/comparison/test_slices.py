"""AUC within slices."""

import numpy as np
import pytest

from diffumin_tf.comparison import slices
from diffumin_tf.evaluation import metrics


@pytest.mark.parametrize("buckets", [slices.HISTORY, slices.POPULARITY])
def test_every_number_lies_in_one_bucket(buckets):
    numbers = np.arange(2_000)
    inside = [(numbers >= b.low) & ((b.high is None) | (numbers <= (b.high or 0))) for b in buckets]
    np.testing.assert_array_equal(np.sum(inside, axis=0), 1)


def test_the_auc_of_a_bucket_is_that_of_its_samples_mean_over_seeds():
    rng = np.random.default_rng(0)
    labels, scores = (rng.random(300) < 0.4).astype(np.float32), rng.random([2, 300])
    lengths = rng.integers(0, 60, 300)
    rows = slices.auc_by(slices.HISTORY, lengths, labels, scores)
    assert [row["bucket"] for row in rows] == ["0", "1–10", "11–50", "51–200"]
    assert sum(row["samples"] for row in rows) == 300
    inside = (lengths >= 11) & (lengths <= 50)
    areas = [metrics.auc(labels[inside], s[inside]) for s in scores]
    assert rows[2] == {
        "bucket": "11–50",
        "samples": inside.sum(),
        "clicks": labels[inside].sum(),
        "auc": pytest.approx(np.mean(areas)),
        "sd": pytest.approx(np.std(areas, ddof=1)),
    }


def test_a_bucket_of_one_class_has_no_auc():
    labels, lengths = np.array([1.0, 1.0, 0.0, 1.0]), np.array([0, 0, 3, 5])
    rows = slices.auc_by(slices.HISTORY, lengths, labels, [np.array([0.1, 0.2, 0.3, 0.4])])
    assert [(row["auc"], row["sd"]) for row in rows] == [(None, None), (1.0, None)]
