"""Writes a synthetic log in the layout of Ele.me's public CSV."""

import posixpath

import numpy as np
import tensorflow as tf

from diffumin_tf.files import staged_directory
from diffumin_tf.synthetic.log import SyntheticLog
from diffumin_tf.synthetic.world import DAY_SECONDS, MISSING, clock

MAX_LEN = 50
MISSING_TEXT = "-99"

_GEOHASH_LETTERS = "0123456789bcdefghjkmnpqrstuvwxyz"
_GEOHASH_FACTOR = 2654435761  # odd, so that no two numbers below 32^6 share a geohash
_RANK_BUCKETS = (5, 10, 20)  # of rank_7, rank_30, rank_90: a longer window ranks more finely
_PRICE_STEP = 2.0  # yuan a bucket of avg_price
_MONTH_SECONDS = 30 * DAY_SECONDS

_Texts = np.ndarray  # of str objects


def write_eleme_csv(log: SyntheticLog, directory: str) -> None:
    """Writes `eleme_<yyyymmdd>.csv` per day: 39 columns without a header.

    Lists are split by `;`, most recent behaviour first, 50 at most; a missing id is -99 and the
    list of a user without history is empty. `times` is in seconds since 1970 (UTC),
    `timediff_list` in seconds before `times`, `ctr_30` is the user's activity level, `rank_7` …
    `rank_90` are 5, 10 and 20 buckets of the shop's popularity rank (0 = most popular). The layout
    has no column for the position, whose effect no model of this log can learn.

    Raises:
        DataError: the directory exists, or the disk is full.
    """
    items, users = _item_columns(log), _user_columns(log)
    lists, times = _list_columns(log, items)
    home = _texts(_geohash(a) + _geohash(u) for u, a in enumerate(log.users.aoi.tolist()))
    with staged_directory(directory) as staging:
        for day in log.days:
            rows = log.on(day)
            user, item, time = log.user[rows], log.item[rows], log.time[rows]
            ages = [_list(now - times[u]) for u, now in zip(user.tolist(), time, strict=True)]
            columns = [
                log.label[rows],
                *(column[user] for column in users),
                *(column[item] for column in items.values()),
                *(column[user] for column in lists[:8]),
                ages,
                *(column[user] for column in lists[8:]),
                *(time, log.hour[rows], log.meal[rows], log.weekday[rows], home[user]),
            ]
            with tf.io.gfile.GFile(posixpath.join(staging, f"eleme_{day}.csv"), "w") as file:
                for line in zip(*columns, strict=True):
                    file.write(",".join(map(str, line)) + "\n")


def _item_columns(log: SyntheticLog) -> dict[str, _Texts]:
    """What the layout says about each item, by column."""
    items = log.items
    area = [_geohash(aoi) for aoi in items.aoi.tolist()]
    address = [a + _geohash(shop) for a, shop in zip(area, items.shop.tolist(), strict=True)]
    return {
        "shop": _ids(items.shop),
        "item": _ids(np.arange(len(items.shop))),
        "city": _ids(items.city),
        "district": _ids(items.district),
        "aoi": _ids(items.aoi),
        "geohash_6": _texts(area),
        "geohash_12": _texts(address),
        "brand": _ids(items.brand),
        "category": _ids(items.category),
        "food": _ids(items.food),
        **{f"rank {n}": _texts(_quantile(-items.log_popularity, n)) for n in _RANK_BUCKETS},
    }


def _user_columns(log: SyntheticLog) -> list[_Texts]:
    users, history = log.users, log.history
    recent = history.time >= log.time.min() // DAY_SECONDS * DAY_SECONDS - _MONTH_SECONDS
    owner = history.owner()[recent]
    orders = np.bincount(owner, minlength=len(users))
    spent = np.bincount(owner, log.items.price[history.item[recent]], len(users))
    price = np.floor(log.mean_price / _PRICE_STEP).astype(np.int64)
    return [
        _ids(np.arange(len(users))),
        _ids(users.gender),
        _ids(users.city),
        np.where(np.diff(history.splits) > 0, _texts(price), MISSING_TEXT),
        users.supervip,
        users.activity,
        np.log2(1 + orders).astype(np.int64),
        np.log2(1 + spent).astype(np.int64),
    ]


def _list_columns(
    log: SyntheticLog, items: dict[str, _Texts]
) -> tuple[list[_Texts], dict[int, np.ndarray]]:
    """The lists of each user but `timediff_list`, by column; the times of the behaviours."""
    names = ("shop", "item", "category", "food", "brand")
    prices = _texts(f"{price:.1f}" for price in log.items.price.tolist())
    of_item = [*(items[name] for name in names), prices, items["aoi"], items["geohash_6"]]
    lists, times = np.full((len(of_item) + 3, len(log.users)), "", object), {}
    for user in np.unique(log.user).tolist():
        newest = log.history.of(user)
        item, times[user] = log.history.item[newest][:MAX_LEN], log.history.time[newest][:MAX_LEN]
        hour, weekday, meal = clock(times[user])
        lists[:, user] = [
            *(";".join(column[item]) for column in of_item),
            *(_list(column) for column in (hour, meal, weekday)),
        ]
    return list(lists), times


def _ids(ids: np.ndarray) -> _Texts:
    """Ids from 1 on as texts; -99 where missing."""
    return np.where(ids == MISSING, MISSING_TEXT, (ids + 1).astype(str)).astype(object)


def _texts(values) -> _Texts:
    return np.array([str(value) for value in values], object)


def _list(numbers: np.ndarray) -> str:
    return ";".join(map(str, numbers.tolist()))


def _quantile(values: np.ndarray, count: int) -> np.ndarray:
    """Quantile of each value, 0 … count − 1."""
    return np.searchsorted(np.quantile(values, np.arange(1, count) / count), values)


def _geohash(number: int) -> str:
    """Six letters in the alphabet of geohashes, others for every number."""
    scattered = number * _GEOHASH_FACTOR % 32**6
    return "".join(_GEOHASH_LETTERS[scattered >> shift & 31] for shift in range(25, -1, -5))
