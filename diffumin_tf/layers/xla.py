"""Compilation of parts of a training step by XLA."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from diffumin_tf.layers import replicas


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
        A function of the same arguments.
    """
    compiled = tf.function(function, jit_compile=True, autograph=False)

    # A closure, because Keras would track and save a tf.function that is an attribute.
    def run(*arguments: Any) -> Any:
        *_, training = arguments
        alone = not communicates or replicas.count() == 1
        return (compiled if jit_compile and training and alone else function)(*arguments)

    return run
