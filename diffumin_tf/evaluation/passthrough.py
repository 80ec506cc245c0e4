"""Record keys that a model does not read, carried through to its predictions as text."""

import json
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError, did_you_mean_of
from diffumin_tf.input.chunks import Samples, as_chunks
from diffumin_tf.input.impressions import feature_of


class Passthrough:
    """Keys of records, such as `request_id`, as columns of text; any kind of feature.

    A key that a record lacks is empty there. Several values are joined by commas. Of a record of
    several impressions, each has its own values of the keys that the schema knows.
    """

    def __init__(self, schema: DataStruct, keys: Sequence[str]) -> None:
        self._schema = schema
        self._keys = tuple(keys)
        self._missing, self._found = set(keys), set()

    def columns(self, records: Samples) -> dict[str, list[str]]:
        """The columns of some serialised samples, in the order of the keys."""
        columns: dict[str, list[str]] = {key: [] for key in self._keys}
        chunks = zip(*(part.numpy() for part in as_chunks(records)), strict=True)
        for record, first, count in chunks if columns else ():
            feature = tf.train.Example.FromString(record).features.feature
            if self._missing:
                self._missing -= feature.keys()
                self._found |= feature.keys()
            for key, column in columns.items():
                for i in range(first, first + count):
                    found = key in feature and feature_of(self._schema, feature, key, i)
                    column.append(_text(found) if found else "")
        return columns

    def check(self) -> None:
        """Raises DataError for a key that no record had so far; names those that there are."""
        for key in self._keys:
            if key in self._missing:
                known = did_you_mean_of(key, sorted(self._found))
                raise DataError(f"--passthrough {key!r}: no record has this key{known}")


def _text(feature: tf.train.Feature) -> str:
    """Its values, escaped as in JSON, so that a tab or line break does not end a cell."""
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).value if kind else ()
    if kind == "bytes_list":
        values = (value.decode("utf-8", "backslashreplace") for value in values)
        return json.dumps(",".join(values), ensure_ascii=False)[1:-1]
    if kind == "float_list":
        values = map(np.float32, values)  # whose shortest text, unlike Python's, is that of 32 bits
    return ",".join(map(str, values))
