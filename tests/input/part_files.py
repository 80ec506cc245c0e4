"""Part files of samples that can be told apart, and what of them comes back."""

import dataclasses
import os
import pathlib

import numpy as np

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import Features
from diffumin_tf.input import records
from diffumin_tf.input.dataset import Batches
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
    return [batch.user.numpy().tolist() for batch in batches]


def users_in(files, schema, path, batch_size=32, shuffle=None, skip=0, **options):
    """Users of each batch."""
    batches = Batches(files, schema, path, batch_size, "user_id", shuffle, **options)
    return users_of(batches.dataset(skip=skip))


def offsets(serialised):
    """Where each record begins in a plain file of them, and where the file ends."""
    return np.r_[0, np.cumsum([16 + len(data) for data in serialised])].tolist()


def flip(file, position):
    """Changes one bit of a file."""
    content = bytearray(pathlib.Path(file).read_bytes())
    content[position] ^= 1
    pathlib.Path(file).write_bytes(content)


def flip_data(file, serialised, number):
    """Changes the data of one record of a plain file."""
    flip(file, offsets(serialised)[number] + 12 + len(serialised[number]) // 2)


def tear(file, size):
    """Cuts off a file's last bytes."""
    os.truncate(file, os.path.getsize(file) - size)


def frame_of(length):
    """The head of a record that claims to be so long, with the right checksum of the length."""
    head = length.to_bytes(8, "little")
    crc = 0xFFFFFFFF  # CRC-32C bit by bit, then masked as in TensorFlow's crc32c.h
    for byte in head:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return head + masked.to_bytes(4, "little")
