"""Resampled metrics are those of the samples that were drawn."""

import tracemalloc

import numpy as np
import pytest

from diffumin_tf.evaluation import bootstrap, metrics

SEED, RESAMPLES = 7, 40


def drawn(units):
    rng = np.random.default_rng(SEED)
    return [rng.integers(0, units, units) for _ in range(RESAMPLES)]


@pytest.fixture
def samples():
    """Labels, scores with ties, and users of very different activity."""
    rng = np.random.default_rng(0)
    labels = (rng.random(90) < 0.3).astype(np.float32)
    scores = np.round(rng.normal(size=90) + 0.5 * labels, 1).astype(np.float32)
    return labels, scores, (rng.random(90) ** 3 * 20).astype(np.int64) + 2**62


def test_auc_is_that_of_the_drawn_samples(samples):
    labels, scores, _ = samples
    found = bootstrap.auc_draws(labels, scores, RESAMPLES, SEED)
    expected = [metrics.auc(labels[i], scores[i]) for i in drawn(90)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_users_are_drawn_with_all_their_samples(samples):
    """GAUC takes a user as often as it was drawn."""
    labels, scores, users = samples
    of_user = [np.flatnonzero(users == user) for user in np.unique(users)]
    areas = bootstrap.auc_draws(labels, scores, RESAMPLES, SEED, users)
    gaucs = bootstrap.gauc_draws(labels, scores, users, RESAMPLES, SEED)
    for area, gauc, numbers in zip(areas, gaucs, drawn(len(of_user)), strict=True):
        rows = np.concatenate([of_user[number] for number in numbers])
        apart = np.concatenate([np.full(len(of_user[u]), k) for k, u in enumerate(numbers)])
        assert area == pytest.approx(metrics.auc(labels[rows], scores[rows]), rel=1e-12)
        expected = metrics.gauc(labels[rows], scores[rows], apart)
        assert gauc == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("block", [1, 90 * 7, 10**9])
def test_the_size_of_blocks_changes_nothing(samples, monkeypatch, block):
    labels, scores, users = samples
    whole = bootstrap.auc_draws(labels, scores, RESAMPLES, SEED, users)
    monkeypatch.setattr(bootstrap, "_BLOCK", block)
    again = bootstrap.auc_draws(labels, scores, RESAMPLES, SEED, users)
    np.testing.assert_array_equal(again, whole)


def test_a_resample_of_one_class_is_not_a_number_and_left_out():
    labels, scores = np.array([1.0, 0.0]), np.array([0.2, 0.1])
    draws = bootstrap.auc_draws(labels, scores, 50, SEED)
    assert np.isnan(draws).any() and set(draws[np.isfinite(draws)]) == {1.0}
    assert bootstrap.interval(draws) == {"low": 1.0, "high": 1.0, "standard_error": 0.0}
    assert np.isnan([*bootstrap.interval(np.array([np.nan, 0.5])).values()]).all()


def test_memory_does_not_grow_with_the_number_of_resamples():
    rng = np.random.default_rng(2)
    labels, scores = (rng.random(20_000) < 0.3).astype(np.float32), rng.normal(size=20_000)
    peaks = []
    for resamples in (30, 300):
        tracemalloc.start()
        bootstrap.auc_draws(labels, scores, resamples, SEED)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] < 30e6
