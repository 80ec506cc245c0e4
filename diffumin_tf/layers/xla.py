"""Compilation of parts of a training step by XLA."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from diffumin_tf.layers import replicas

_by_parts = contextvars.ContextVar("by_parts", default=True)


def compiled_in_training(
    function: Callable[..., Any], jit_compile: bool, communicates: bool = False
) -> Callable[..., Any]:
    """`function(*tensors, training)`, compiled by XLA for training.

    At inference it is left as it is: stock TensorFlow Serving refuses graphs that XLA must compile,
    and requests come in many batch sizes, each of which would be compiled anew.

    Args:
        function: takes tensors and then the bool `training`.
        jit_compile: bool. Whether to compile at all.
        communicates: bool. Whether replicas exchange values in it, as batch normalisation does.
            Then it is compiled only where there is one replica.

    Returns:
        A function of the same arguments; where `not_by_parts` holds it is left as it is, too.
    """
    compiled = tf.function(function, jit_compile=True, autograph=False)

    # A closure, because Keras would track and save a tf.function that is an attribute.
    def run(*arguments: Any) -> Any:
        *_, training = arguments
        alone = not communicates or replicas.count() == 1
        compiles = jit_compile and training and alone and _by_parts.get()
        return (compiled if compiles else function)(*arguments)

    return run


@contextlib.contextmanager
def not_by_parts() -> Iterator[None]:
    """What is traced inside compiles no part of it: all of it is compiled, or none."""
    token = _by_parts.set(False)
    try:
        yield
    finally:
        _by_parts.reset(token)
