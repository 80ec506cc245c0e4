"""Optimisers by the names of the configuration.

None is compiled by XLA alone, as the library does wherever there is a GPU: the number of rows in
a batch is a shape, so that each step would be compiled anew.
"""

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from diffumin_tf.config.task import TaskConfig
from diffumin_tf.layers import replicas
from diffumin_tf.training.warmup_decay import WarmupDecay

Rate = float | tf.keras.optimizers.schedules.LearningRateSchedule

# A row's gradient is a mean over the batch, some 1e-4; the usual 0.1 would drown its square.
_INITIAL_ACCUMULATOR = 1e-8
# What the operation does not know, and what `apply_if` would leave out in silence.
_NOT_FUSED = "amsgrad adaptive_epsilon use_ema weight_decay clipnorm clipvalue global_clipnorm"


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class FusedAdam(tf.keras.optimizers.Adam):
    """`tf.keras.optimizers.Adam` with one operation a variable and the powers of β once a step.

    ```
    m ← m + (1 − β₁)(g − m),  v ← v + (1 − β₂)(g² − v)
    w ← w − rate · √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε)
    ```

    What it keeps has the names and the order of the library's: either reads checkpoints of the
    other.

    Args:
        kwargs: of `tf.keras.optimizers.Adam`.

    Raises:
        ValueError: a variant is asked for, or that weights decay or gradients are clipped.
    """

    def __init__(self, learning_rate: Rate = 0.001, **kwargs: Any) -> None:
        for variant in _NOT_FUSED.split():
            if kwargs.get(variant):
                raise ValueError(f"`{variant}` must not be set, received {kwargs[variant]!r}.")
        super().__init__(learning_rate, **{**kwargs, "jit_compile": False})

    def apply_if(
        self, finite: tf.Tensor, grads_and_vars: Iterable[tuple[tf.Tensor, tf.Variable]]
    ) -> None:
        """Makes an update, or leaves weights, m, v and `iterations` as they are, to the bit.

        It does not branch, so that XLA can compile it together with what made the gradients. It is
        for one replica, and for variables that `build` knows.

        Args:
            finite: scalar, bool. Whether to update; gradients may be NaN otherwise.
        """
        self._compute_current_learning_rate()
        numbers = self._numbers(finite)
        for gradient, variable in grads_and_vars:
            self._move(variable, tf.where(finite, gradient, tf.zeros_like(gradient)), numbers)
        self.iterations.assign_add(tf.cast(finite, tf.int64))

    def _distributed_apply_gradients_fn(
        self,
        distribution: tf.distribute.Strategy,
        grads_and_vars: Iterable[tuple[tf.Tensor | tf.IndexedSlices, tf.Variable]],
        **kwargs: Any,
    ) -> tf.Tensor:
        numbers = self._numbers()
        for gradient, variable in grads_and_vars:
            arguments = (gradient, numbers)
            distribution.extended.update(variable, self._move, args=arguments, group=False)
        return self.iterations.assign_add(1)

    def _numbers(self, finite: tf.Tensor | bool = True) -> dict[str, tf.Tensor]:
        """What is the same for all variables; where not finite, such that nothing changes."""
        step = tf.cast(self.iterations + 1, tf.float32)
        numbers = {"lr": tf.where(finite, tf.cast(self.learning_rate, tf.float32), 0.0)}
        for name, beta in (("beta1", self.beta_1), ("beta2", self.beta_2)):
            # The powers stay below 1, since the operation divides by what is left.
            numbers[f"{name}_power"] = tf.pow(tf.constant(beta, tf.float32), step)
            numbers[name] = tf.where(finite, tf.constant(beta, tf.float32), 1.0)
        return numbers

    def _move(
        self,
        variable: tf.Variable,
        gradient: tf.Tensor | tf.IndexedSlices,
        numbers: dict[str, tf.Tensor],
    ) -> None:
        index = self._index_dict[self._var_key(variable)]
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,
            v=self._velocities[index].handle,
            grad=tf.convert_to_tensor(gradient),
            epsilon=self.epsilon,
            use_locking=True,  # workers of parameter servers update at the same time
            **numbers,
        )


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class L2Adagrad(tf.keras.optimizers.Adagrad):
    """`tf.keras.optimizers.Adagrad` that draws what it updates towards zero.

    ```
    g = ∂loss/∂row + l2 · row        for the rows of the batch alone, each once
    ```

    Args:
        l2: weight of the sum of squares, halved.
    """

    def __init__(self, learning_rate: Rate = 0.001, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(learning_rate, **{**kwargs, "jit_compile": False})
        self.l2 = l2

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        super().update_step(self._with_l2(gradient, variable), variable)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "l2": self.l2}

    def _with_l2(
        self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable
    ) -> tf.Tensor | tf.IndexedSlices:
        if not self.l2:
            return gradient
        if not isinstance(gradient, tf.IndexedSlices):
            return gradient + self.l2 * variable
        own = tf.gather(replicas.local_copy(variable), gradient.indices)
        return tf.IndexedSlices(gradient.values + self.l2 * own, gradient.indices)


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class RowAdagrad(L2Adagrad):
    """`L2Adagrad` that reads and assigns the rows of a sparse gradient.

    The rows of a gradient are different ones when they arrive here, so that they can be assigned
    in parallel; the library adds to them, one after the other.
    """

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable)
            return
        gradient = self._with_l2(gradient, variable)
        rows, rate = gradient.indices, tf.cast(self.learning_rate, variable.dtype)
        accumulator = self._accumulators[self._index_dict[self._var_key(variable)]]
        accumulator = replicas.local_copy(accumulator)
        squares = tf.gather(accumulator, rows) + tf.square(gradient.values)
        step = rate * gradient.values / tf.sqrt(squares + self.epsilon)
        values = tf.gather(variable, rows) - step
        accumulator.scatter_update(tf.IndexedSlices(squares, rows))
        variable.scatter_update(tf.IndexedSlices(values, rows))


def build(
    config: TaskConfig,
) -> tuple[tf.keras.optimizers.Optimizer, tf.keras.optimizers.Optimizer]:
    """The optimisers of `adagrad_lazyadam`.

    Returns:
        Adam at `lazyAdam_learning_rate` for everything but the embedding table, and Adagrad at
        `learning_rate` for the table, whose sparse update touches the rows of the batch only.
    """
    adam = FusedAdam(_rate(config, config.lazyAdam_learning_rate), name="adam")
    # Workers of parameter servers may update a row at the same time: both sums count, but of two
    # assignments one would be lost.
    shared = config.strategy == "parameter_server"
    adagrad = (L2Adagrad if shared else RowAdagrad)(
        _rate(config, config.learning_rate),
        l2=config.embedding_l2,
        initial_accumulator_value=_INITIAL_ACCUMULATOR,
        name="adagrad",
    )
    return adam, adagrad


def _rate(config: TaskConfig, rate: float) -> Rate:
    if config.learning_rate_schedule == "constant" and not config.warmup_steps:
        return rate
    return WarmupDecay(rate, config.learning_rate_schedule, config.warmup_steps, config.decay_steps)
