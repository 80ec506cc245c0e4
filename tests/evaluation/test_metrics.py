"""Metrics against their definitions, pair by pair and user by user."""

import numpy as np
import pytest

from diffumin_tf.evaluation import metrics


def pairwise_auc(labels, scores):
    clicks, others = scores[labels == 1], scores[labels == 0]
    if not len(clicks) or not len(others):
        return None
    wins = [(c > o) + 0.5 * (c == o) for c in clicks for o in others]
    return sum(wins) / len(wins)


@pytest.mark.parametrize("levels", [3, 10_000])
def test_auc_is_the_share_of_pairs_in_order_with_ties_half(levels):
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 300), rng.integers(0, levels, 300) / levels
    assert metrics.auc(labels, scores) == pytest.approx(pairwise_auc(labels, scores), abs=1e-12)


def test_gauc_weights_users_by_samples_and_leaves_out_those_of_one_class():
    rng = np.random.default_rng(1)
    users = rng.integers(-3, 40, 400)
    labels, scores = rng.integers(0, 2, 400), rng.integers(0, 5, 400) / 5
    labels[users == 3] = 1
    areas = {
        u: (pairwise_auc(labels[users == u], scores[users == u]), (users == u).sum())
        for u in np.unique(users)
    }
    kept = [(area, size) for area, size in areas.values() if area is not None]
    expected = sum(a * s for a, s in kept) / sum(s for _, s in kept)
    assert len(kept) < len(areas)
    assert metrics.gauc(labels, scores, users) == pytest.approx(expected, abs=1e-12)


def test_log_loss_and_calibration_by_hand():
    labels, p = np.array([1, 0, 0, 1]), np.array([0.5, 0.25, 0.5, 1.0])
    expected = -(np.log(0.5) + np.log(0.75) + np.log(0.5) + np.log(1 - 1e-7)) / 4
    assert metrics.log_loss(labels, p) == pytest.approx(expected)
    assert metrics.calibration(labels, p) == pytest.approx(2.25 / 2)


def test_one_class_has_no_auc_and_no_click_no_calibration():
    ones, zeros, p = np.ones(3), np.zeros(3), np.array([0.1, 0.2, 0.3])
    assert metrics.auc(ones, p) is None and metrics.auc(zeros, p) is None
    assert metrics.gauc(ones, p, np.arange(3)) is None
    assert metrics.calibration(zeros, p) is None
