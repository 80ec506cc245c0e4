"""AUC within slices of a split: by length of the history, by popularity of the candidate."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from diffumin_tf.comparison.uncertainty import over_seeds
from diffumin_tf.config.schema import NEWER, DataStruct, SequenceField
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.evaluation import metrics
from diffumin_tf.evaluation.scoring import Scores
from diffumin_tf.input.chunks import whole
from diffumin_tf.input.damage import FileCheck
from diffumin_tf.input.parsing import parse, read_records
from diffumin_tf.input.splits import files_of
from diffumin_tf.model import features_of

_BATCH = 1024

# By kind: what samples are sliced by, what is counted, and the first number of each slice by name.
SLICINGS = {
    "history": (
        "length of the history",
        "behaviours in the record",
        {"0": 0, "1–10": 1, "11–50": 11, "51–200": 51, "201–1,000": 201, ">1,000": 1_001},
    ),
    "popularity": (
        "popularity of the candidate",
        "sightings in the training split",
        {"0": 0, "1–4": 1, "5–19": 5, "20–99": 20, "100–999": 100, "≥1,000": 1_000},
    ),
}


def popularity_column(config: TaskConfig, schema: DataStruct, wanted: str | None) -> str:
    """The column whose sightings count: the wanted one, or the first candidate feature."""
    column = wanted or features_of(config).candidate[0]
    schema.position("cat_feature", column)
    return column


@tf.autograph.experimental.do_not_convert  # as in `Batches.dataset`
def read_facts(
    config: TaskConfig,
    schema: DataStruct,
    split: str,
    column: str,
    report: Callable[[str], None] = print,
) -> dict[str, np.ndarray]:
    """Reads the training split and the scored one.

    Returns:
        int64 [n] for the samples of the split in their order: `history`, behaviours before the
        impression, `max_len` at most, also those beyond `seq_len`; `popularity`, training samples
        that have the same candidate.
    """
    index = schema.position("cat_feature", column)
    fields = [schema.sequence(name) for name in features_of(config).behaviours]
    check = FileCheck(schema, config.max_bad_records, report)

    def samples(split: str) -> np.ndarray:
        files = files_of(config, schema, split)
        is_grouped = check.grouped(files)

        def candidate_and_length(serialised: tf.Tensor) -> tf.Tensor:
            raw = parse(schema, whole(serialised) if is_grouped else serialised)
            return tf.stack([raw["cat_feature"][:, index], _history_length(fields, raw)], axis=1)

        records = read_records(files, check.cuts).batch(_BATCH)
        batches = records.map(candidate_and_length, tf.data.AUTOTUNE)
        return np.concatenate([batch.numpy() for batch in check.read(batches, files)])

    sightings = pd.Series(samples("train")[:, 0]).value_counts()
    candidate, length = samples(split).T
    popularity = pd.Series(candidate).map(sightings).fillna(0)
    popularity[candidate == 0] = 0  # a missing id
    return {"history": length, "popularity": popularity.to_numpy(np.int64)}


def _history_length(fields: Sequence[SequenceField], raw: dict[str, tf.Tensor]) -> tf.Tensor:
    """int64 [B]: behaviours of the longest field."""
    lengths = []
    for field in fields:
        if field.start is None:
            length = tf.cast(raw[field.name].row_lengths(), tf.int64)
            if NEWER in raw:
                length = tf.gather(length, raw["record"]) - tf.cast(raw[NEWER], tf.int64)
            lengths.append(tf.minimum(length, field.max_len))
        else:
            ids = raw["cat_feature"][:, field.start : field.start + field.max_len]
            lengths.append(tf.math.count_nonzero(ids, axis=1))
    return tf.reduce_max(tf.stack(lengths), axis=0)


def auc_by_slice(kind: str, numbers: np.ndarray, scores: Sequence[Scores]) -> list[dict[str, Any]]:
    """AUC within each slice that is not empty, mean over the scores of several seeds.

    Args:
        kind: a key of `SLICINGS`.
        numbers: [n], by which samples are sliced.
        scores: of the same samples, one a seed.

    Returns:
        A slice each, with `auc` (None with one class alone) and `sd` (None for one seed).
    """
    (_, _, buckets), labels = SLICINGS[kind], scores[0].labels
    bucket_of = pd.cut(numbers, [*buckets.values(), np.inf], right=False, labels=list(buckets))
    rows = []
    for bucket in buckets:
        inside = np.asarray(bucket_of == bucket)
        if inside.any():
            areas = [metrics.auc(labels[inside], s.pctr[inside]) for s in scores]
            statistic = over_seeds(areas) or {"mean": None, "sd": None}
            clicks = int((labels[inside] > 0).sum())
            row = {"bucket": bucket, "samples": int(inside.sum()), "clicks": clicks}
            rows.append({**row, "auc": statistic["mean"], "sd": statistic["sd"]})
    return rows
