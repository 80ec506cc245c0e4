"""A synthetic click log whose best reachable AUC is known, since every label's probability is."""

import calendar
import dataclasses
import functools
import time
from typing import Annotated

import numpy as np
import pydantic
from pydantic import Field as Key

from diffumin_tf.config.strict import Day, StrictModel
from diffumin_tf.synthetic.world import (
    ACTIVITY_LEVELS,
    DAY_SECONDS,
    MIN_ITEMS,
    Items,
    Users,
    World,
    WorldHistory,
    at_waking_hours,
    clock,
    make_histories,
)

LONGEST_HISTORY = 5_000  # what records of the Long_term experiment hold
REQUEST_SIZE = 4  # candidates shown to a user at one time

_CANDIDATES = (0.4, 0.35)  # shares that come by interest and by popularity; the rest by chance
_LATE_USERS = 0.2  # share of users who first appear after the first day


class Effects(StrictModel):
    """Weights of the terms of a click's logit.

    Attributes:
        interest: of the weight (0 … 1) of the candidate's category among the user's interests.
        preferred_shop: share added to that weight where the candidate's shop is a preferred one.
        popularity: of the log popularity of the shop (deviation 1).
        context: of the taste for a category at a time of day (deviation 1).
        position: of each position below the first, against the click.
        activity: of the user's activity level, scaled to -1 … 1.
    """

    interest: float = 3.6
    preferred_shop: float = 0.5
    popularity: float = 0.6
    context: float = 0.6
    position: float = 0.1
    activity: float = 0.5


class LogSpec(StrictModel):
    """What a log is drawn from: the same settings give the same log."""

    samples_per_day: Annotated[dict[Day, Annotated[int, Key(ge=1)]], Key(min_length=1)]
    users: Annotated[int, Key(ge=1)] = 20_000
    items: Annotated[int, Key(ge=MIN_ITEMS)] = 8_000
    # Behaviours in the longest and the shortest history; with a minimum of 0, some users have none.
    history_len: Annotated[int, Key(ge=1, le=LONGEST_HISTORY)] = 50
    min_history_len: Annotated[int, Key(ge=0)] = 0
    seed: Annotated[int, Key(ge=0)] = 0
    click_rate: Annotated[float, Key(gt=0, lt=1)] = 0.25  # the mean of the true probability
    effects: Effects = Effects()

    @pydantic.model_validator(mode="after")
    def _lengths_fit(self) -> "LogSpec":
        if self.min_history_len > self.history_len:
            raise ValueError(
                f"min_history_len {self.min_history_len} must be at most "
                f"history_len {self.history_len}"
            )
        return self


@dataclasses.dataclass(frozen=True)
class SyntheticLog:
    """n impressions in the order of time; the samples of one request stand together.

    Attributes:
        label: int64 [n], 0 or 1, drawn from `true_probability` float64 [n].
        terms: float64 [n] by name, the summands of the logit: `bias`, `interest` (the one that
            only the history reveals), `popularity`, `context`, `position`, `activity`.
        user, item: int32 [n].
        day: int32 [n], as yyyymmdd.
        time: int64 [n], seconds since 1970 (UTC).
        hour, weekday, meal, position: int32 [n]; Monday is 0, the first position is 0.
    """

    items: Items
    users: Users
    history: WorldHistory
    label: np.ndarray
    true_probability: np.ndarray
    terms: dict[str, np.ndarray]
    user: np.ndarray
    item: np.ndarray
    day: np.ndarray
    time: np.ndarray
    hour: np.ndarray
    weekday: np.ndarray
    meal: np.ndarray
    position: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    @property
    def days(self) -> list[str]:
        """In order, as yyyymmdd."""
        return [str(day) for day in np.unique(self.day)]

    def on(self, *days: str) -> np.ndarray:
        """Indices of the samples of those days, in order."""
        return np.flatnonzero(np.isin(self.day, [int(day) for day in days]))

    def best_reachable_auc(self, *days: str) -> float:
        """AUC of the true probability over the samples of those days; see `expected_auc`."""
        probability = self.true_probability[self.on(*days)]
        return expected_auc(probability, probability)

    @functools.cached_property
    def mean_price(self) -> np.ndarray:
        """Mean price of each user's behaviours, float64 [users]; 0 without any."""
        length = np.diff(self.history.splits)
        price = self.items.price[self.history.item]
        return np.bincount(self.history.owner(), price, len(length)) / np.maximum(length, 1)


