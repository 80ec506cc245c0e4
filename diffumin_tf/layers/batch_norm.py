"""Batch normalisation by the statistics of the global batch."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks, replicas


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class BatchNorm(tf.keras.layers.BatchNormalization):
    """`tf.keras.layers.BatchNormalization` over the samples of all replicas together.

    ```
    y = γ (x − mean) / √(variance + epsilon) + β

    n = Σ n_r,   mean = Σ n_r mean_r / n,   variance = Σ (s_r + n_r (mean_r − mean)²) / n
    ```

    in training, where n_r is the number of samples on replica r, mean_r their mean and s_r the sum
    of their squared deviations from it. This rounds as little as one device does; E[x²] − E[x]²,
    which `synchronized=True` of the library takes, loses the variance of a feature whose mean is
    some thousand times its deviation. A replica may have no samples. With one replica this is the
    library's layer to the last bit.

    Args:
        **kwargs: of `tf.keras.layers.BatchNormalization`, without `synchronized` and `fused`.

    Call arguments:
        inputs: `[B, …, units]`, float32.
        training: bool. Whether to use, and learn from, the statistics of the batch.
        mask: `[B, …]`, bool, or None. Which of `inputs` count; None means all.

    Returns:
        Tensor shaped like `inputs`, float32.

    Example:

    ```python
    normal = BatchNorm(momentum=0.9)(tf.random.normal([32, 16]), training=True)  # [32, 16]
    ```

    Source: Ioffe and Szegedy, Batch Normalization (ICML '15); Chan, Golub and LeVeque, Algorithms
    for Computing the Sample Variance (1983), for the variance of parts put together.
    """

    def __init__(self, **kwargs: Any) -> None:
        # The fused kernel, which the library takes for images, knows one replica only.
        super().__init__(**kwargs, fused=False)
        checks.rate("momentum", self.momentum)

    def add_weight(self, *args: Any, **kwargs: Any) -> tf.Variable:
        if kwargs.get("synchronization") == tf.VariableSynchronization.ON_READ:
            # Moving averages: the same on all replicas, so that one of them is read and saved; a
            # mean over replicas would round, and have all processes communicate.
            kwargs["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
        return super().add_weight(*args, **kwargs)

    def _calculate_mean_and_var(
        self,
        inputs: tf.Tensor,
        reduction_axes: Sequence[int],
        keep_dims: bool,
        mask: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if replicas.count() == 1:
            return super()._calculate_mean_and_var(inputs, reduction_axes, keep_dims, mask)

        def total(x: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(x, axis=reduction_axes, keepdims=True)

        weights = tf.ones_like(inputs)
        if mask is not None:
            weights *= tf.cast(mask, inputs.dtype)[..., tf.newaxis]
        count = total(weights)
        mean = total(inputs * weights) / tf.maximum(count, 1.0)
        # Deviations from a mean sum up to zero, and so does the gradient that passes through it.
        squares = total(weights * tf.square(inputs - tf.stop_gradient(mean)))
        statistics = tf.stack([count, mean, squares])[tf.newaxis]
        one_each = replicas.BatchRows(offset=replicas.index(), total=replicas.count())
        counts, means, squares = tf.unstack(replicas.gather(statistics, one_each), axis=1)
        count = tf.maximum(tf.reduce_sum(counts, axis=0), 1.0)
        mean = tf.reduce_sum(counts * means, axis=0) / count
        between = counts * tf.square(means - mean)
        variance = tf.reduce_sum(squares + between, axis=0) / count
        if keep_dims:
            return mean, variance
        return tf.squeeze(mean, reduction_axes), tf.squeeze(variance, reduction_axes)

    def _support_zero_size_input(self) -> bool:
        # The library would leave the moving averages of a replica without samples as they are.
        return replicas.count() == 1 and super()._support_zero_size_input()
