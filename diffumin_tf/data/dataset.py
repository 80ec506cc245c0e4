"""Records to batches with tf.data: pick the files, read, shuffle, parse, map ids to rows."""

import posixpath
import re
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from diffumin_tf.data.features import FeaturePath
from diffumin_tf.data.records import PART_PREFIX
from diffumin_tf.data_struct import DataStruct
from diffumin_tf.errors import DataError

_DAY = re.compile(r"^\d{8}$")


def list_files(path: str | None, start: int | None, end: int | None, split: str) -> list[str]:
    """The part files of a split, in order.

    Args:
      path: a folder of day partitions (``<path>/<yyyymmdd>/part-*``) or a glob of files.
      start, end: first and last day, inclusive; None leaves that end open.
      split: name of the split, for messages.

    Raises:
      DataError: nothing is there; says what was looked for and what there is.
    """
    key = f"{split}_data_path"
    if not path:
        raise DataError(f"{key} is not set: give a folder of <yyyymmdd>/{PART_PREFIX}* or a glob")
    if any(c in path for c in "*?["):
        files = sorted(tf.io.gfile.glob(path))
        if not files:
            raise DataError(f"{key}: no file matches {path!r}")
        return files
    if not tf.io.gfile.isdir(path):
        raise DataError(f"{key}: {path!r} is no folder")
    days = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(path))
    days = [day for day in days if _DAY.match(day)]
    picked = [d for d in days if (start or 0) <= int(d) <= (end or 99999999)]
    files = [
        file
        for day in picked
        for file in sorted(tf.io.gfile.glob(posixpath.join(path, day, PART_PREFIX + "*")))
    ]
    if not files:
        there = f"{days[0]} to {days[-1]} ({len(days)} days)" if days else "no day at all"
        raise DataError(
            f"{key}: {path!r} holds no records from {start or 'the first day'} to "
            f"{end or 'the last day'}; there is {there}"
        )
    return files


def read_records(files: list[str]) -> tf.data.Dataset:
    """Serialised samples in file order."""
    zipped = {file.endswith(".gz") for file in files}
    if len(zipped) > 1:
        raise DataError(
            f"{files[0]} … {files[-1]}: plain and .gz files in one split; keep one kind"
        )
    return tf.data.TFRecordDataset(files, compression_type="GZIP" if zipped.pop() else "")


def parse(schema: DataStruct, serialised: tf.Tensor, labelled: bool = True) -> dict[str, tf.Tensor]:
    """Parses a batch of serialised samples into raw tensors.

    Args:
      schema: columns of the record.
      serialised: strings [B].
      labelled: whether label and auxiliary columns are read too.

    Returns:
      ``cat_feature`` int64 [B, columns], ``dense_feature`` float32 [B, columns], each
      variable-length history field ragged int64 [B, lengths]; when labelled, ``label`` int64 [B]
      and ``auxiliary_info`` int64 [B, columns].
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


def batches(
    files: list[str],
    schema: DataStruct,
    path: FeaturePath,
    batch_size: int,
    user_column: str | None,
    shuffle: tuple[int, int] | None = None,
) -> tf.data.Dataset:
    """Model inputs and labels, batch by batch; same files and seed, same batches.

    Args:
      files: part files.
      schema: columns of a record.
      path: maps raw tensors to model inputs.
      batch_size: samples a batch; the last one may be smaller.
      user_column: column that tells users apart; becomes ``inputs["user"]``.
      shuffle: (buffer size, seed), or None to keep the order of the files.

    Returns:
      A dataset of (inputs, label float32 [B]).
    """

    def prepare(serialised: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        raw = parse(schema, serialised)
        inputs = path.grouped(raw)
        user = user_ids(schema, raw, user_column)
        if user is not None:
            inputs["user"] = user
        return inputs, tf.cast(raw["label"], tf.float32)

    if shuffle:
        buffer_size, seed = shuffle
        files = [files[i] for i in np.random.default_rng(seed).permutation(len(files))]
        records = read_records(files).shuffle(buffer_size, seed=seed)
    else:
        records = read_records(files)
    return (
        records.batch(batch_size)
        .map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


def id_batches(
    files: list[str], schema: DataStruct, fields: Iterable[str], batch_size: int = 1024
) -> Iterator[np.ndarray]:
    """All ids of the given columns and history fields, batch by batch, for counting."""
    columns = [schema.cat_feature.index(n) for n in fields if n in schema.cat_feature]
    sequences = [schema.sequences[n] for n in fields if n in schema.sequences]
    for field in sequences:
        if field.start is not None:
            columns.extend(range(field.start, field.start + field.max_len))
    names = [f.name for f in sequences if f.start is None]

    def ids(serialised: tf.Tensor) -> tf.Tensor:
        raw = parse(schema, serialised)
        picked = [tf.reshape(tf.gather(raw["cat_feature"], columns, axis=1), [-1])]
        return tf.concat(picked + [raw[n].values for n in names], axis=0)

    parsed = read_records(files).batch(batch_size).map(ids, num_parallel_calls=tf.data.AUTOTUNE)
    yield from parsed.as_numpy_iterator()


def guarded(dataset: Iterable, files: list[str], schema: DataStruct) -> Iterator:
    """Iterates a dataset and turns a reader's failure into one error that names the file.

    Raises:
      DataError: a file is torn or unreadable, a record does not fit the schema, or there is no
        record at all.
    """
    empty = True
    iterator = iter(dataset)
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            break
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, UnicodeError) as error:
            raise DataError(find_fault(files, schema) or str(error)) from None
        except (tf.errors.NotFoundError, tf.errors.PermissionDeniedError) as error:
            raise DataError(f"cannot be read: {error.message}") from None
        empty = False
        yield batch
    if empty:
        raise DataError(
            f"{files[0]}{' …' if len(files) > 1 else ''}: no record in {len(files)} files"
        )


def find_fault(files: list[str], schema: DataStruct) -> str | None:
    """Says which record of which file is torn or does not fit the schema; None if none is."""
    for file in files:
        number = 0
        try:
            for serialised in read_records([file]).as_numpy_iterator():
                fault = record_fault(schema, serialised)
                if fault:
                    return f"{file}: record {number}: {fault}"
                number += 1
        except tf.errors.OpError as error:
            reason = error.message.rpartition("}} ")[2].partition(" [Op:")[0]
            return f"{file}: torn or damaged after {number} records: {reason}"
    return None


def record_fault(schema: DataStruct, serialised: bytes) -> str | None:
    """Says how one serialised sample differs from the schema; None if it fits."""
    example = tf.train.Example()
    try:
        example.ParseFromString(serialised)
    except Exception as error:  # the protobuf runtime in use decides on the class
        return f"no tf.train.Example: {error}"
    kinds = {"dense_feature": "float_list"}
    for group in ("label", "auxiliary_info", "cat_feature", "dense_feature"):
        expected = len(getattr(schema, group))
        if not expected:
            continue
        kind = kinds.get(group, "int64_list")
        if group not in example.features.feature:
            return f"key {group!r} is missing; {schema.source} wants {expected} values"
        feature = example.features.feature[group]
        found = len(getattr(feature, kind).value)
        if found != expected:
            held = feature.WhichOneof("kind") or "nothing"
            return (
                f"key {group!r} has {found} {kind} values (it holds a {held}); "
                f"{schema.source} wants {expected}"
            )
    for name in schema.variable_sequences:
        held = example.features.feature[name].WhichOneof("kind")
        if held not in (None, "int64_list"):
            return f"key {name!r} holds a {held}; {schema.source} wants an int64_list"
    return None
