"""Serialised samples from files, and from serialised samples to raw tensors."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import GROUPS, NEWER, DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input.chunks import Chunks, Samples
from diffumin_tf.input.columns import ALL_OR_NONE, misfit_of_columns, parse_columns
from diffumin_tf.input.impressions import (
    misfit_of_group,
    misfit_of_impressions,
    newer_of,
    parse_impressions,
    single_records,
)

FIRST = 1024  # records of a split that are looked at before it is read
LABEL_REMEDY = "a label is 1 for a click and 0 otherwise: turn -1 into 0, and ratings into 0 and 1"
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


def first_records(
    files: Sequence[str], cuts: Mapping[str, int] | None = None
) -> Iterator[tuple[str, int, bytes]]:
    """The first records of some files: file, number in the file, serialised sample."""
    left = FIRST
    for file in files:
        usable = (cuts or {}).get(file, left)
        records = tf.data.TFRecordDataset(file, compression_of(file)).take(min(usable, left))
        for number, serialised in enumerate(records.as_numpy_iterator()):
            left -= 1
            yield file, number, serialised
        if not left:
            return


def parse(schema: DataStruct, samples: Samples, labelled: bool = True) -> dict[str, tf.Tensor]:
    """Parses B serialised samples into raw tensors.

    Args:
        samples: strings [B], records of one impression; or chunks of u records of any number, in
            the layout `groups`.

    Returns:
        `cat_feature` int64 [B, columns], `dense_feature` float32 [B, columns], each
        variable-length history field and field of several values ragged int64 [B, lengths]; when
        labelled, `label` int64 [B] and `auxiliary_info` int64 [B, columns], where the schema has
        them. With chunks, history fields are those of the records, ragged int64 [u, lengths], and
        there are `record` int32 [B], whose history a sample sees, and `newer` int32 [B], from which
        behaviour on.

    Raises:
        InvalidArgumentError: a sample does not fit the schema; when labelled, also where a label is
            not 0 or 1, or an id is below 0. `misfit` says which.
    """
    groups = [group for group in (GROUPS if labelled else GROUPS[2:]) if getattr(schema, group)]
    if schema.layout == "columns":
        raw, sound = parse_columns(schema, samples, labelled)
    elif isinstance(samples, Chunks):
        raw, sound = parse_impressions(schema, samples, groups)
    else:
        raw = _parse_groups(schema, samples, groups)
        sound = [raw.pop(NEWER) == 0]
    if labelled:
        ids = [raw["cat_feature"]] if schema.cat_feature else []
        ids += [raw[name].values for name in schema.ragged]
        sound += [some >= 0 for some in ids]
    if labelled and schema.label:
        label = raw["label"][:, 0]
        sound.append((label == 0) | (label == 1))
    if not sound:
        return raw
    message = ["a label is not 0 or 1, or an id is below 0, or a value does not fit its column"]
    every = tf.reduce_all([tf.reduce_all(some) for some in sound])
    with tf.control_dependencies([tf.debugging.Assert(every, message)]):
        if labelled and schema.label:
            raw["label"] = tf.cast(label, tf.int64)
        return {name: tf.identity(values) for name, values in raw.items()}


def _parse_groups(
    schema: DataStruct, serialised: tf.Tensor, groups: Sequence[str]
) -> dict[str, tf.Tensor]:
    spec: dict = {n: tf.io.RaggedFeature(tf.int64) for n in schema.ragged}
    for group in groups:
        dtype = tf.float32 if group == "dense_feature" else tf.int64
        spec[group] = tf.io.FixedLenFeature([len(getattr(schema, group))], dtype)
    # A record of several impressions has as many, which is an error here.
    spec[NEWER] = tf.io.FixedLenFeature([1], tf.int64, [0])
    return tf.io.parse_example(serialised, spec)


def misfit(schema: DataStruct, serialised: bytes, grouped: bool = True) -> str | None:
    """Says how one serialised record differs from the schema; None if it fits.

    Args:
        grouped: whether it may be of several impressions.
    """
    example = tf.train.Example()
    try:
        example.ParseFromString(serialised)
    except Exception as error:  # the protobuf runtime in use decides on the class
        return f"no tf.train.Example: {error}"
    feature = example.features.feature
    if schema.layout == "columns":
        return misfit_of_columns(schema, feature) or _unsound_value(schema, feature)
    for group in GROUPS:
        if not (columns := getattr(schema, group)):
            continue
        if group in feature:
            reason = misfit_of_group(schema, feature, group)
        else:
            reason = f"key {group!r} is missing; {schema.source} wants {len(columns)} values"
            if any(name in feature for name in schema.label):
                reason += '; records with a key for each column need "layout": "columns" there'
            elif group == "label":
                reason = f"key 'label' is missing; {ALL_OR_NONE}"
        if reason:
            return reason
    if reason := misfit_of_impressions(schema, feature):
        return reason
    newer = newer_of(feature)
    is_said = NEWER in feature and feature[NEWER].WhichOneof("kind")
    if not grouped and is_said and newer != [0]:
        return (
            f"key {NEWER!r} makes it a record of {len(newer)} impressions, but the first record of "
            "every file is without that key: write it in the first one too"
        )
    for i, single in enumerate(single_records(schema, serialised)):
        if reason := _unsound_value(schema, tf.train.Example.FromString(single).features.feature):
            return f"impression {i}: {reason}" if len(newer) > 1 else reason
    return None


def _unsound_value(schema: DataStruct, feature: Mapping[str, tf.train.Feature]) -> str | None:
    """Names a label that is not 0 or 1, or an id below 0."""
    by_column = schema.layout == "columns"
    for key in schema.label if by_column else ["label"] * len(schema.label):
        (label,) = feature[key].float_list.value or feature[key].int64_list.value
        if label not in (0, 1):
            return f"key {key!r} holds {label}; {LABEL_REMEDY}"
    if by_column and not schema.hashed:
        return None
    keys = schema.categorical if by_column else schema.ragged
    ids = [(f"key {name!r}", feature[name].int64_list.value) for name in keys]
    if not by_column:
        columns = zip(schema.cat_feature, feature["cat_feature"].int64_list.value, strict=True)
        ids += [(f"key 'cat_feature', column {name!r},", [value]) for name, value in columns]
    for what, values in ids:
        if below := [value for value in values if value < 0]:
            return f"{what} holds {below[0]}; {ID_REMEDY}"
    return None
