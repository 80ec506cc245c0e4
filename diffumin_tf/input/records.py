"""Records on disk: columns of samples → `tf.train.Example` → day partitions, whole or absent."""

import dataclasses
import posixpath
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import GROUPS, DataStruct
from diffumin_tf.errors import DataError

PART_PREFIX = "part-"
SUCCESS_FILE = "_SUCCESS.json"  # beside the part files of a day: says how many samples they hold


@dataclasses.dataclass
class SampleColumns:
    """n samples, column by column, in the order of the schema.

    Attributes:
        label: int64 [n], 0 or 1.
        auxiliary_info: int64 [n, columns].
        cat_feature: int64 ids [n, columns].
        dense_feature: float32 [n, columns].
        sequences: variable-length history fields by name, as (ids int64 [total], row splits
            int64 [n + 1]); most recent behaviour first.
        multi: fields of several values by name, in the same form; in any order.
    """

    label: np.ndarray
    auxiliary_info: np.ndarray
    cat_feature: np.ndarray
    dense_feature: np.ndarray
    sequences: dict[str, tuple[np.ndarray, np.ndarray]]
    multi: dict[str, tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)


def encode(schema: DataStruct, samples: SampleColumns) -> Iterator[bytes]:
    """Serialised `tf.train.Example` protos, one a sample.

    Raises:
        DataError: a group has other columns than the schema says.
    """
    for group in ("auxiliary_info", "cat_feature", "dense_feature"):
        shape, expected = getattr(samples, group).shape, (len(samples), len(getattr(schema, group)))
        if shape != expected:
            raise DataError(f"{group}: shape {shape}, the schema says {expected}")
    if samples.multi.keys() != set(schema.multi_feature):
        found, expected = sorted(samples.multi), sorted(schema.multi_feature)
        raise DataError(f"multi_feature: columns {found}, the schema says {expected}")
    label, auxiliary, cat, dense = (getattr(samples, group).tolist() for group in GROUPS)
    ragged = {**samples.sequences, **samples.multi}
    ragged = {name: (ids.tolist(), splits.tolist()) for name, (ids, splits) in ragged.items()}
    for row in range(len(samples)):
        example = tf.train.Example()
        feature = example.features.feature
        feature["label"].int64_list.value.append(label[row])
        for group, values in (("auxiliary_info", auxiliary), ("cat_feature", cat)):
            if getattr(schema, group):
                feature[group].int64_list.value.extend(values[row])
        if schema.dense_feature:
            feature["dense_feature"].float_list.value.extend(dense[row])
        for name, (ids, splits) in ragged.items():
            feature[name].int64_list.value.extend(ids[splits[row] : splits[row + 1]])
        yield example.SerializeToString(deterministic=True)


class PartWriter:
    """Deals serialised samples to the part files of one partition, in turn.

    Args:
        compression: `""` or `"GZIP"`.
    """

    def __init__(self, directory: str, parts: int = 1, compression: str = "") -> None:
        suffix = ".gz" if compression == "GZIP" else ""
        files = [f"{PART_PREFIX}{i:05d}{suffix}" for i in range(parts)]
        self._writers = [
            tf.io.TFRecordWriter(posixpath.join(directory, file), compression or None)
            for file in files
        ]
        self.examples = 0

    def write(self, serialised: Iterable[bytes]) -> None:
        """Appends samples."""
        for record in serialised:
            self._writers[self.examples % len(self._writers)].write(record)
            self.examples += 1

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(self, *exception) -> None:
        for writer in self._writers:
            writer.close()
