"""Writes a synthetic log: as Ele.me's public CSV, or as records with long histories."""

import json
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import SCHEMA_FILE, DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.files import staged_directory, write_text
from diffumin_tf.input.fingerprint import fingerprint
from diffumin_tf.input.records import PartWriter, SampleColumns, encode
from diffumin_tf.synthetic.log import SyntheticLog
from diffumin_tf.synthetic.world import DAY_SECONDS, MISSING, clock

ELEME_MAX_LEN = 50
ELEME_MISSING = "-99"
LONG_TERM_SCHEMA = DataStruct.from_dict(
    {
        "label": {"column": ["click"]},
        "auxiliary_info": {"column": ["user_id", "time"]},
        "cat_feature": {
            "column": ["user_id", "user_city", "user_activity"]
            + ["target_poi", "target_third_id", "target_aor_id", "hour", "weekday", "position"]
        },
        "dense_feature": {"column": ["user_avg_price", "poi_log_popularity"]},
        "sequence_feature": {
            "column": ["item_id_list", "third_id_list", "aor_id_list"],
            "max_len": 5000,
        },
        "id_space": {
            "item_id_list": "target_poi",
            "third_id_list": "target_third_id",
            "aor_id_list": "target_aor_id",
        },
    }
)

_GEOHASH_LETTERS = "0123456789bcdefghjkmnpqrstuvwxyz"
_GEOHASH_FACTOR = 2654435761  # odd, so that no two numbers below 32^6 share a geohash
_ITEM_IDS = ("shop", "city", "district", "aoi", "brand", "category", "food")
_RANK_BUCKETS = (5, 10, 20)  # of rank_7, rank_30, rank_90: a longer window ranks more finely
_PRICE_STEP = 2.0  # yuan a bucket of avg_price
_SAMPLES_AT_ONCE = 256  # encoded together; bounds the memory of histories written out
_MONTH_SECONDS = 30 * DAY_SECONDS


def write_eleme_csv(log: SyntheticLog, directory: str) -> dict[str, str]:
    """Writes `eleme_<yyyymmdd>.csv` per day in the layout of the public Ele.me log.

    39 columns without a header; lists are split by `;`, most recent behaviour first, 50 at most;
    a missing id is -99 and the list of a user without history is empty. `times` is in seconds
    since 1970 (UTC), `timediff_list` in seconds before `times`, `ctr_30` is the user's
    activity level, `rank_7` … `rank_90` are 5, 10 and 20 buckets
    of the shop's popularity rank (0 = most popular). The layout has no
    place for the position, whose effect no model of this log can learn. Beside each CSV lies
    `true_probability_<yyyymmdd>.npy`, float64 in row order, and `manifest.json` for all days.

    Args:
        log: the log.
        directory: where to; must not exist yet.

    Returns:
        The path of each day's CSV.

    Raises:
        DataError: the directory exists, or the disk is full.
    """
    lines = _ElemeLines(log)
    with staged_directory(directory) as staging:
        for day in log.days:
            with tf.io.gfile.GFile(posixpath.join(staging, f"eleme_{day}.csv"), "w") as file:
                for line in lines.of(log.on(day)):
                    file.write(line)
        _write_truth(log, staging, {})
    return {day: posixpath.join(directory, f"eleme_{day}.csv") for day in log.days}


