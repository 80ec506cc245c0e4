"""The synthetic log: what its labels depend on, and what a model can learn of it."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.evaluation.metrics import auc
from diffumin_tf.synthetic.log import Effects, LogSpec, SyntheticLog, expected_auc, generate
from tests.synthetic.conftest import SMALL


@pytest.fixture(scope="module")
def log() -> SyntheticLog:
    return drawn(30_000, 8_000, 8_000)


@pytest.fixture(scope="module")
def long_log() -> SyntheticLog:
    return drawn(4_000, 1_000, users=2_000, history_len=2_000, seed=3)


@pytest.fixture(params=["log", "long_log"])
def any_log(request) -> SyntheticLog:
    return request.getfixturevalue(request.param)


def drawn(*sizes: int, **settings) -> SyntheticLog:
    """A log of some days of those sizes."""
    days = {f"2023040{number}": size for number, size in enumerate(sizes, 1)}
    return generate(LogSpec(samples_per_day=days, **settings))


def fitted_logit(features: list[np.ndarray], label: np.ndarray) -> np.ndarray:
    """Logit of a logistic regression of the labels on some features (Newton's method)."""
    x = np.stack([*features, np.ones(len(label))], 1)
    weight = np.zeros(x.shape[1])
    for _ in range(12):
        p = 1 / (1 + np.exp(-x @ weight))
        curvature = (x * (p * (1 - p))[:, None]).T @ x
        weight += np.linalg.solve(curvature + 1e-6 * np.eye(len(weight)), x.T @ (label - p))
    return x @ weight


def history_share(log: SyntheticLog, field: str) -> np.ndarray:
    """Share of the user's behaviours that agree with the candidate in a field."""
    of_item = getattr(log.items, field)
    behaviours, splits = log.history.gather(log.user)
    agree = of_item[log.history.item[behaviours]] == np.repeat(of_item[log.item], np.diff(splits))
    total = np.concatenate([[0], np.cumsum(agree)])[splits]
    return np.diff(total) / np.maximum(np.diff(splits), 1)


def known_terms(log: SyntheticLog) -> list[np.ndarray]:
    return [log.terms[name] for name in ("popularity", "context", "position", "activity")]


def test_same_seed_gives_same_log(small_log):
    again = generate(SMALL)
    for field in dataclasses.fields(SyntheticLog):
        one, other = getattr(small_log, field.name), getattr(again, field.name)
        if dataclasses.is_dataclass(one):
            one, other = vars(one), vars(other)
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)


def test_other_seed_gives_other_world_and_labels(small_log):
    other = generate(SMALL.model_copy(update={"seed": 6}))
    assert (other.user != small_log.user).any()
    assert (other.label != small_log.label).any()
    assert (other.items.category != small_log.items.category).any()


def test_samples_stand_on_their_days(small_log):
    assert small_log.days == ["20240228", "20240301"]
    assert [len(small_log.on(day)) for day in small_log.days] == [401, 150]
    midnight = [1709078400, 1709251200]
    for day, start in zip(small_log.days, midnight, strict=True):
        time = small_log.time[small_log.on(day)]
        assert (np.diff(time) >= 0).all()
        assert start <= time.min() and time.max() < start + 86400
    assert set(small_log.weekday[small_log.on("20240228")]) == {2}  # a Wednesday


@pytest.mark.parametrize("click_rate", [0.2, 0.3])
def test_labels_agree_with_true_probability(click_rate):
    log = drawn(40_000, users=5_000, seed=1, click_rate=click_rate)
    assert log.true_probability.mean() == pytest.approx(click_rate, abs=1e-6)
    for low in np.arange(0.0, 0.9, 0.1):
        chosen = (log.true_probability >= low) & (log.true_probability < low + 0.1)
        p = log.true_probability[chosen]
        deviation = np.sqrt((p * (1 - p)).sum()) / len(p)
        assert log.label[chosen].mean() == pytest.approx(p.mean(), abs=4 * deviation)


def test_true_probability_is_the_sum_of_the_terms(log):
    logit = sum(log.terms.values())
    np.testing.assert_allclose(np.log(log.true_probability / (1 - log.true_probability)), logit)


def test_expected_auc_is_the_mean_over_labels():
    rng = np.random.default_rng(0)
    p, score = rng.random(60), rng.integers(0, 8, 60)
    better = (score[:, None] > score) + 0.5 * (score[:, None] == score)
    pair = p[:, None] * (1 - p) * (1 - np.eye(60))
    assert expected_auc(score, p) == pytest.approx((pair * better).sum() / pair.sum())


def test_auc_of_true_probability_is_high_but_not_perfect(any_log):
    best = any_log.best_reachable_auc(*any_log.days)
    assert 0.80 < best < 0.85
    assert auc(any_log.label, any_log.true_probability) == pytest.approx(best, abs=0.02)


def test_without_history_the_best_score_is_much_worse(any_log):
    true_terms = sum(known_terms(any_log))
    popular = np.bincount(any_log.item, minlength=len(any_log.items.shop))[any_log.item]
    fitted = fitted_logit([*known_terms(any_log), np.log(popular)], any_log.label)
    for score in (true_terms, fitted):
        without = expected_auc(score, any_log.true_probability)
        assert 0.6 < without < any_log.best_reachable_auc(*any_log.days) - 0.08


def test_shares_of_the_history_recover_the_interest(any_log):
    shares = [history_share(any_log, "category"), history_share(any_log, "shop")]
    score = fitted_logit([*known_terms(any_log), *shares], any_log.label)
    recovered = expected_auc(score, any_log.true_probability)
    assert recovered > any_log.best_reachable_auc(*any_log.days) - 0.02


def test_history_matters_only_through_the_interest():
    log = drawn(20_000, seed=2, effects=Effects(interest=0.0))
    score = fitted_logit([history_share(log, "category")], log.label)
    assert expected_auc(score, log.true_probability) < 0.54


def test_users_have_few_samples_and_test_days_have_new_users(log):
    before, last = log.user[log.on(*log.days[:-1])], log.user[log.on(log.days[-1])]
    assert np.bincount(log.user).max() < len(log) / 500
    assert 0.1 < np.mean(~np.isin(last, before)) < 0.9
    assert before.max() > log.user[log.on(log.days[0])].max()  # some come after the first day


def test_history_lies_strictly_before_the_samples(log):
    assert log.history.time.max() < log.time.min() // 86400 * 86400
    owner = np.repeat(np.arange(len(log.users)), np.diff(log.history.splits))
    older = np.diff(log.history.time) <= 0
    assert (older | (np.diff(owner) > 0)).all()  # most recent first


def test_history_lengths_vary_from_none_to_full(log):
    length = np.diff(log.history.splits)[np.unique(log.user)]
    assert length.max() == 50
    assert 0 < np.mean(length == 0) < 0.05
    assert 0 < np.mean((length > 0) & (length < 10)) < 0.1
    assert np.mean(length == 50) > 0.3
    assert len(np.unique(length)) > 40


def test_items_of_a_shop_share_its_place_and_brand(log):
    for field in ("brand", "city", "district", "aoi"):
        pairs = np.unique(np.stack([log.items.shop, getattr(log.items, field)]), axis=1)
        assert pairs.shape[1] == log.items.shop.max() + 1
