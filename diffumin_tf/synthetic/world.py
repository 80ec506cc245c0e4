"""The world behind the synthetic log: items on shelves, and users with planted interests."""

import dataclasses

import numpy as np

CITIES, DISTRICTS_PER_CITY, AOIS_PER_DISTRICT = 4, 4, 5
CATEGORIES, FOODS_PER_CATEGORY, BRANDS_PER_CATEGORY = 40, 12, 15
ITEMS_PER_SHOP = 8
MIN_ITEMS = CITIES * CATEGORIES  # so that every category is sold in every city
ACTIVITY_LEVELS = 10
MISSING = -1
DAY_SECONDS = 86400
MEALS = 5  # breakfast, lunch, afternoon, dinner, night

_AOIS_PER_CITY = DISTRICTS_PER_CITY * AOIS_PER_DISTRICT
_POPULARITY_EXPONENT, _POPULARITY_OFFSET = 0.8, 10  # popularity ~ 1 / (rank + offset)^exponent
_MIN_INTERESTS, _MAX_INTERESTS, _SHOPS_PER_INTEREST = 2, 5, 2
_INTEREST_CONCENTRATION = 3.0  # of the Dirichlet distribution of the interests' weights
_PREFERRED_SHOP_PICKS = 0.6  # share of interest-driven picks that go to a preferred shop
_MEAL_OF_HOUR = np.repeat(np.int32([4, 0, 1, 2, 3, 4]), [5, 5, 4, 3, 4, 3])
_VISITS_BY_HOUR = np.repeat([1.0, 5.0, 12.0, 5.0, 11.0, 4.0], [5, 5, 4, 3, 4, 3])
_CLOCK = np.concatenate([[0.0], np.cumsum(_VISITS_BY_HOUR) / _VISITS_BY_HOUR.sum()])
_HISTORY_BY_INTEREST = 0.8  # share of behaviours that serve an interest; the rest are noise
_EMPTY_HISTORIES, _SHORT_HISTORIES, _FULL_HISTORIES = 0.02, 0.04, 0.5
_SHORT = 10  # behaviours at most in a short history
_HISTORY_DAYS = (60, 180)  # how far back a history reaches
_CHUNK = 1 << 20  # behaviours drawn at once, to bound the memory


@dataclasses.dataclass(frozen=True)
class Items:
    """What can be shown, one entry an item; ids count from 0, `MISSING` where there is none.

    Attributes:
        shop, brand, category, food, city, district, aoi: int32 [items].
        price: float32 [items], in yuan.
        popularity: float64 [items], probability of a pick by popularity.
        log_popularity: float32 [items], of the item's shop; mean 0, deviation 1 over items.
    """

    shop: np.ndarray
    brand: np.ndarray
    category: np.ndarray
    food: np.ndarray
    city: np.ndarray
    district: np.ndarray
    aoi: np.ndarray
    price: np.ndarray
    popularity: np.ndarray
    log_popularity: np.ndarray


