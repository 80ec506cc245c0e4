"""Scores requests by an export in a process that has TensorFlow and none of our code.

usage: python -I replay.py EXPORT REQUESTS ANSWERS

REQUESTS and ANSWERS are TFRecords; a record is JSON, which names a signature and its tensors, or
one of these tensors, serialised, in the order in which they were named.
"""

import json
import sys

import tensorflow as tf


def write(path, answers):
    """Writes (signature, tensors by name)."""
    with tf.io.TFRecordWriter(path) as writer:
        for signature, tensors in answers:
            types = {name: tf.constant(v).dtype.name for name, v in tensors.items()}
            writer.write(json.dumps([signature, types]).encode())
            for values in tensors.values():
                writer.write(tf.io.serialize_tensor(tf.constant(values)).numpy())


def read(path):
    """Gives what `write` wrote, as NumPy arrays."""
    found = iter(tf.data.TFRecordDataset(path).as_numpy_iterator())
    for record in found:
        signature, types = json.loads(record)
        tensors = {n: tf.io.parse_tensor(next(found), tf.as_dtype(t)) for n, t in types.items()}
        yield signature, {name: values.numpy() for name, values in tensors.items()}


def main(export, requests, answers):
    signatures = tf.saved_model.load(export).signatures
    asked = list(read(requests))
    scored = [
        (name, signatures[name](**{n: tf.constant(v) for n, v in inputs.items()}))
        for name, inputs in asked
    ]
    write(answers, scored)


if __name__ == "__main__":
    main(*sys.argv[1:])
