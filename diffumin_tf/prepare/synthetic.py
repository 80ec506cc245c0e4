"""The adapter `synthetic`: a log with planted interests → day partitions, from a spec alone."""

import dataclasses
import functools
import posixpath
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.files import staged_file
from diffumin_tf.input.records import SampleColumns
from diffumin_tf.prepare.partitions import Partitions, digest
from diffumin_tf.prepare.spec import SyntheticSpec
from diffumin_tf.prepare.values import value_ids
from diffumin_tf.synthetic.log import LONGEST_HISTORY, SyntheticLog, generate

SCHEMA: dict[str, Any] = {
    "label": {"column": ["click"]},
    "auxiliary_info": {"column": ["user_id", "time"]},
    "cat_feature": {
        "column": ["user_id", "user_city", "user_activity"]
        + ["target_poi", "target_third_id", "target_aor_id", "hour", "weekday", "position"]
    },
    "dense_feature": {"column": ["user_avg_price", "poi_log_popularity"]},
    "sequence_feature": {
        "column": ["item_id_list", "third_id_list", "aor_id_list"],
        "max_len": LONGEST_HISTORY,
    },
    "id_space": {
        "item_id_list": "target_poi",
        "third_id_list": "target_third_id",
        "aor_id_list": "target_aor_id",
    },
}

_STORED_ONCE = ["user_id", "user_city", "user_activity", "user_avg_price"]
_BLOCK_ROWS = 256  # histories are long


def prepare_synthetic(spec: SyntheticSpec, output_dir: str) -> dict[str, Any]:
    """Writes the records of a `SyntheticSpec`; returns the manifest.

    A behaviour's `poi` is its shop, `third_id` its category, `aor` the shop's area. Beside the days
    lies `true_probability_<yyyymmdd>.npy`, float64 in the order of the samples, which is that of
    the records when a day has one part. The manifest has the best reachable AUC of every day.
    """
    together = spec.group == "user_day"
    schema = DataStruct.from_dict({**SCHEMA, "stored_once": _STORED_ONCE if together else []})
    log = functools.cache(lambda: generate(spec))  # not drawn when all days are complete
    made_from = digest("synthetic")  # the spec says everything

    def samples(day: str, details: dict[str, Any]) -> Iterator[SampleColumns]:
        rows, items = log().on(day), log().items
        first = np.arange(len(rows))  # of the samples that share a record with each
        if together:
            _, begin, owner = np.unique(log().user[rows], return_index=True, return_inverse=True)
            order = np.argsort(begin[owner], kind="stable")
            rows, first = rows[order], begin[owner][order]
        with staged_file(posixpath.join(output_dir, f"true_probability_{day}.npy"), "wb") as file:
            np.save(file, log().true_probability[rows])
        details["best_reachable_auc"] = log().best_reachable_auc(day)
        item_ids = {
            "item_id_list": _ids("target_poi", items.shop),
            "third_id_list": _ids("target_third_id", items.category),
            "aor_id_list": _ids("target_aor_id", items.aoi),
        }
        edges = np.flatnonzero(np.diff(first // _BLOCK_ROWS)) + 1
        for block, group in zip(np.split(rows, edges), np.split(first, edges), strict=True):
            yield dataclasses.replace(
                _columns(log(), item_ids, block), group=group if together else None
            )

    output = Partitions(output_dir, schema, spec, lambda day: made_from)
    for day in sorted(spec.samples_per_day):
        output.add(day, functools.partial(samples, day))
    return output.finish()


def _columns(log: SyntheticLog, item_ids: dict[str, np.ndarray], rows: np.ndarray) -> SampleColumns:
    user, item = log.user[rows], log.item[rows]
    owners, owner = np.unique(user, return_inverse=True)
    behaviours, splits = log.history.gather(owners)
    past = log.history.item[behaviours]
    user_id = _ids("user_id", user)
    categories = [
        user_id,
        _ids("user_city", log.users.city[user]),
        _ids("user_activity", log.users.activity[user]),
        *(ids[item] for ids in item_ids.values()),
        *(_ids(name, getattr(log, name)[rows]) for name in ("hour", "weekday", "position")),
    ]
    dense = [log.mean_price[user], log.items.log_popularity[item]]
    return SampleColumns(
        label=log.label[rows],
        auxiliary_info=np.stack([user_id, log.time[rows]], 1),
        cat_feature=np.stack(categories, 1),
        dense_feature=np.stack(dense, 1).astype(np.float32),
        sequences={
            name: (ids[past], splits[owner], splits[owner + 1]) for name, ids in item_ids.items()
        },
    )


def _ids(space: str, numbers: np.ndarray) -> np.ndarray:
    return value_ids(space, pa.array(numbers))