def write_long_term_records(
    log: SyntheticLog,
    directory: str,
    parts: int = 1,
    compression: str = "",
    notes: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Writes `<yyyymmdd>/part-*` per day in the schema of the Long_term experiment.

    A behaviour's `poi` is its shop, `third_id` its category, `aor` the shop's area. With one
    part, records are in the order of the samples. Beside the days lie `data_struct.json`,
    `true_probability_<yyyymmdd>.npy` (float64 in the order of the samples) and `manifest.json`.

    Args:
        log: the log, with histories of 5,000 at most.
        directory: where to; must not exist yet.
        parts: files a day.
        compression: `""` or `"GZIP"`.
        notes: further entries of the manifest.

    Returns:
        The path of each day's folder.

    Raises:
        DataError: a history is too long for the schema, the directory exists, or the disk is full.
    """
    limit = LONG_TERM_SCHEMA.sequence("item_id_list").max_len
    longest = int(np.diff(log.history.splits).max())
    if longest > limit:
        raise DataError(f"{directory}: a history of {longest} behaviours; the schema holds {limit}")
    columns = _LongTermColumns(log)
    with staged_directory(directory) as staging:
        for day in log.days:
            folder = posixpath.join(staging, day)
            tf.io.gfile.makedirs(folder)
            rows = log.on(day)
            with PartWriter(folder, parts, compression) as writer:
                for start in range(0, len(rows), _SAMPLES_AT_ONCE):
                    chunk = columns.of(rows[start : start + _SAMPLES_AT_ONCE])
                    writer.write(encode(LONG_TERM_SCHEMA, chunk))
        schema = json.dumps(LONG_TERM_SCHEMA.to_dict(), indent=2)
        write_text(posixpath.join(staging, SCHEMA_FILE), schema + "\n")
        _write_truth(log, staging, notes or {})
    return {day: posixpath.join(directory, day) for day in log.days}


def _write_truth(log: SyntheticLog, directory: str, notes: Mapping[str, Any]) -> None:
    days = {}
    for day in log.days:
        rows = log.on(day)
        path = posixpath.join(directory, f"true_probability_{day}.npy")
        with tf.io.gfile.GFile(path, "wb") as file:
            np.save(file, log.true_probability[rows])
        days[day] = {
            "examples": len(rows),
            "click_rate": float(log.label[rows].mean()),
            "best_reachable_auc": log.best_reachable_auc(day),
        }
    text = json.dumps({**notes, "days": days}, indent=2)
    write_text(posixpath.join(directory, "manifest.json"), text + "\n")


def _mean_price(log: SyntheticLog) -> np.ndarray:
    """Mean price of each user's behaviours, float64 [users]; 0 without any."""
    length = np.diff(log.history.splits)
    total = np.bincount(_owner(log), log.items.price[log.history.item], len(length))
    return total / np.maximum(length, 1)


def _owner(log: SyntheticLog) -> np.ndarray:
    return np.repeat(np.arange(len(log.users)), np.diff(log.history.splits))


class _LongTermColumns:
    """Columns of the long-term records, with ids looked up once for the whole log."""

    def __init__(self, log: SyntheticLog) -> None:
        items, users = log.items, log.users
        self._log = log
        self._user_id = _ids("user_id", np.arange(len(users)))
        self._sequences = {
            "item_id_list": _ids("target_poi", items.shop),
            "third_id_list": _ids("target_third_id", items.category),
            "aor_id_list": _ids("target_aor_id", items.aoi),
        }
        poi, third, aor = (ids[log.item] for ids in self._sequences.values())
        by_name = {
            "user_id": self._user_id[log.user],
            "user_city": _ids("user_city", users.city)[log.user],
            "user_activity": _ids("user_activity", users.activity)[log.user],
            "target_poi": poi,
            "target_third_id": third,
            "target_aor_id": aor,
            **{n: _ids(n, getattr(log, n)) for n in ("hour", "weekday", "position")},
        }
        self._cat = np.stack([by_name[name] for name in LONG_TERM_SCHEMA.cat_feature], 1)
        self._auxiliary = np.stack([by_name["user_id"], log.time], 1)
        dense = [_mean_price(log)[log.user], items.log_popularity[log.item]]
        self._dense = np.stack(dense, 1).astype(np.float32)

    def of(self, rows: np.ndarray) -> SampleColumns:
        """The columns of some samples."""
        behaviours, splits = self._log.history.gather(self._log.user[rows])
        item = self._log.history.item[behaviours]
        return SampleColumns(
            label=self._log.label[rows],
            auxiliary_info=self._auxiliary[rows],
            cat_feature=self._cat[rows],
            dense_feature=self._dense[rows],
            sequences={name: (ids[item], splits) for name, ids in self._sequences.items()},
        )


def _ids(space: str, numbers: np.ndarray) -> np.ndarray:
    distinct, inverse = np.unique(numbers, return_inverse=True)
    return fingerprint(space, distinct.astype(str))[inverse]


class _ElemeLines:
    """Lines of the Ele.me log; what repeats over users and items is written out once."""

    def __init__(self, log: SyntheticLog) -> None:
        items = log.items
        self._log = log
        aoi, shop = items.aoi.tolist(), items.shop.tolist()
        geohash_6 = [_geohash(a) for a in aoi]
        geohash_12 = [a + _geohash(s) for a, s in zip(geohash_6, shop, strict=True)]
        text = {name: _texts(getattr(items, name)) for name in _ITEM_IDS}
        text["item"] = _texts(np.arange(len(shop)))
        self._candidate = _rows(
            *(text[name] for name in ("shop", "item", "city", "district", "aoi")),
            *(geohash_6, geohash_12, text["brand"], text["category"], text["food"]),
            *(_buckets(-items.log_popularity, count) for count in _RANK_BUCKETS),
        )
        behaviour = [text[name] for name in ("shop", "item", "category", "food", "brand")]
        behaviour += [[f"{price:.1f}" for price in items.price.tolist()], text["aoi"], geohash_6]
        self._behaviour = [np.array(column, object) for column in behaviour]
        self._user = _rows(*_eleme_user_columns(log))
        self._home = [_geohash(a) + _geohash(u) for u, a in enumerate(log.users.aoi.tolist())]
        self._past: dict[int, tuple[str, np.ndarray, str]] = {}

    def of(self, rows: np.ndarray) -> Iterator[str]:
        """One line a sample, with its line feed."""
        log = self._log
        columns = (log.label, log.user, log.item, log.time, log.hour, log.meal, log.weekday)
        for label, user, item, time, hour, meal, weekday in zip(
            *(column[rows].tolist() for column in columns), strict=True
        ):
            yield (
                f"{label},{self._user[user]},{self._candidate[item]},"
                f"{self._history(user, time)},{time},{hour},{meal},{weekday},{self._home[user]}\n"
            )

    def _history(self, user: int, time: int) -> str:
        if user not in self._past:
            self._past[user] = self._read_past(user)
        fields, times, clocks = self._past[user]
        return f"{fields},{_list(time - times)},{clocks}"

    def _read_past(self, user: int) -> tuple[str, np.ndarray, str]:
        history = self._log.history
        item = history.item[history.of(user)][:ELEME_MAX_LEN]
        time = history.time[history.of(user)][:ELEME_MAX_LEN]
        hour, weekday, meal = clock(time)
        fields = ",".join(";".join(column[item]) for column in self._behaviour)
        return fields, time, ",".join(_list(column) for column in (hour, meal, weekday))


def _eleme_user_columns(log: SyntheticLog) -> list[list[str]]:
    users, history = log.users, log.history
    midnight = log.time.min() // DAY_SECONDS * DAY_SECONDS
    recent = history.time >= midnight - _MONTH_SECONDS
    owner = _owner(log)[recent]
    orders = np.bincount(owner, minlength=len(users))
    spent = np.bincount(owner, log.items.price[history.item[recent]], len(users))
    price = np.floor(_mean_price(log) / _PRICE_STEP).astype(np.int64)
    return [
        _texts(np.arange(len(users))),
        _texts(users.gender),
        _texts(users.city),
        np.where(np.diff(history.splits) > 0, price.astype(str), ELEME_MISSING).tolist(),
        users.supervip.tolist(),
        users.activity.tolist(),
        np.log2(1 + orders).astype(np.int64).tolist(),
        np.log2(1 + spent).astype(np.int64).tolist(),
    ]


def _texts(ids: np.ndarray) -> list[str]:
    """Ids from 1 on as texts; -99 where missing."""
    return np.where(ids == MISSING, ELEME_MISSING, (ids + 1).astype(str)).tolist()


def _list(numbers: np.ndarray) -> str:
    return ";".join(map(str, numbers.tolist()))


def _rows(*columns: list) -> list[str]:
    return [",".join(map(str, row)) for row in zip(*columns, strict=True)]


def _buckets(values: np.ndarray, count: int) -> list[int]:
    """Quantile of each value, 0 … count − 1."""
    edges = np.quantile(values, np.arange(1, count) / count)
    return np.searchsorted(edges, values).tolist()


def _geohash(number: int) -> str:
    """Six letters in the alphabet of geohashes, others for every number."""
    scattered = number * _GEOHASH_FACTOR % 32**6
    return "".join(_GEOHASH_LETTERS[scattered >> shift & 31] for shift in range(25, -1, -5))
