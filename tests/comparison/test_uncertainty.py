"""Means over seeds, and differences to the baseline."""

import math

import numpy as np
import pytest

from diffumin_tf.comparison import uncertainty
from diffumin_tf.comparison.uncertainty import (
    between_seeds,
    difference,
    over_seeds,
    resample,
    same_samples,
)
from diffumin_tf.evaluation import metrics
from diffumin_tf.evaluation.scoring import Scores
from tests.comparison.fakes import made_up_scores


def test_the_deviation_is_that_of_a_sample():
    assert over_seeds([1.0, 3.0]) == {"mean": 2.0, "sd": math.sqrt(2.0), "values": [1.0, 3.0]}
    assert over_seeds([1.0])["sd"] is None
    assert over_seeds([1.0, None]) is over_seeds([]) is None


@pytest.mark.parametrize(("count", "quantile"), [(2, 12.706), (6, 2.571), (31, 2.042), (32, 1.96)])
def test_seeds_make_an_interval_by_students_t(count, quantile):
    differences = np.linspace(0.0, 1.0, count)
    found = between_seeds(differences)
    assert found["standard_error"] == pytest.approx(np.std(differences, ddof=1) / count**0.5)
    assert (found["high"] - 0.5) / found["standard_error"] == pytest.approx(quantile)
    assert (0.5 - found["low"]) / found["standard_error"] == pytest.approx(quantile)
    assert list(uncertainty._T) == sorted(uncertainty._T, reverse=True)
    assert between_seeds([0.01]) is None


def test_a_difference_pairs_seeds_and_resamples():
    pairs = [(made_up_scores("strong", seed), made_up_scores("weak", seed)) for seed in (1, 3)]
    found = difference([(resample(a, 200), resample(b, 200)) for a, b in pairs])
    for metric, of in (("auc", "auc"), ("auc_by_users", "auc"), ("gauc", "gauc")):
        values = [a.metrics()[of] - b.metrics()[of] for a, b in pairs]
        assert found[metric]["values"] == pytest.approx(values)
        assert found[metric]["mean"] == pytest.approx(np.mean(values))
        assert found[metric]["between_seeds"] == between_seeds(values)
    labels, rng, moved = pairs[0][0].labels, np.random.default_rng(1), []
    for _ in range(200):
        rows = rng.integers(0, len(labels), len(labels))
        areas = [[metrics.auc(labels[rows], s.pctr[rows]) for s in pair] for pair in pairs]
        moved.append(np.mean([mine - theirs for mine, theirs in areas]))
    drawn = found["auc"]["resampled"]
    assert drawn["standard_error"] == pytest.approx(np.std(moved, ddof=1))
    assert [drawn["low"], drawn["high"]] == pytest.approx(np.percentile(moved, [2.5, 97.5]))


def test_without_users_there_is_the_auc_alone():
    scores = made_up_scores("strong", 1)
    assert list(resample(Scores(scores.labels, scores.pctr), 20)) == ["auc"]


def test_same_samples_have_the_same_labels_and_users():
    one, other = made_up_scores("strong", 1), made_up_scores("weak", 2)
    assert same_samples(one, other)
    assert not same_samples(one, None)
    assert not same_samples(one, made_up_scores("strong", 1, samples=80))
    assert not same_samples(one, Scores(1 - one.labels, one.pctr, one.users))
    assert not same_samples(one, Scores(one.labels, one.pctr, one.users + 1))
    assert not same_samples(one, Scores(one.labels, one.pctr))
    assert same_samples(Scores(one.labels, one.pctr), Scores(one.labels, other.pctr))
