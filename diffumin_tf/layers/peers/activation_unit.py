"""The activation unit of DIN: how much a behaviour has to do with the candidate."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks, replicas
from diffumin_tf.layers.dense import Dense
from diffumin_tf.layers.tower import activation_layer

ACTIVATIONS = ("dice", "prelu")


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class ActivationUnit(tf.keras.layers.Layer):
    """Weighs each behaviour by a small network that sees it beside the candidate.

    ```
    h   = activation(W h + b)            (once per entry of units, from [q, k_j, q − k_j, q ⊙ k_j])
    w_j = w · h + b
    ```

    The weights are not normalised over the history, so that their sum tells how strong an interest
    is. Only valid behaviours are looked at: they alone make the statistics of Dice, and padding
    costs nothing.

    Args:
        units: ints. Widths of the hidden layers, one at least.
        activation: `"dice"` or `"prelu"`.
        momentum: float in [0, 1). Share of the moving averages of Dice that a training step keeps.

    Call arguments:
        history: `[B, L, d]`, float32. The behaviours k.
        candidate: `[B, d]`, float32. The candidate q.
        mask: `[B, L]`, bool, or None. Which behaviours are valid; None means all.
        training: bool. Whether Dice uses, and learns from, the statistics of the batch.

    Returns:
        Weights `[B, L]`, float32, 0 where the mask is false.

    Raises:
        ValueError: if an argument is out of range or an input has the wrong shape.

    Example:

    ```python
    unit = ActivationUnit(units=[36])
    history = tf.random.normal([4, 50, 8])
    weights = unit(history, tf.random.normal([4, 8]))  # [4, 50]
    interest = tf.einsum("bl,bld->bd", weights, history)
    ```

    Source: Zhou et al., Deep Interest Network for Click-Through Rate Prediction (KDD '18), local
    activation unit; q − k and q ⊙ k stand for its outer product, as in the authors' code.
    """

    def __init__(
        self,
        units: Sequence[int] = (36,),
        activation: str = "dice",
        momentum: float = 0.99,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = checks.widths("units", units, at_least=1)
        self.activation = checks.choice("activation", activation, ACTIVATIONS)
        self.momentum = checks.rate("momentum", momentum)
        self.dense = [Dense(width, name=f"dense_{depth}") for depth, width in enumerate(self.units)]
        self.activations = [
            activation_layer(self.activation, self.momentum, name=f"{activation}_{depth}")
            for depth in range(len(self.units))
        ]
        self.weight = Dense(1, name="weight")

    def build(self, input_shape: tf.TensorShape) -> None:
        (self.width,) = checks.static_sizes("history", input_shape, "[B, L, d]", known=1)
        widths = [4 * self.width, *self.units]
        layers = zip(self.dense, self.activations, widths[:-1], self.units, strict=True)
        for dense, activation, before, after in layers:
            dense.build([None, before])
            activation.build(tf.TensorShape([None, after]))
        self.weight.build([None, widths[-1]])
        super().build(input_shape)

    def call(
        self,
        history: tf.Tensor,
        candidate: tf.Tensor,
        mask: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        history, candidate, mask = checks.history_inputs(history, candidate, mask, self.width)
        positions = tf.where(mask)
        valid = tf.gather_nd(history, positions)
        hidden = self._first_layer(candidate, valid, positions[:, 0])
        if replicas.count() == 1:
            # Statistics of nothing would not be a number; replicas count their behaviours.
            hidden = tf.pad(hidden, [[0, tf.maximum(1 - tf.shape(hidden)[0], 0)], [0, 0]])
        hidden = self.activations[0](hidden, training=training)
        for dense, activation in zip(self.dense[1:], self.activations[1:], strict=True):
            hidden = activation(dense(hidden), training=training)
        weights = self.weight(hidden)[: tf.shape(valid)[0], 0]
        shape = tf.shape(mask, out_type=positions.dtype)
        return tf.ensure_shape(tf.scatter_nd(positions, weights, shape), mask.shape)

    def get_config(self) -> dict[str, Any]:
        config = {"units": self.units, "activation": self.activation, "momentum": self.momentum}
        return {**super().get_config(), **config}

    def _first_layer(self, candidate: tf.Tensor, valid: tf.Tensor, samples: tf.Tensor) -> tf.Tensor:
        """W [q, k, q − k, q ⊙ k] + b of valid behaviours `[n, d]`, without the four side by side.

        What depends on the candidate alone is computed once a sample.
        """
        first = self.dense[0]
        of_query, of_key, of_difference, of_product = tf.split(first.kernel, 4)
        of_sample = tf.matmul(candidate, of_query + of_difference) + first.bias
        products = valid * tf.gather(candidate, samples)
        return (
            tf.gather(of_sample, samples)
            + tf.matmul(valid, of_key - of_difference)
            + tf.matmul(products, of_product)
        )
