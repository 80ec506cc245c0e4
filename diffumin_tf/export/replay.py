"""Scores requests by an export in a process that has TensorFlow and none of our code.

usage: python -I replay.py EXPORT REQUESTS ANSWERS

It loads the export into a session, as TensorFlow Serving does: `tf.saved_model.load` makes tables
and variables in another way. REQUESTS and ANSWERS are TFRecords; a record is JSON, which names a
signature and its tensors, or one of these tensors, serialised, in the order in which they were
named.
"""

import json
import sys

import tensorflow as tf


def write(path, answers):
    """Writes (signature, tensors by name)."""
    with tf.io.TFRecordWriter(path) as writer:
        for signature, tensors in answers:
            types = {name: tf.constant(values).dtype.name for name, values in tensors.items()}
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
    asked, scored = list(read(requests)), []
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], export).signature_def
        for name, inputs in asked:
            signature = signatures[name]
            feeds = {signature.inputs[key].name: values for key, values in inputs.items()}
            fetches = {key: tensor.name for key, tensor in signature.outputs.items()}
            scored.append((name, session.run(fetches, feeds)))
    write(answers, scored)


if __name__ == "__main__":
    main(*sys.argv[1:])
