"""Helpers of the tests of `prepare`: what was written."""

import pathlib

import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.input.fingerprint import fingerprint
from diffumin_tf.prepare.command import prepare
from tests.input.expand import expand


def ids(space, *texts):
    return fingerprint(space, texts).tolist()


def read_samples(output, day):
    """The samples of a day, one by one: lists of numbers by record key."""
    return [sample for record in read_records(output, day) for sample in record]


def read_records(output, day):
    """The samples of each record of a day, as of `read_samples`."""
    schema = DataStruct.load(str(pathlib.Path(output, "data_struct.json")))
    found = []
    for path in sorted(pathlib.Path(output, day).glob("part-*")):
        options = tf.io.TFRecordOptions("GZIP" if path.suffix == ".gz" else "")
        # A dataset would take longer to begin than these files to read.
        records = tf.compat.v1.io.tf_record_iterator(str(path), options)
        found += ([_values(sample) for sample in expand(schema, record)] for record in records)
    return found


def _values(sample):
    feature = tf.train.Example.FromString(sample).features.feature
    return {
        key: list(value.float_list.value or value.int64_list.value)
        for key, value in feature.items()
    }


def visible_files(output):
    """Names and contents of everything that training could pick up."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(pathlib.Path(output).glob("[0-9]*/*"))
    }


def prepare_on(engine, *arguments, **options):
    """`prepare` on one engine."""
    return prepare(*arguments, engine=engine, **options)
