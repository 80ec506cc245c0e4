"""Recorded samples in the form that each signature of an export takes."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct, SequenceField
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import DiffuminError
from diffumin_tf.input import parsing
from diffumin_tf.input.damage import FileCheck
from diffumin_tf.input.features import FeatureLayout
from diffumin_tf.input.impressions import single_records
from diffumin_tf.input.splits import files_of

_RECORDED = 200


@dataclasses.dataclass(frozen=True)
class SignatureInputs:
    """Serialised samples; they repeat from the first where more are needed.

    Attributes:
        samples: serialised `tf.train.Example` protos of one impression, at least one.
        source: where they come from, in words.
    """

    schema: DataStruct
    layout: FeatureLayout
    samples: Sequence[bytes]
    source: str = "samples"

    @classmethod
    def blank(cls, schema: DataStruct, layout: FeatureLayout) -> "SignatureInputs":
        """One sample of which everything is missing."""
        example = tf.train.Example()
        if schema.layout == "columns":
            return cls(schema, layout, [example.SerializeToString()], "a blank sample")
        feature = example.features.feature
        feature["cat_feature"].int64_list.value.extend([0] * len(schema.cat_feature))
        feature["dense_feature"].float_list.value.extend([0.0] * len(schema.dense_feature))
        return cls(schema, layout, [example.SerializeToString()], "a blank sample")

    def examples(self, count: int) -> dict[str, np.ndarray]:
        """Inputs of the signature `examples`."""
        return {"inputs": np.array(self._first(count), dtype=object)}

    def tensors(self, count: int) -> dict[str, np.ndarray]:
        """Inputs of `serving_default`."""
        raw = parsing.parse(self.schema, tf.constant(self._first(count)), labelled=False)
        raw |= {name: raw[name].to_tensor() for name in self.schema.ragged}
        return {name: values.numpy() for name, values in raw.items()}

    def of_one_user(self, count: int) -> dict[str, np.ndarray]:
        """As `tensors`, but every sample has the user and the history of the first one."""
        raw = self.tensors(count)
        ids = raw["cat_feature"]
        shared = [self.schema.position("cat_feature", n) for n in self.layout.roles["user"]]
        for field in self._histories():
            if field.start is not None:
                shared += range(field.start, field.start + field.max_len)
        for name in self._shared_keys():
            raw[name] = np.repeat(raw[name][:1], count, axis=0)
        ids[:, shared] = ids[0, shared]
        return raw

    def request(self, count: int) -> dict[str, np.ndarray]:
        """Inputs of `request` for the samples of `of_one_user`, as that many candidates."""
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
            if field.start is not None:
                inputs[field.name] = ids[:1, field.start : field.start + field.max_len]
        inputs |= {name: raw[name] for name in self.layout.multi}
        return inputs | {name: raw[name][:1] for name in self._shared_keys()}

    def _shared_keys(self) -> list[str]:
        """What has a record key of its own and is the same for all candidates of a request."""
        histories = [field.name for field in self._histories() if field.start is None]
        return histories + [n for n, role in self.layout.multi.items() if role == "user"]

    def _histories(self) -> list[SequenceField]:
        return [self.schema.sequence(name) for name in self.layout.behaviours]

    def _first(self, count: int) -> list[bytes]:
        return [self.samples[i % len(self.samples)] for i in range(count)]


def recorded_inputs(
    config: TaskConfig, schema: DataStruct, layout: FeatureLayout, check: FileCheck
) -> SignatureInputs | None:
    """The first samples of the test, validation or training split; None where none is readable."""
    for split in ("test", "valid", "train"):
        samples: list[bytes] = []
        try:
            for file in files_of(config, schema, split):
                if len(samples) < _RECORDED:  # what lies behind them may be damaged
                    check.look([file])
                    records = parsing.read_records([file], check.cuts)
                    records = records.take(_RECORDED - len(samples)).as_numpy_iterator()
                    singles = (one for r in records for one in single_records(schema, r))
                    samples += itertools.islice(singles, _RECORDED - len(samples))
        except (DiffuminError, tf.errors.OpError):
            continue
        if samples:
            source = f"{len(samples)} samples of the {split} split"
            return SignatureInputs(schema, layout, samples, source)
    return None
