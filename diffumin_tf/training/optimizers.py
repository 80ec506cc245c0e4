"""Optimisers by the names of the configuration."""

import tensorflow as tf

from diffumin_tf.config import TaskConfig
from diffumin_tf.layers import replicas
from diffumin_tf.model import RankingModel

# A row's gradient is a mean over the batch, some 1e-4; the usual 0.1 would drown its square.
_INITIAL_ACCUMULATOR = 1e-8


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class RowAdagrad(tf.keras.optimizers.Adagrad):
    """`tf.keras.optimizers.Adagrad` that reads and assigns the rows of a sparse gradient.

    The rows of a gradient are different ones when they arrive here, so that they can be assigned
    in parallel; the library adds to them, one after the other.
    """

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable)
            return
        rows, rate = gradient.indices, tf.cast(self.learning_rate, variable.dtype)
        accumulator = self._accumulators[self._index_dict[self._var_key(variable)]]
        accumulator = replicas.own_copy(accumulator)
        squares = tf.gather(accumulator, rows) + tf.square(gradient.values)
        step = rate * gradient.values / tf.sqrt(squares + self.epsilon)
        values = tf.gather(variable, rows) - step
        accumulator.scatter_update(tf.IndexedSlices(squares, rows))
        variable.scatter_update(tf.IndexedSlices(values, rows))


def build(
    config: TaskConfig,
) -> tuple[tf.keras.optimizers.Optimizer, tf.keras.optimizers.Optimizer]:
    """The optimisers of ``adagrad_lazyadam``.

    Returns:
      Adam at ``lazyAdam_learning_rate`` for everything but the embedding table, and Adagrad at
      ``learning_rate`` for the table, whose sparse update touches the rows of the batch only.
    """
    adam = tf.keras.optimizers.Adam(config.lazyAdam_learning_rate, name="adam")
    # Workers of parameter servers update a row at the same time: what both add counts, where of
    # what both assign one would be lost.
    shared = config.strategy == "parameter_server"
    adagrad = (tf.keras.optimizers.Adagrad if shared else RowAdagrad)(
        config.learning_rate, initial_accumulator_value=_INITIAL_ACCUMULATOR, name="adagrad"
    )
    return adam, adagrad


def compile_model(model: RankingModel, config: TaskConfig) -> None:
    """Compiles a model whose weights exist with the optimisers of its configuration."""
    model.compile(*build(config))
