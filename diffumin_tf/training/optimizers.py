"""Optimisers by the names of the configuration."""

import tensorflow as tf

from diffumin_tf.config import TaskConfig

# A row's gradient is a mean over the batch, some 1e-4; the usual 0.1 would drown its square.
_INITIAL_ACCUMULATOR = 1e-8


def build(
    config: TaskConfig,
) -> tuple[tf.keras.optimizers.Optimizer, tf.keras.optimizers.Optimizer]:
    """The optimisers of ``adagrad_lazyadam``.

    Returns:
      Adam at ``lazyAdam_learning_rate`` for everything but the embedding table, and Adagrad at
      ``learning_rate`` for the table, whose sparse update touches the rows of the batch only.
    """
    adam = tf.keras.optimizers.Adam(config.lazyAdam_learning_rate, name="adam")
    adagrad = tf.keras.optimizers.Adagrad(
        config.learning_rate, initial_accumulator_value=_INITIAL_ACCUMULATOR, name="adagrad"
    )
    return adam, adagrad
