"""The small experiment with fields of several values of every role, one in the place of an id."""

import dataclasses

import numpy as np

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.input.records import SampleColumns
from tests.small_log import CONFIG, SCHEMA, samples

MULTI = {"tags": 400, "genres": 200, "words": 500}  # of the user, the candidate, the context
SEVERAL_SCHEMA = DataStruct.from_dict(
    {
        **SCHEMA,
        "multi_feature": {"column": list(MULTI)},
        "id_space": {"genres": "category"},
    }
)
SEVERAL_FEATURES = {
    **CONFIG["features"],
    "user": ["tags", "user"],
    "candidate": ["item", "genres"],
    "context": ["hour", "words"],
}


def several_samples(count: int, seed: int) -> SampleColumns:
    """`samples`, in which the genres of a candidate are its category and others that vary."""
    data, rng = samples(count, seed), np.random.default_rng(1000 + seed)
    multi = {}
    for name, first in MULTI.items():
        lists = [first + rng.integers(0, 8, rng.integers(0, 5)) for _ in range(count)]
        if name == "genres":
            lists = [
                np.r_[ids, own] for ids, own in zip(lists, data.cat_feature[:, 2], strict=True)
            ]
        splits = np.r_[0, np.cumsum([len(ids) for ids in lists])]
        multi[name] = np.concatenate(lists).astype(np.int64), splits
    return dataclasses.replace(data, multi=multi)


# Arguments of `write_experiment`.
SEVERAL = {
    "schema": SEVERAL_SCHEMA.to_dict(),
    "samples": several_samples,
    "features": SEVERAL_FEATURES,
}