def generate(spec: LogSpec) -> SyntheticLog:
    """Draws a world, its users' histories and impressions, and the clicks.

    `p = σ(bias + interest + popularity + context + position + activity)`, label ~ Bernoulli(p).
    """
    world_rng, sample_rng, history_rng = (
        np.random.default_rng(s) for s in np.random.SeedSequence(spec.seed).spawn(3)
    )
    sizes = dict(sorted(spec.samples_per_day.items()))
    world = World(world_rng, spec.users, spec.items)
    columns = _impressions(sample_rng, sizes, world)
    terms = _terms(columns, world, spec.effects)
    terms["bias"] = np.full(len(columns["user"]), _bias(sum(terms.values()), spec.click_rate))
    probability = _sigmoid(sum(terms.values()))
    label = (sample_rng.random(len(probability)) < probability).astype(np.int64)
    seen, end = np.unique(columns["user"]), _midnight(min(sizes))
    history = make_histories(history_rng, world, seen, spec.min_history_len, spec.history_len, end)
    return SyntheticLog(world.items, world.users, history, label, probability, terms, **columns)


def expected_auc(score: np.ndarray, true_probability: np.ndarray) -> float:
    """AUC of a score, averaged over the labels that the true probabilities may give.

    `Σ_{i≠j} p_i (1 − p_j) [s_i > s_j] / Σ_{i≠j} p_i (1 − p_j)`; a tie counts one half. With the
    true probability as the score, it is the best that any score can reach.
    """
    rank = np.unique(score, return_inverse=True)[1]
    clicks = np.bincount(rank, true_probability)
    skips = np.bincount(rank, 1 - true_probability)
    won = np.sum(clicks * (np.cumsum(skips) - skips / 2))
    with_itself = np.sum(true_probability * (1 - true_probability))
    return float((won - with_itself / 2) / (clicks.sum() * skips.sum() - with_itself))


def _midnight(day: str) -> int:
    return calendar.timegm(time.strptime(day, "%Y%m%d"))


def _impressions(
    rng: np.random.Generator, sizes: dict[str, int], world: World
) -> dict[str, np.ndarray]:
    newcomers = np.arange(len(world.users)) >= (1 - _LATE_USERS) * len(world.users)
    first_day = newcomers * rng.integers(1, max(2, len(sizes)), len(world.users)) % len(sizes)
    user, seconds = [], []
    for index, (day, size) in enumerate(sizes.items()):
        requests = -(-size // REQUEST_SIZE)
        chance = (1.0 + world.users.activity) * (first_day <= index)
        visitor = rng.choice(len(chance), requests, p=chance / chance.sum())
        second = np.sort(rng.integers(DAY_SECONDS, size=requests))
        user.append(np.repeat(visitor, REQUEST_SIZE)[:size])
        seconds.append(np.repeat(_midnight(day) + second, REQUEST_SIZE)[:size])
    user, moment = np.concatenate(user), at_waking_hours(np.concatenate(seconds))
    hour, weekday, meal = clock(moment)
    position = np.concatenate([np.arange(size) % REQUEST_SIZE for size in sizes.values()])
    return {
        "user": user.astype(np.int32),
        "item": _candidates(rng, user, world),
        "day": np.repeat(np.array(list(sizes), np.int32), list(sizes.values())),
        "time": moment,
        "hour": hour,
        "weekday": weekday,
        "meal": meal,
        "position": position.astype(np.int32),
    }


def _candidates(rng: np.random.Generator, user: np.ndarray, world: World) -> np.ndarray:
    way = np.searchsorted(np.cumsum(_CANDIDATES), rng.random(len(user)))
    item = np.empty(len(user), np.int32)
    for number, pick in enumerate((world.by_interest, world.by_popularity, world.by_chance)):
        item[way == number] = pick(rng, user[way == number])
    return item


def _terms(columns: dict[str, np.ndarray], world: World, effects: Effects) -> dict[str, np.ndarray]:
    user, item = columns["user"], columns["item"]
    category = world.items.category[item]
    weight, preferred = world.users.interest_in(user, category, world.items.shop[item])
    level = world.users.activity[user] / (ACTIVITY_LEVELS - 1)
    return {
        "interest": effects.interest * weight * (1 + effects.preferred_shop * preferred),
        "popularity": effects.popularity * world.items.log_popularity[item].astype(np.float64),
        "context": effects.context * world.taste[columns["meal"], category],
        "position": -effects.position * columns["position"],
        "activity": effects.activity * (2 * level - 1),
    }


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))


def _bias(logit: np.ndarray, click_rate: float) -> float:
    """The constant that makes the mean probability equal the click rate, by bisection."""
    low, high = -50.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        if _sigmoid(logit + middle).mean() < click_rate:
            low = middle
        else:
            high = middle
    return (low + high) / 2