@dataclasses.dataclass(frozen=True)
class Users:
    """Who looks, one entry a user.

    Attributes:
        city, district, aoi, gender, supervip, activity: int32 [users].
        interest_category: int32 [users, 5], all different.
        interest_weight: float32 [users, 5], sums to 1; 0 where a user has fewer interests.
        interest_shop: int32 [users, 5, 2], the preferred shops of each interest.
    """

    city: np.ndarray
    district: np.ndarray
    aoi: np.ndarray
    gender: np.ndarray
    supervip: np.ndarray
    activity: np.ndarray
    interest_category: np.ndarray
    interest_weight: np.ndarray
    interest_shop: np.ndarray

    def __len__(self) -> int:
        return len(self.city)

    def interest_in(
        self, user: np.ndarray, category: np.ndarray, shop: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weight of the category (0 … 1) float64 [n]; whether the shop is preferred, bool [n]."""
        weight = self.interest_weight[user] * (self.interest_category[user] == category[:, None])
        of_shop = (self.interest_shop[user] == shop[:, None, None]).any(2) & (weight > 0)
        return weight.sum(1, dtype=np.float64), of_shop.any(1)


@dataclasses.dataclass(frozen=True)
class WorldHistory:
    """Behaviours of all users, most recent first, all before the first day of the log.

    Attributes:
        item: int32 [behaviours].
        time: int64 [behaviours], seconds since 1970 (UTC).
        splits: int64 [users + 1]; users without a sample have no behaviours.
    """

    item: np.ndarray
    time: np.ndarray
    splits: np.ndarray

    def of(self, user: int) -> slice:
        """Where the behaviours of one user lie in `item` and `time`."""
        return slice(int(self.splits[user]), int(self.splits[user + 1]))

    def owner(self) -> np.ndarray:
        """The user of each behaviour, int64 [behaviours]."""
        return np.repeat(np.arange(len(self.splits) - 1), np.diff(self.splits))

    def gather(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices int64 [total] of the behaviours of n users, and row splits int64 [n + 1]."""
        starts = self.splits[users]
        lengths = self.splits[users + 1] - starts
        splits = np.concatenate([[0], np.cumsum(lengths)])
        return np.arange(splits[-1]) + np.repeat(starts - splits[:-1], lengths), splits


class Shelf:
    """Draws items of a group in proportion to their weights.

    Args:
        group: int [items], the group of each item; every group has one at least.
        weight: float [items], positive.
    """

    def __init__(self, group: np.ndarray, weight: np.ndarray) -> None:
        self._order = np.argsort(group, kind="stable").astype(np.int32)
        self._bounds = np.searchsorted(group[self._order], np.arange(group.max() + 2))
        self._cumulative = np.concatenate([[0.0], np.cumsum(weight[self._order])])

    def draw(self, rng: np.random.Generator, group: np.ndarray) -> np.ndarray:
        """One item for each entry of `group`."""
        first, end = self._bounds[group], self._bounds[group + 1]
        low, high = self._cumulative[first], self._cumulative[end]
        point = low + rng.random(len(group)) * (high - low)
        position = np.searchsorted(self._cumulative, point, side="right") - 1
        return self._order[np.clip(position, first, end - 1)]


class World:
    """Items and users, and the ways in which users come upon items.

    Attributes:
        taste: float64 [meals, categories], for a category at a time of day.
    """

    def __init__(self, rng: np.random.Generator, users: int, items: int) -> None:
        self.items = _make_items(rng, items)
        cell = self.items.city * CATEGORIES + self.items.category
        self._of_cell = Shelf(cell, self.items.popularity)
        self._of_shop = Shelf(self.items.shop, self.items.popularity)
        self._of_city = Shelf(self.items.city, self.items.popularity)
        self._of_city_evenly = Shelf(self.items.city, np.ones(items))
        self.users = _make_users(rng, users, self.items, self._of_cell)
        self.taste = rng.standard_normal((MEALS, CATEGORIES))

    def by_interest(self, rng: np.random.Generator, user: np.ndarray) -> np.ndarray:
        """Items [n] that each user picks for one of the planted interests."""
        cumulative = np.cumsum(self.users.interest_weight, 1)[:, :-1]
        slot = (rng.random((len(user), 1), np.float32) > cumulative[user]).sum(1)
        category = self.users.interest_category[user, slot]
        picked = self._of_cell.draw(rng, self.users.city[user] * CATEGORIES + category)
        preferred = np.flatnonzero(rng.random(len(user)) < _PREFERRED_SHOP_PICKS)
        either = rng.integers(_SHOPS_PER_INTEREST, size=len(preferred))
        shop = self.users.interest_shop[user[preferred], slot[preferred], either]
        picked[preferred] = self._of_shop.draw(rng, shop)
        return picked

    def by_popularity(self, rng: np.random.Generator, user: np.ndarray) -> np.ndarray:
        """Items [n] of each user's city, popular ones more often."""
        return self._of_city.draw(rng, self.users.city[user])

    def by_chance(self, rng: np.random.Generator, user: np.ndarray) -> np.ndarray:
        """Items [n] of each user's city, all alike."""
        return self._of_city_evenly.draw(rng, self.users.city[user])


def make_histories(
    rng: np.random.Generator, world: World, seen: np.ndarray, shortest: int, longest: int, end: int
) -> WorldHistory:
    """Histories of the seen users that end before the time `end` (a midnight)."""
    length = np.zeros(len(world.users), np.int64)
    length[seen] = np.maximum(_history_lengths(rng, len(seen), longest), shortest)
    splits = np.concatenate([[0], np.cumsum(length)])
    item, time = np.empty(splits[-1], np.int32), np.empty(splits[-1], np.int64)
    cuts = np.searchsorted(splits, np.arange(0, splits[-1] + _CHUNK, _CHUNK))
    for first, last in zip(cuts[:-1], cuts[1:], strict=True):
        last = min(last, len(length))
        part = slice(splits[first], splits[last])
        user = np.repeat(np.arange(first, last), length[first:last])
        chosen = rng.random(len(user)) < _HISTORY_BY_INTEREST
        item[part] = np.where(chosen, world.by_interest(rng, user), world.by_popularity(rng, user))
        time[part] = at_waking_hours(end - _ages(rng, splits[first : last + 1] - splits[first]))
    return WorldHistory(item, time, splits)


def at_waking_hours(time: np.ndarray) -> np.ndarray:
    """Moves even times within their days to where visits are; keeps their order."""
    day, second = np.divmod(time, DAY_SECONDS)
    hour = np.interp(second / DAY_SECONDS, _CLOCK, np.arange(25))
    return (day * DAY_SECONDS + hour * 3600).astype(np.int64)


def clock(time: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hour 0 … 23, weekday 0 … 6 from Monday, and meal 0 … 4 of times [n]; int32 [n] each."""
    hour = (time % DAY_SECONDS // 3600).astype(np.int32)
    weekday = ((time // DAY_SECONDS + 3) % 7).astype(np.int32)  # 1970-01-01 was a Thursday
    return hour, weekday, _MEAL_OF_HOUR[hour]


def _make_items(rng: np.random.Generator, count: int) -> Items:
    shops = max(MIN_ITEMS, count // ITEMS_PER_SHOP)
    city, shop_category = np.divmod(np.arange(shops) % MIN_ITEMS, CATEGORIES)
    aoi = city * _AOIS_PER_CITY + rng.integers(_AOIS_PER_CITY, size=shops)
    brand = shop_category * BRANDS_PER_CATEGORY + rng.integers(BRANDS_PER_CATEGORY, size=shops)
    brand[rng.random(shops) < 0.1] = MISSING
    # The first item of a shop keeps the shop's category, so that no cell is empty.
    shop = np.concatenate([np.arange(shops), rng.integers(shops, size=count - shops)])
    category = shop_category[shop]
    stray = np.flatnonzero((rng.random(count) < 0.15) & (np.arange(count) >= shops))
    category[stray] = rng.integers(CATEGORIES, size=len(stray))
    food = category * FOODS_PER_CATEGORY + rng.integers(FOODS_PER_CATEGORY, size=count)
    food[rng.random(count) < 0.05] = MISSING
    price = rng.lognormal(3.0, 0.3, CATEGORIES)[category] * rng.lognormal(0.0, 0.25, count)
    rank = rng.permutation(count) + _POPULARITY_OFFSET
    popularity = rank**-_POPULARITY_EXPONENT
    popularity /= popularity.sum()
    log_popularity = np.log(np.bincount(shop, popularity))[shop]
    log_popularity = (log_popularity - log_popularity.mean()) / log_popularity.std()
    ids = (shop, brand[shop], category, food, city[shop], aoi[shop] // AOIS_PER_DISTRICT, aoi[shop])
    return Items(
        *(column.astype(np.int32) for column in ids),
        price=price.round(1).astype(np.float32),
        popularity=popularity,
        log_popularity=log_popularity.astype(np.float32),
    )


def _make_users(rng: np.random.Generator, count: int, items: Items, of_cell: Shelf) -> Users:
    city = rng.integers(CITIES, size=count)
    aoi = city * _AOIS_PER_CITY + rng.integers(_AOIS_PER_CITY, size=count)
    gender = rng.integers(2, size=count)
    gender[rng.random(count) < 0.05] = MISSING
    activity = rng.integers(ACTIVITY_LEVELS, size=count)
    supervip = rng.random(count) < activity / (2 * ACTIVITY_LEVELS)
    category = np.argsort(rng.random((count, CATEGORIES), np.float32), 1)[:, :_MAX_INTERESTS]
    interests = rng.integers(_MIN_INTERESTS, _MAX_INTERESTS + 1, size=(count, 1))
    weight = rng.standard_gamma(_INTEREST_CONCENTRATION, (count, _MAX_INTERESTS))
    weight *= np.arange(_MAX_INTERESTS) < interests
    cell = np.repeat(city[:, None] * CATEGORIES + category, _SHOPS_PER_INTEREST)
    shop = items.shop[of_cell.draw(rng, cell)].reshape(count, _MAX_INTERESTS, -1)
    ids = (city, aoi // AOIS_PER_DISTRICT, aoi, gender, supervip, activity, category)
    return Users(
        *(column.astype(np.int32) for column in ids),
        interest_weight=(weight / weight.sum(1, keepdims=True)).astype(np.float32),
        interest_shop=shop,
    )


def _history_lengths(rng: np.random.Generator, count: int, longest: int) -> np.ndarray:
    kind = rng.random(count)
    length = np.exp(rng.uniform(np.log(min(_SHORT, longest)), np.log(longest), count)).round()
    length[kind < _FULL_HISTORIES] = longest
    short = kind > 1 - _SHORT_HISTORIES - _EMPTY_HISTORIES
    length[short] = rng.integers(1, min(_SHORT, longest) + 1, short.sum())
    length[kind > 1 - _EMPTY_HISTORIES] = 0
    return length.astype(np.int64)


def _ages(rng: np.random.Generator, splits: np.ndarray) -> np.ndarray:
    """Increasing ages of the behaviours of each user, in whole seconds, at least 1."""
    length = np.diff(splits)
    until = np.cumsum(np.concatenate([[0.0], rng.standard_exponential(splits[-1])]))
    begin = np.repeat(until[splits[:-1]], length)
    whole = np.repeat(until[splits[1:]] - until[splits[:-1]], length)
    reach = np.repeat(rng.uniform(*_HISTORY_DAYS, len(length)) * DAY_SECONDS, length)
    return 1 + ((until[1:] - begin) / whole * reach).astype(np.int64)
