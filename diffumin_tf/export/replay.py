"""Scores requests by an export in a process that has TensorFlow and none of our code.

usage: python -I replay.py EXPORT REQUESTS ANSWERS

It loads the export into a session, as TensorFlow Serving does; `tf.saved_model.load` makes tables
and variables in another way. REQUESTS and ANSWERS are pickled: (signature, tensors by name).
"""

import pickle
import sys

import tensorflow as tf


def main(export, requests, answers):
    with open(requests, "rb") as file:
        asked = pickle.load(file)
    scored = []
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], export).signature_def
        for name, inputs in asked:
            signature = signatures[name]
            feeds = {signature.inputs[key].name: values for key, values in inputs.items()}
            fetches = {key: tensor.name for key, tensor in signature.outputs.items()}
            scored.append((name, session.run(fetches, feeds)))
    with open(answers, "wb") as file:
        pickle.dump(scored, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
