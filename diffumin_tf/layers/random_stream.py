"""Random numbers whose whole state is one counter in the checkpoint."""

from collections.abc import Callable

import tensorflow as tf

from diffumin_tf.layers import checks, replicas

# The same bits on CPU and GPU and by XLA, which only makes other numbers of them.
_ALGORITHM = "philox"
_MANTISSA_BITS = 23


class RandomStream(tf.Module):
    """Random numbers that depend on the seed, the number of the draw and the row in the batch.

    Draw i of replica r of N is rows `[offset, offset + n)` of what one device would draw as its
    draw i for the global batch, so the number of replicas never matters. The first axis of a draw
    must therefore be that of the samples. The module belongs to the layer that draws, as an
    attribute, and its counter to the variables of that layer.

    Args:
        seed: int. Streams of different seeds have nothing in common.

    Raises:
        ValueError: if `seed` is no integer.

    Example:

    ```python
    stream = RandomStream(seed=1)
    noise = stream.normal([4, 8])  # [4, 8]
    ```
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = checks.integer("seed", seed)
        # Every replica counts for itself, and all of them alike, so that no draw waits for another
        # replica and a draw may stand in a loop or a compiled function.
        self.draws = tf.Variable(
            0,
            trainable=False,
            dtype=tf.int64,
            name="draws",
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def normal(self, shape: tf.Tensor, rows: replicas.BatchRows | None = None) -> tf.Tensor:
        """Standard normal numbers.

        Args:
            shape: `[n, ...]`, int32, n being the samples of this replica.
            rows: `replicas.batch_rows(n)`, for callers that draw more than once; None asks for it.

        Returns:
            Tensor of that shape, float32.
        """
        return self._draw(tf.random.stateless_normal, shape, rows)

    def integers(
        self, shape: tf.Tensor, bound: int, rows: replicas.BatchRows | None = None
    ) -> tf.Tensor:
        """Uniform integers in [0, bound), int32; see `normal`."""

        def below(shape: tf.Tensor, seed: tf.Tensor, alg: str) -> tf.Tensor:
            return tf.random.stateless_uniform(shape, seed, 0, bound, tf.int32, alg=alg)

        return self._draw(below, shape, rows)

    def uniform_of_replica(self, shape: tf.Tensor) -> tf.Tensor:
        """Uniform numbers in [0, 1) of any shape, other ones on every replica.

        For draws inside of XLA or of control flow, where replicas cannot tell their sizes. They are
        the same compiled and not.
        """
        draw = self._next_draw() * replicas.count() + tf.cast(replicas.index(), tf.int64)
        bits = tf.random.stateless_uniform(
            shape, self._seed(draw), None, None, tf.int32, alg=_ALGORITHM
        )
        mantissa = tf.bitwise.bitwise_and(bits, 2**_MANTISSA_BITS - 1)
        return tf.cast(mantissa, tf.float32) * 2.0**-_MANTISSA_BITS

    def _draw(
        self,
        numbers: Callable[..., tf.Tensor],
        shape: tf.Tensor,
        rows: replicas.BatchRows | None,
    ) -> tf.Tensor:
        seed = self._seed(self._next_draw())
        if replicas.count() == 1:
            return numbers(shape, seed, alg=_ALGORITHM)
        offset, total = rows or replicas.batch_rows(shape[0])
        drawn = numbers(tf.concat([[total], shape[1:]], axis=0), seed, alg=_ALGORITHM)
        return drawn[offset : offset + shape[0]]

    def _next_draw(self) -> tf.Tensor:
        number = tf.identity(self.draws)
        self.draws.assign_add(1)
        return number

    def _seed(self, draw: tf.Tensor) -> tf.Tensor:
        return tf.stack([tf.constant(self.seed, tf.int64), draw])
