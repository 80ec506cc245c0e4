"""Records on disk: columns of samples → ``tf.train.Example`` → day partitions, whole or absent."""

import contextlib
import dataclasses
import errno
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError

PART_PREFIX = "part-"


@dataclasses.dataclass
class SampleColumns:
    """A chunk of n samples, column by column, in the order of the schema.

    Attributes:
      label: int64 [n], 0 or 1.
      auxiliary_info: int64 [n, columns].
      cat_feature: int64 ids [n, columns].
      dense_feature: float32 [n, columns].
      sequences: variable-length history fields by name, as (ids int64 [total], row splits
        int64 [n + 1]); most recent behaviour first.
    """

    label: np.ndarray
    auxiliary_info: np.ndarray
    cat_feature: np.ndarray
    dense_feature: np.ndarray
    sequences: dict[str, tuple[np.ndarray, np.ndarray]]

    def __len__(self) -> int:
        return len(self.label)


def encode(schema: DataStruct, samples: SampleColumns) -> Iterator[bytes]:
    """Serialised ``tf.train.Example`` protos, one a sample.

    Raises:
      DataError: a column has another width than the schema says.
    """
    for group in ("auxiliary_info", "cat_feature", "dense_feature"):
        expected = (len(samples), len(getattr(schema, group)))
        if getattr(samples, group).shape != expected:
            raise DataError(
                f"{group}: shape {getattr(samples, group).shape}, the schema says {expected}"
            )
    label, auxiliary, cat, dense = (
        getattr(samples, g).tolist()
        for g in ("label", "auxiliary_info", "cat_feature", "dense_feature")
    )
    sequences = {n: (v.tolist(), s.tolist()) for n, (v, s) in samples.sequences.items()}
    for row in range(len(samples)):
        example = tf.train.Example()
        feature = example.features.feature
        feature["label"].int64_list.value.append(label[row])
        for group, values in (("auxiliary_info", auxiliary), ("cat_feature", cat)):
            if getattr(schema, group):
                feature[group].int64_list.value.extend(values[row])
        if schema.dense_feature:
            feature["dense_feature"].float_list.value.extend(dense[row])
        for name, (values, splits) in sequences.items():
            feature[name].int64_list.value.extend(values[splits[row] : splits[row + 1]])
        yield example.SerializeToString(deterministic=True)


@contextlib.contextmanager
def staged_directory(final: str) -> Iterator[str]:
    """A folder that appears under its final name complete and on the disk, or not at all.

    Yields a hidden sibling to write into; renames it when the block ends well and removes it when
    it does not. What a killed process left behind is removed by the next one.

    Raises:
      DataError: the target exists, or the disk is full.
    """
    gfile = tf.io.gfile
    parent, name = posixpath.split(final.rstrip("/"))
    staging = posixpath.join(parent, f".{name}.incomplete")
    if gfile.exists(final):
        raise DataError(f"{final}: exists already; remove it or choose another output")
    if gfile.exists(staging):
        gfile.rmtree(staging)
    gfile.makedirs(staging)
    try:
        yield staging
        to_disk(_files_below(staging))
        gfile.rename(staging, final)
        to_disk([parent])
    except BaseException as error:
        with contextlib.suppress(tf.errors.OpError, OSError):
            gfile.rmtree(staging)
        if is_disk_full(error):
            raise DataError(f"{final}: no space left on the disk; nothing was kept") from None
        raise


def to_disk(paths: Iterable[str]) -> None:
    """Waits until the system wrote files and folders, so that a power failure does not tear them.

    Paths that are not local (``gs://…``) are those of systems that do so by themselves.
    """
    for path in paths:
        if "://" in path:
            continue
        handle = os.open(path or ".", os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _files_below(folder: str) -> Iterator[str]:
    """Everything in a folder, and the folders themselves."""
    for parent, _, names in tf.io.gfile.walk(folder):
        yield from (posixpath.join(parent, name) for name in names)
        yield parent.rstrip("/")


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that a disk or a quota is exhausted."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, tf.errors.ResourceExhaustedError) or (
        isinstance(error, tf.errors.OpError) and "No space left" in str(error)
    )


class PartWriter:
    """Spreads serialised samples over the part files of one partition, in turn.

    Args:
      directory: the folder of the partition, e.g. from `staged_directory`.
      parts: number of files.
      compression: ``""`` or ``"GZIP"``.
    """

    def __init__(self, directory: str, parts: int = 1, compression: str = "") -> None:
        suffix = ".gz" if compression == "GZIP" else ""
        self._writers = [
            tf.io.TFRecordWriter(
                posixpath.join(directory, f"{PART_PREFIX}{i:05d}{suffix}"), compression or None
            )
            for i in range(parts)
        ]
        self.examples = 0

    def write(self, serialised: Iterator[bytes] | Sequence[bytes]) -> None:
        """Appends samples."""
        for record in serialised:
            self._writers[self.examples % len(self._writers)].write(record)
            self.examples += 1

    def close(self) -> None:
        """Flushes and closes every file."""
        for writer in self._writers:
            writer.close()

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def write_text(path: str, text: str) -> None:
    """Writes a small file under a temporary name, then renames it."""
    with staged_file(path, "w") as file:
        file.write(text)


@contextlib.contextmanager
def staged_file(path: str, mode: str) -> Iterator[tf.io.gfile.GFile]:
    """A file that appears, or replaces one of that name, complete or not at all.

    Raises:
      DataError: the disk is full.
    """
    temporary = f"{path}.incomplete-{os.getpid()}"
    try:
        with tf.io.gfile.GFile(temporary, mode) as file:
            yield file
        tf.io.gfile.rename(temporary, path, overwrite=True)
    except BaseException as error:
        with contextlib.suppress(tf.errors.OpError, OSError):
            tf.io.gfile.remove(temporary)
        if is_disk_full(error):
            raise DataError(f"{path}: no space left on the disk; nothing was kept") from None
        raise
