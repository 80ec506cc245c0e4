"""A SavedModel that is run as TensorFlow Serving runs it, and what it says when it refuses.

It runs in a session of the saved graph, by the names of the signature's tensors, whose shapes
nobody checks before the graph does. Messages and codes are those of TensorFlow Serving 2.21
(`servables/tensorflow/*.cc`).
"""

import functools

import grpc
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2


class Refused(Exception):
    """An error of the server, by the name of its code."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Loaded:
    """A version in a session of its own."""

    def __init__(self, export):
        with tf.Graph().as_default():
            self.session = tf.compat.v1.Session()
            meta_graph = tf.compat.v1.saved_model.load(self.session, ["serve"], export)
        self.signatures = meta_graph.signature_def
        self.calls = {name: self.call(s) for name, s in self.signatures.items() if s.inputs}

    def call(self, signature):
        """A function of the inputs in the order of their names; TensorFlow checks no shape."""
        options = config_pb2.CallableOptions(
            feed=[signature.inputs[n].name for n in sorted(signature.inputs)],
            fetch=[signature.outputs[n].name for n in sorted(signature.outputs)],
        )
        return self.session._make_callable_from_options(options)

    def signature(self, name):
        if name not in self.signatures:
            raise Refused("INVALID_ARGUMENT", f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def run(self, name, tensors):
        """Arrays by name from arrays by name."""
        signature = self.signature(name)
        inputs = signature.inputs
        if set(tensors) != set(inputs):
            missing = ",".join(sorted(set(inputs) - set(tensors)))
            extra = ",".join(sorted(set(tensors) - set(inputs)))
            raise Refused(
                "INVALID_ARGUMENT",
                f"input size does not match signature. Sent extra: {{{extra}}}. Missing but "
                f"required: {{{missing}}}.",
            )
        try:
            values = self.calls[name](*(tensors[n] for n in sorted(inputs)))
            return dict(zip(sorted(signature.outputs), values, strict=True))
        except tf.errors.OpError as error:
            raise Refused(name_of(error.error_code), error.message) from None


load = functools.cache(Loaded)


def name_of(code):
    return next(c.name for c in grpc.StatusCode if c.value[0] == code)
