"""Recorded samples as what clients send to each signature."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import DiffuminError
from diffumin_tf.input import parsing
from diffumin_tf.input.features import FeatureLayout
from diffumin_tf.input.records import SampleColumns, encode
from diffumin_tf.input.splits import files_of

_RECORDED = 200


@dataclasses.dataclass(frozen=True)
class Requests:
    """Serialised samples, taken again from the first one where there are too few.

    Attributes:
        schema: their columns.
        layout: the columns that the model reads.
        samples: serialised `tf.train.Example` protos, one at least.
        source: where they come from, in words.
    """

    schema: DataStruct
    layout: FeatureLayout
    samples: Sequence[bytes]
    source: str = "samples"

    @classmethod
    def blank(cls, schema: DataStruct, layout: FeatureLayout) -> "Requests":
        """One sample of which everything is missing."""
        columns = SampleColumns(
            label=np.zeros([1], np.int64),
            auxiliary_info=np.zeros([1, len(schema.auxiliary_info)], np.int64),
            cat_feature=np.zeros([1, len(schema.cat_feature)], np.int64),
            dense_feature=np.zeros([1, len(schema.dense_feature)], np.float32),
            sequences={
                name: (np.zeros([0], np.int64), np.zeros([2], np.int64))
                for name in schema.variable_sequences
            },
        )
        return cls(schema, layout, list(encode(schema, columns)), "a blank sample")

    def examples(self, count: int) -> dict[str, np.ndarray]:
        """Inputs of `examples` for so many samples."""
        return {"inputs": np.array(self._first(count), dtype=object)}

    def tensors(self, count: int) -> dict[str, np.ndarray]:
        """Inputs of `serving_default` for so many samples."""
        raw = parsing.parse(self.schema, tf.constant(self._first(count)), labelled=False)
        raw |= {name: raw[name].to_tensor() for name in self.schema.variable_sequences}
        return {name: values.numpy() for name, values in raw.items()}

    def of_one_user(self, count: int) -> dict[str, np.ndarray]:
        """The same with user and history of the first sample in all of them."""
        raw = self.tensors(count)
        ids = raw["cat_feature"]
        shared = [self.schema.position("cat_feature", n) for n in self.layout.roles["user"]]
        for field in self._histories():
            if field.start is None:
                raw[field.name] = np.repeat(raw[field.name][:1], count, axis=0)
            else:
                shared += range(field.start, field.start + field.max_len)
        ids[:, shared] = ids[0, shared]
        return raw

    def request(self, count: int) -> dict[str, np.ndarray]:
        """Inputs of `request` that ask what `of_one_user` asks sample by sample."""
        raw = self.of_one_user(count)
        ids = raw["cat_feature"]
        inputs = {}
        for role, names in self.layout.roles.items():
            columns = [self.schema.position("cat_feature", name) for name in names]
            if columns:
                inputs[role] = ids[:1, columns] if role == "user" else ids[:, columns]
        if self.layout.dense:
            inputs["dense_feature"] = raw["dense_feature"]
        for field in self._histories():
            if field.start is None:
                inputs[field.name] = raw[field.name][:1]
            else:
                inputs[field.name] = ids[:1, field.start : field.start + field.max_len]
        return inputs

    def _histories(self):
        return [self.schema.sequence(name) for name in self.layout.behaviours]

    def _first(self, count: int) -> list[bytes]:
        return [self.samples[i % len(self.samples)] for i in range(count)]


def recorded(config: TaskConfig, schema: DataStruct, layout: FeatureLayout) -> Requests | None:
    """The first samples of the test split, or else of another one; None where none can be read."""
    for split in ("test", "valid", "train"):
        try:
            files = files_of(config, schema, split)
            records = parsing.read_records(files).take(_RECORDED).batch(_RECORDED)
            (samples,) = parsing.without_gaps(records, files).as_numpy_iterator()
        except (DiffuminError, tf.errors.OpError, ValueError):
            continue
        words = f"{len(samples)} samples of the {split} split"
        return Requests(schema, layout, list(samples), words)
    return None
