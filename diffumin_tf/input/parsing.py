"""Serialised samples from files, and from serialised samples to raw tensors."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import GROUPS, DataStruct
from diffumin_tf.errors import DataError

LABEL_REMEDY = "a label is 1 for a click and 0 otherwise: write ratings and -1/1 as such"
ID_REMEDY = (
    "an id is a number of 63 bits, and 0 is a missing value: take the sign off a 64-bit hash, as "
    "in Spark's `xxhash64(x) & 9223372036854775807`"
)


def compression_of(file: str) -> str:
    """TensorFlow's name for how a file is compressed, by its name."""
    return "GZIP" if file.endswith(".gz") else ""


def read_records(files: Sequence[str], cuts: Mapping[str, int] | None = None) -> tf.data.Dataset:
    """Serialised samples in file order; of files in `cuts`, only so many from the start."""
    kinds = {compression_of(file) for file in files}
    if len(kinds) > 1:
        raise DataError(
            f"{files[0]} … {files[-1]}: plain and .gz files in one split; keep one kind"
        )
    compression, cuts = kinds.pop(), cuts or {}
    if not any(file in cuts for file in files):
        return tf.data.TFRecordDataset(list(files), compression)
    counts = np.array([cuts.get(file, -1) for file in files], np.int64)
    return tf.data.Dataset.from_tensor_slices((list(files), counts)).flat_map(
        lambda file, count: tf.data.TFRecordDataset(file, compression).take(count)
    )


def parse(schema: DataStruct, serialised: tf.Tensor, labelled: bool = True) -> dict[str, tf.Tensor]:
    """Parses serialised samples, strings [B], into raw tensors.

    Returns:
        `cat_feature` int64 [B, columns], `dense_feature` float32 [B, columns], each
        variable-length history field and field of several values ragged int64 [B, lengths]; when
        labelled, `label` int64 [B] and `auxiliary_info` int64 [B, columns].

    Raises:
        InvalidArgumentError: a sample does not fit the schema; when labelled, also where a label is
            not 0 or 1, or an id is below 0. `misfit` says which.
    """
    spec: dict = {n: tf.io.RaggedFeature(tf.int64) for n in schema.ragged}
    for group in GROUPS if labelled else ("cat_feature", "dense_feature"):
        dtype = tf.float32 if group == "dense_feature" else tf.int64
        if columns := getattr(schema, group):
            spec[group] = tf.io.FixedLenFeature([len(columns)], dtype)
    raw = tf.io.parse_example(serialised, spec)
    return _with_sound_values(schema, raw) if labelled else raw


def _with_sound_values(schema: DataStruct, raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Labels and ids, whose use fails where a label is not 0 or 1, or an id is below 0."""
    label = raw["label"][:, 0]
    ids = [raw["cat_feature"]] if schema.cat_feature else []
    ids += [raw[name].values for name in schema.ragged]
    sound = [tf.reduce_all((label == 0) | (label == 1)), *(tf.reduce_all(i >= 0) for i in ids)]
    message = ["a label is not 0 or 1, or an id is below 0"]
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(sound), message)]):
        return raw | {"label": tf.identity(label)}


def misfit(schema: DataStruct, serialised: bytes) -> str | None:
    """Says how one serialised sample differs from the schema; None if it fits."""
    example = tf.train.Example()
    try:
        example.ParseFromString(serialised)
    except Exception as error:  # the protobuf runtime in use decides on the class
        return f"no tf.train.Example: {error}"
    for group in GROUPS:
        expected = len(getattr(schema, group))
        if not expected:
            continue
        kind = "float_list" if group == "dense_feature" else "int64_list"
        if group not in example.features.feature:
            return f"key {group!r} is missing; {schema.source} wants {expected} values"
        feature = example.features.feature[group]
        found = len(getattr(feature, kind).value)
        if found != expected:
            stored = feature.WhichOneof("kind") or "nothing"
            return (
                f"key {group!r} has {found} {kind} values (it holds a {stored}); "
                f"{schema.source} wants {expected}"
            )
    for name in schema.ragged:
        stored = example.features.feature[name].WhichOneof("kind")
        if stored not in (None, "int64_list"):
            return f"key {name!r} holds a {stored}; {schema.source} wants an int64_list"
    return _unsound_value(schema, example.features.feature)


def _unsound_value(schema: DataStruct, feature: Mapping[str, tf.train.Feature]) -> str | None:
    """Names a label that is not 0 or 1, or an id below 0."""
    (label,) = feature["label"].int64_list.value
    if label not in (0, 1):
        return f"key 'label' holds {label}; {LABEL_REMEDY}"
    columns = zip(schema.cat_feature, feature["cat_feature"].int64_list.value, strict=True)
    for name, value in columns if schema.cat_feature else ():
        if value < 0:
            return f"key 'cat_feature' holds {value} in its column {name!r}; {ID_REMEDY}"
    for name in schema.ragged:
        if below := [value for value in feature[name].int64_list.value if value < 0]:
            return f"key {name!r} holds {below[0]}; {ID_REMEDY}"
    return None
