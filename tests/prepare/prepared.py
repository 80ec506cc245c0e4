"""Helpers of the tests of `prepare`: what was written."""

import pathlib

import tensorflow as tf

from diffumin_tf.input.fingerprint import fingerprint
from diffumin_tf.prepare.command import prepare


def ids(space, *texts):
    return fingerprint(space, texts).tolist()


def read_samples(output, day):
    """The samples of a day: lists of numbers by record key."""
    samples = []
    for path in sorted(pathlib.Path(output, day).glob("part-*")):
        compression = "GZIP" if path.suffix == ".gz" else ""
        for record in tf.data.TFRecordDataset(str(path), compression).as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            samples.append(
                {
                    key: list(value.float_list.value or value.int64_list.value)
                    for key, value in feature.items()
                }
            )
    return samples


def visible_files(output):
    """Names and contents of everything that training could pick up."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(pathlib.Path(output).glob("[0-9]*/*"))
    }


def prepare_on(engine, *arguments, **options):
    """`prepare` on one engine."""
    return prepare(*arguments, engine=engine, **options)
