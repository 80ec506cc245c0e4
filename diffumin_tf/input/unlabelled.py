"""Records that are scored alone: their label and `auxiliary_info` may be absent."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input.chunks import Samples, as_chunks
from diffumin_tf.input.columns import ALL_OR_NONE, Features
from diffumin_tf.input.kinds import readable


def schema_for_scoring(schema: DataStruct, files: Sequence[str]) -> DataStruct:
    """The schema without what the first readable record lacks, as far as scoring can do without."""
    for _, feature in readable(files):
        absent = {} if _is_in(feature, _label_key(schema)) else {"label": ()}
        if schema.layout == "groups" and not _is_in(feature, "auxiliary_info"):
            absent["auxiliary_info"] = ()
        return dataclasses.replace(schema, **absent)
    return schema


def refuse_labels(schema: DataStruct, records: Samples, first: int) -> int:
    """Raises DataError where one of some samples has a label.

    Args:
        first: number of the next record in the split.

    Returns:
        The number of the record after these.
    """
    key = _label_key(schema)
    kind = tf.float32 if schema.kinds.get(key) == "float" else tf.int64
    chunks = as_chunks(records)
    numbers = first - 1 + np.cumsum(chunks.first.numpy() == 0)
    try:
        labels = tf.io.parse_example(chunks.record, {key: tf.io.RaggedFeature(kind)})[key]
    except tf.errors.InvalidArgumentError as error:
        raise DataError(f"records from {first} on: {error.message}; {ALL_OR_NONE}") from None
    if tf.size(labels.values):
        number = numbers[int(labels.value_rowids()[0])]
        raise DataError(
            f"record {number} of the split: key {key!r} is here, but not in the first record; "
            f"{ALL_OR_NONE}"
        )
    return int(numbers[-1]) + 1


def _label_key(schema: DataStruct) -> str:
    return schema.label[0] if schema.layout == "columns" else "label"


def _is_in(feature: Features, key: str) -> bool:
    return key in feature and feature[key].WhichOneof("kind") is not None
