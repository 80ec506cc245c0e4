"""The attention of SDIM: a behaviour counts as often as its hash meets that of the candidate."""

from typing import Any

import numpy as np
import tensorflow as tf

from diffumin_tf.layers import checks
from diffumin_tf.layers.peers.sim_hash import SimHash
from diffumin_tf.layers.unit_vectors import unit_vectors


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class SampledHashAttention(tf.keras.layers.Layer):
    """Pools the behaviours whose hash signature is that of the candidate.

    ```
    p_gj     = [the width bits of group g of k_j are those of q]
    interest = mean_g (s_g / ‖s_g‖),   s_g = Σ_j p_gj k_j        (bits / width groups)
    ```

    In expectation the weight of a behaviour is `(1 − θ_j / π)^width`, θ_j being its angle to the
    candidate. A group in which nothing meets the candidate adds zero.

    Args:
        bits: int. Hyperplanes m of all groups together.
        width: int. Bits τ of one group; it divides `bits`.
        seed: int. Seed of the hyperplanes, which never train.

    Call arguments:
        history: `[B, L, d]`, float32. The behaviours k.
        candidate: `[B, d]`, float32. The candidate q.
        mask: `[B, L]`, bool, or None. Which behaviours are valid; None means all.

    Returns:
        `[B, d]`, float32.

    Raises:
        ValueError: if an argument is out of range or an input has the wrong shape.

    Example:

    ```python
    attention = SampledHashAttention(bits=48, width=3)
    interest = attention(tf.random.normal([4, 500, 8]), tf.random.normal([4, 8]))  # [4, 8]
    ```

    Source: Cao et al., Sampling Is All You Need on Modeling Long-Term User Behaviors for CTR
    Prediction (CIKM '22).
    """

    def __init__(self, bits: int = 48, width: int = 3, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bits = checks.positive_int("bits", bits)
        self.width = checks.positive_int("width", width)
        checks.divisor("width", self.width, self.bits, "`bits`")
        self.seed = checks.integer("seed", seed)
        self.hash = SimHash(self.bits, self.seed, name="hash")

    def build(self, input_shape: tf.TensorShape) -> None:
        (self.size,) = checks.static_sizes("history", input_shape, "[B, L, d]", known=1)
        self.hash.build(input_shape)
        super().build(input_shape)

    def call(
        self, history: tf.Tensor, candidate: tf.Tensor, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        history, candidate, mask = checks.history_inputs(history, candidate, mask, self.size)
        same = self.hash(history) == self.hash(candidate)[:, tf.newaxis]
        same &= mask[:, :, tf.newaxis]
        # A matrix product counts equal bits of a group faster than a reduction of short rows.
        groups = np.repeat(np.eye(self.bits // self.width, dtype=np.float32), self.width, axis=0)
        collides = tf.matmul(tf.cast(same, tf.float32), groups) == float(self.width)
        sums = tf.matmul(tf.cast(collides, tf.float32), history, transpose_a=True)
        return tf.reduce_mean(unit_vectors(sums), axis=1)

    def get_config(self) -> dict[str, Any]:
        config = {"bits": self.bits, "width": self.width, "seed": self.seed}
        return {**super().get_config(), **config}
