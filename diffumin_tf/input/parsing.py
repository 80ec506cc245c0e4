"""Serialised samples from files, and from serialised samples to raw tensors."""

import posixpath
from collections.abc import Sequence

import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError

# Stands in for a record that was left out. No serialised sample begins with a zero byte.
LEFT_OUT = b"\0left out"
# The name of a file that holds such records begins with this.
GAPS = "gaps-"


def compression_of(file: str) -> str:
    """TensorFlow's name for how a file is compressed, by its name."""
    return "GZIP" if file.endswith(".gz") else ""


def read_records(files: Sequence[str]) -> tf.data.Dataset:
    """Serialised samples in file order."""
    kinds = {compression_of(file) for file in files}
    if len(kinds) > 1:
        raise DataError(
            f"{files[0]} … {files[-1]}: plain and .gz files in one split; keep one kind"
        )
    return tf.data.TFRecordDataset(list(files), compression_type=kinds.pop())


def without_gaps(serialised: tf.data.Dataset, files: Sequence[str]) -> tf.data.Dataset:
    """Batches of serialised samples of files without what stands in for those left out."""
    if not any(posixpath.basename(file).startswith(GAPS) for file in files):
        return serialised
    return serialised.map(
        lambda batch: tf.boolean_mask(batch, batch != LEFT_OUT),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def parse(schema: DataStruct, serialised: tf.Tensor, labelled: bool = True) -> dict[str, tf.Tensor]:
    """Parses a batch of serialised samples into raw tensors.

    Args:
        schema: columns of the record.
        serialised: strings [B].
        labelled: whether label and auxiliary columns are read too.

    Returns:
        `cat_feature` int64 [B, columns], `dense_feature` float32 [B, columns], each
        variable-length history field ragged int64 [B, lengths]; when labelled, `label` int64 [B]
        and `auxiliary_info` int64 [B, columns].
    """
    dtypes = {"cat_feature": tf.int64, "dense_feature": tf.float32}
    if labelled:
        dtypes |= {"label": tf.int64, "auxiliary_info": tf.int64}
    spec: dict = {
        group: tf.io.FixedLenFeature([len(getattr(schema, group))], dtype)
        for group, dtype in dtypes.items()
        if getattr(schema, group)
    }
    spec |= {n: tf.io.RaggedFeature(tf.int64) for n in schema.variable_sequences}
    raw = tf.io.parse_example(serialised, spec)
    if labelled:
        raw["label"] = raw["label"][:, 0]
    return raw


def user_ids(schema: DataStruct, raw: dict[str, tf.Tensor], column: str | None) -> tf.Tensor | None:
    """int64 [B] that tells users apart, or None when the schema has no such column."""
    for group in ("auxiliary_info", "cat_feature"):
        if column in getattr(schema, group):
            return raw[group][:, schema.position(group, column)]
    return None
