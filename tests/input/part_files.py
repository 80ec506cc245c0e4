"""Part files of samples that can be told apart, and what of them comes back."""

import dataclasses
import os

import numpy as np

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import Features
from diffumin_tf.input import dataset, records
from diffumin_tf.input.features import FeatureLayout, FeaturePath
from diffumin_tf.input.vocabulary import HashedRows
from tests.small_log import CONFIG, SCHEMA, samples


def small_schema():
    return DataStruct.from_dict(SCHEMA, source="the_schema.json")


def small_path(schema, buckets=None):
    layout = FeatureLayout.of(Features(**CONFIG["features"]), schema)
    return FeaturePath(schema, layout, 10, HashedRows(997), buckets)


def numbered(count, first=0, seed=0):
    """Samples whose user tells them apart."""
    made = samples(count, seed)
    return dataclasses.replace(made, auxiliary_info=first + np.arange(count)[:, None])


def encoded(schema, count, first=0):
    """Serialised samples."""
    return list(records.encode(schema, numbered(count, first)))


def write_parts(folder, serialised, parts=1, compression=""):
    """Deals serialised samples to part files; returns their names in order."""
    os.makedirs(folder, exist_ok=True)
    with records.PartWriter(str(folder), parts, compression) as writer:
        writer.write(serialised)
    return sorted(str(path) for path in folder.glob("part-*"))


def users_of(batches):
    """Users of each batch."""
    return [inputs["user"].numpy().tolist() for inputs, _ in batches]


def users_in(files, schema, path, batch_size=32, shuffle=None, **options):
    """Users of each batch of `dataset.batches`."""
    return users_of(dataset.batches(files, schema, path, batch_size, "user_id", shuffle, **options))
