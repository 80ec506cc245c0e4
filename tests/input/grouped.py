"""Samples of which several share a record."""

import dataclasses

import numpy as np

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.input.records import SampleColumns

MAX_LEN = 12
GROUPED_SCHEMA = DataStruct.from_dict(
    {
        "label": {"column": ["click"]},
        "auxiliary_info": {"column": ["user_id", "time"]},
        "cat_feature": {"column": ["user", "item", "category", "hour", "city"]},
        "dense_feature": {"column": ["price", "age"]},
        "sequence_feature": {"column": ["item_list", "category_list"], "max_len": MAX_LEN},
        "multi_feature": {"column": ["tags", "genres"]},
        "id_space": {"genres": "category"},
        "stored_once": ["user_id", "user", "city", "age", "tags"],
    }
)
# Impressions, and behaviours of their user, of records.
SIZES = ((1, 0), (1, 5), (5, 0), (7, 20), (3, 12), (1, 40), (9, 3), (4, 300))


def grouped_samples(sizes=SIZES, seed=0, first=0) -> SampleColumns:
    """Samples in groups of `sizes`, whose windows begin at 0, in the middle and at the end.

    A click depends on whether the candidate's category is in what the sample sees. The time tells
    samples apart: it counts from `first`.
    """
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), np.array([n for n, _ in sizes], int))
    edges = np.cumsum([0, *(length for _, length in sizes)])
    past = rng.integers(100, 140, edges[-1])
    start, end = edges[group], edges[group + 1]
    newer = rng.integers(0, end - start + 1)
    for number, (count, length) in enumerate(sizes):
        some = [length, 0, min(length, 1), length // 2, length // 2][:count]
        newer[np.flatnonzero(group == number)[: len(some)]] = some
    start = start + newer
    stop = np.minimum(start + MAX_LEN, end)
    n = len(group)
    item = rng.integers(100, 140, n)
    windows = zip(item, start, stop, strict=True)
    match = np.array([(past[a:b] % 8 == i % 8).any() for i, a, b in windows])
    tags = np.cumsum([0, *rng.integers(0, 4, len(sizes))])
    genres = np.cumsum([0, *rng.integers(0, 4, n)])
    cat = [50 + group % 20, item, 200 + item % 8, 300 + rng.integers(0, 24, n), 400 + group % 3]
    dense = [rng.normal(size=n), np.where(group % 3 == 2, np.nan, group)]
    return SampleColumns(
        label=(rng.random(n) < np.where(match, 0.8, 0.2)).astype(np.int64),
        auxiliary_info=np.stack([50 + group % 20, first + np.arange(n)], 1),
        cat_feature=np.stack(cat, 1).astype(np.int64),
        dense_feature=np.stack(dense, 1).astype(np.float32),
        sequences={
            "item_list": (past, start, stop),
            "category_list": (200 + past % 8, start.copy(), stop.copy()),
        },
        multi={
            "tags": (rng.integers(500, 520, tags[-1]), tags[group], tags[group + 1]),
            "genres": (200 + rng.integers(0, 8, genres[-1]), genres),
        },
        group=group,
    )


def ungrouped(samples: SampleColumns) -> SampleColumns:
    """The same samples, a record each."""
    return dataclasses.replace(samples, group=None)
