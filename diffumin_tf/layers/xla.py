"""Compilation of parts of a training step by XLA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def compiled_in_training(function: Callable[..., Any], jit_compile: bool) -> Callable[..., Any]:
    """`function(*tensors, training)`, compiled by XLA for training.

    At inference it is left as it is: stock TensorFlow Serving refuses graphs that XLA must compile,
    and requests come in many batch sizes, each of which would be compiled anew.

    Args:
        function: takes tensors and then the bool `training`.
        jit_compile: bool. Whether to compile at all.

    Returns:
        A function of the same arguments.
    """
    compiled = tf.function(function, jit_compile=True, autograph=False)

    # A closure, because Keras would track and save a tf.function that is an attribute.
    def run(*arguments: Any) -> Any:
        *_, training = arguments
        return (compiled if jit_compile and training else function)(*arguments)

    return run
