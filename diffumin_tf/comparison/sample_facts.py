"""What the records tell of the samples: length of the history, popularity of the candidate."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.files import write_arrays
from diffumin_tf.input.damage import FileCheck
from diffumin_tf.input.parsing import parse, read_records
from diffumin_tf.input.splits import files_of
from diffumin_tf.model import features_of

_BATCH = 1024
_FILE = "slices.npz"


@dataclasses.dataclass(frozen=True)
class SampleFacts:
    """What is known of the n samples of the scored split, in their order.

    Attributes:
        history: int64 [n], behaviours in the record, also those beyond `seq_len`.
        sightings: int64 [n], training samples that have the same candidate.
    """

    history: np.ndarray
    sightings: np.ndarray


def popularity_column(config: TaskConfig, schema: DataStruct, wanted: str | None) -> str:
    """The column whose sightings count: the wanted one, or the first candidate feature.

    Raises:
        ConfigError: the records have no such column.
    """
    column = wanted or features_of(config).candidate[0]
    schema.position("cat_feature", column)
    return column


def read_facts(
    config: TaskConfig,
    schema: DataStruct,
    split: str,
    popularity_feature: str | None,
    folder: str,
    report: Callable[[str], None],
) -> SampleFacts:
    """Reads the training split and the scored one once; kept in a folder for the next time.

    Args:
        config: which data, and which history fields.
        schema: columns of a record.
        split: the scored one.
        popularity_feature: candidate column; None takes the first candidate feature.
        folder: where to keep it.
        report: takes a line of progress.
    """
    column = popularity_column(config, schema, popularity_feature)
    read_from = _read_from(config, split, column)
    path = os.path.join(folder, _FILE)
    if os.path.exists(path):
        with np.load(path) as kept:
            if str(kept["read_from"]) == read_from:
                return SampleFacts(kept["history"], kept["sightings"])
    report(f"counting histories, and sightings of {column} …")
    check = FileCheck(schema, config.max_bad_records, report)
    found = _count(config, schema, split, column, check)
    write_arrays(path, {**dataclasses.asdict(found), "read_from": np.array(read_from)})
    return found


def _count(
    config: TaskConfig, schema: DataStruct, split: str, column: str, check: FileCheck
) -> SampleFacts:
    fields, place = features_of(config).behaviours, schema.position("cat_feature", column)

    def candidate(raw: dict[str, tf.Tensor]) -> tf.Tensor:
        return raw["cat_feature"][:, place]

    def both(raw: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        return _history(schema, fields, raw), candidate(raw)

    trained = _read(files_of(config, schema, "train"), schema, check, candidate)
    ids, counts = np.unique(np.concatenate([b.numpy() for b in trained]), return_counts=True)
    scored = list(_read(files_of(config, schema, split), schema, check, both))
    history = np.concatenate([h.numpy() for h, _ in scored]).astype(np.int64)
    candidates = np.concatenate([c.numpy() for _, c in scored])
    spots = np.minimum(np.searchsorted(ids, candidates), len(ids) - 1)
    known = (ids[spots] == candidates) & (candidates != 0)  # 0 stands for a missing id
    return SampleFacts(history, np.where(known, counts[spots], 0))


def _read_from(config: TaskConfig, split: str, column: str) -> str:
    """All that decides about what is found, as text."""
    keys = [f"{s}_data_{what}" for s in ("train", split) for what in ("path", "start", "end")]
    settings = {key: getattr(config, key) for key in [*keys, "max_bad_records"]}
    return json.dumps({**settings, "column": column, "fields": features_of(config).behaviours})


def _read(
    files: list[str], schema: DataStruct, check: FileCheck, pick: Callable[[dict], Any]
) -> Iterator:
    check.look(files)
    raw = (
        read_records(files, check.cuts)
        .batch(_BATCH)
        .map(lambda batch: pick(parse(schema, batch)), num_parallel_calls=tf.data.AUTOTUNE)
    )
    return check.read(raw, files)


def _history(schema: DataStruct, fields: Sequence[str], raw: dict[str, tf.Tensor]) -> tf.Tensor:
    """int64 [B]: behaviours of the longest field."""
    lengths = []
    for field in map(schema.sequence, fields):
        if field.start is None:
            lengths.append(raw[field.name].row_lengths())
        else:
            ids = raw["cat_feature"][:, field.start : field.start + field.max_len]
            lengths.append(tf.math.count_nonzero(ids, axis=1))
    return tf.reduce_max(tf.stack(lengths), axis=0)
