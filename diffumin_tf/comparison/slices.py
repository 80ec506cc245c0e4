"""AUC within slices of a split: by length of the history, by popularity of the candidate."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from diffumin_tf.comparison.uncertainty import over_seeds
from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.evaluation import metrics
from diffumin_tf.evaluation.scoring import Scores
from diffumin_tf.input.parsing import parse, read_records
from diffumin_tf.input.splits import files_of
from diffumin_tf.model import features_of

_BATCH = 1024


@dataclasses.dataclass(frozen=True)
class Slicing:
    """A way to slice samples by a number that each has.

    Attributes:
        title: what the number is.
        unit: what it counts.
        buckets: name and least number of each slice, in ascending order.
    """

    title: str
    unit: str
    buckets: dict[str, int]


SLICINGS = {
    "history": Slicing(
        "length of the history",
        "behaviours in the record",
        {"0": 0, "1–10": 1, "11–50": 11, "51–200": 51, "201–1,000": 201, ">1,000": 1_001},
    ),
    "popularity": Slicing(
        "popularity of the candidate",
        "sightings in the training split",
        {"0": 0, "1–4": 1, "5–19": 5, "20–99": 20, "100–999": 100, "≥1,000": 1_000},
    ),
}


def popularity_column(config: TaskConfig, schema: DataStruct, wanted: str | None) -> str:
    """The column whose sightings count: the wanted one, or the first candidate feature.

    Raises:
        ConfigError: the records have no such column.
    """
    column = wanted or features_of(config).candidate[0]
    schema.position("cat_feature", column)
    return column


def read_facts(
    config: TaskConfig, schema: DataStruct, split: str, column: str
) -> dict[str, np.ndarray]:
    """Reads the training split and the scored one.

    Args:
        config: which data, and which history fields.
        schema: columns of a record.
        split: the scored one.
        column: the candidate column whose sightings count.

    Returns:
        int64 [n] for the samples of the split in their order: `history`, behaviours in the record,
        also those beyond `seq_len`; `popularity`, training samples that have the same candidate.
    """
    index = schema.position("cat_feature", column)
    trained = [raw["cat_feature"][:, index].numpy() for raw in _batches(config, schema, "train")]
    sightings = pd.Series(np.concatenate(trained)).value_counts()
    candidates, lengths = [], []
    for raw in _batches(config, schema, split):
        candidates.append(raw["cat_feature"][:, index].numpy())
        lengths.append(_history_lengths(config, schema, raw).numpy())
    candidate = pd.Series(np.concatenate(candidates))
    popularity = candidate.map(sightings).where(candidate != 0).fillna(0)  # 0: a missing id
    return {
        "history": np.concatenate(lengths).astype(np.int64),
        "popularity": popularity.to_numpy(np.int64),
    }


def auc_by_slice(kind: str, numbers: np.ndarray, scores: Sequence[Scores]) -> list[dict[str, Any]]:
    """AUC within each slice that is not empty, mean over the scores of several seeds.

    Args:
        kind: a key of `SLICINGS`.
        numbers: [n], by which samples are sliced.
        scores: of the same samples, one a seed.

    Returns:
        `{"bucket", "samples", "clicks", "auc", "sd"}` a slice: mean and standard deviation (None
        for one seed) over seeds. The AUC is None with one class alone.
    """
    buckets, labels = SLICINGS[kind].buckets, scores[0].labels
    bucket_of = pd.cut(numbers, [*buckets.values(), np.inf], right=False, labels=list(buckets))
    rows = []
    for bucket in buckets:
        inside = np.asarray(bucket_of == bucket)
        if inside.any():
            areas = [metrics.auc(labels[inside], s.pctr[inside]) for s in scores]
            statistic = over_seeds(areas) or {"mean": None, "sd": None}
            rows.append(
                {
                    "bucket": bucket,
                    "samples": int(inside.sum()),
                    "clicks": int((labels[inside] > 0).sum()),
                    "auc": statistic["mean"],
                    "sd": statistic["sd"],
                }
            )
    return rows


def _batches(config: TaskConfig, schema: DataStruct, split: str) -> Iterator[dict[str, tf.Tensor]]:
    records = read_records(files_of(config, schema, split))
    return iter(records.batch(_BATCH).map(lambda batch: parse(schema, batch), tf.data.AUTOTUNE))


def _history_lengths(
    config: TaskConfig, schema: DataStruct, raw: dict[str, tf.Tensor]
) -> tf.Tensor:
    """int64 [B]: behaviours of the longest field."""
    lengths = []
    for field in map(schema.sequence, features_of(config).behaviours):
        if field.start is None:
            lengths.append(raw[field.name].row_lengths())
        else:
            ids = raw["cat_feature"][:, field.start : field.start + field.max_len]
            lengths.append(tf.math.count_nonzero(ids, axis=1))
    return tf.reduce_max(tf.stack(lengths), axis=0)
