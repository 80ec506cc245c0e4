"""Multi-head attention and the post-norm block that the encoder and the denoiser are made of."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks
from diffumin_tf.layers.dropout import SeededDropout

_NORM_EPSILON = 1e-6


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class MultiHeadAttention(tf.keras.layers.Layer):
    """Scaled dot-product attention with masked keys.

    ```
    softmax(Q Kᵀ / √(d/heads)) V W_o,   Q = query W_q,  K = keys W_k,  V = keys W_v
    ```

    A query whose keys are all masked receives zero, where `tf.keras.layers.MultiHeadAttention`
    would average the masked keys.

    Args:
        num_heads: int. Number of heads; it divides d.

    Call arguments:
        query: `[N, Q, d]`, float32.
        keys: `[N, K, d]`, float32.
        key_mask: `[N, K]`, bool, or None. Which keys may be attended to; None means all.

    Returns:
        `[N, Q, d]`, float32.

    Raises:
        ValueError: if `num_heads` does not divide d, or an input has the wrong shape.

    Example:

    ```python
    attention = MultiHeadAttention(num_heads=2)
    tokens = tf.random.normal([4, 10, 16])
    attended = attention(tokens, tokens)  # [4, 10, 16]
    ```
    """

    def __init__(self, num_heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads = checks.positive_int("num_heads", num_heads)

    def build(self, input_shape: tf.TensorShape) -> None:
        (self.width,) = checks.static_sizes("query", input_shape, "[N, Q, d]", known=1)
        if self.width % self.num_heads:
            raise ValueError(
                f"`num_heads` must divide the width {self.width} of a token, "
                f"received {self.num_heads}."
            )
        self.query_projection = self._projection("query")
        self.key_projection = self._projection("key")
        self.value_projection = self._projection("value")
        self.output_projection = self._projection("output")
        super().build(input_shape)

    def call(
        self, query: tf.Tensor, keys: tf.Tensor, key_mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        query = checks.tensor("query", query, "[N, Q, d]", [None, None, self.width])
        keys = checks.tensor("keys", keys, "[N, K, d]", [None, None, self.width])
        scale = (self.width // self.num_heads) ** -0.5
        logits = scale * tf.einsum(
            "nqhe,nkhe->nhqk",
            self._heads(self.query_projection(query)),
            self._heads(self.key_projection(keys)),
        )
        if key_mask is None:
            weights = tf.nn.softmax(logits)
        else:
            key_mask = checks.tensor("key_mask", key_mask, "[N, K]", keys.shape[:2], tf.bool)
            allowed = key_mask[:, tf.newaxis, tf.newaxis, :]
            weights = tf.nn.softmax(tf.where(allowed, logits, logits.dtype.min))
            weights = tf.where(allowed, weights, 0.0)
        mixed = tf.einsum("nhqk,nkhe->nqhe", weights, self._heads(self.value_projection(keys)))
        return self.output_projection(tf.reshape(mixed, tf.shape(query)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_heads": self.num_heads}

    def _projection(self, name: str) -> tf.keras.layers.Dense:
        projection = tf.keras.layers.Dense(self.width, use_bias=False, name=name)
        projection.build([None, self.width])
        return projection

    def _heads(self, tokens: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(tokens)
        head_width = self.width // self.num_heads
        return tf.reshape(tokens, [shape[0], shape[1], self.num_heads, head_width])


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class TransformerBlock(tf.keras.layers.Layer):
    """One post-norm block of attention, an optional condition, and feed-forward.

    ```
    h = LayerNorm(query + Attention(query, keys))
    h = LayerNorm(h + condition W_c)                   (if conditioned)
    h = LayerNorm(h + W_2 relu(W_1 h + b_1) + b_2)
    ```

    Args:
        num_heads: int. Attention heads; it divides d.
        dff_factor: int. Hidden width of the feed-forward part, in multiples of d.
        dropout_rate: float in [0, 1). Dropout before every residual.
        conditioned: bool. Whether `call` receives a condition.
        seed: int. Seed of dropout.

    Call arguments:
        query: `[N, Q, d]`, float32. The tokens to update.
        keys: `[N, K, d]`, float32. The tokens to attend to.
        key_mask: `[N, K]`, bool, or None. Which keys may be attended to; None means all.
        condition: `[N, 1, d]`, float32, if the block is conditioned, else None.
        training: bool. Whether to apply dropout.

    Returns:
        `[N, Q, d]`, float32.

    Raises:
        ValueError: if an argument is out of range or an input has the wrong shape.

    Example:

    ```python
    block = TransformerBlock(num_heads=2, dff_factor=4)
    tokens = tf.random.normal([4, 10, 16])
    updated = block(tokens, tokens)  # [4, 10, 16]
    ```
    """

    def __init__(
        self,
        num_heads: int,
        dff_factor: int,
        dropout_rate: float = 0.0,
        conditioned: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = checks.positive_int("num_heads", num_heads)
        self.dff_factor = checks.positive_int("dff_factor", dff_factor)
        self.dropout_rate = checks.rate("dropout_rate", dropout_rate)
        self.conditioned = bool(conditioned)
        self.seed = checks.integer("seed", seed)
        self.attention = MultiHeadAttention(self.num_heads, name="attention")
        self.dropout = SeededDropout(self.dropout_rate, self.seed, name="dropout")
        self.attention_norm = _layer_norm("attention_norm")
        self.feed_forward_norm = _layer_norm("feed_forward_norm")
        if self.conditioned:
            self.condition_norm = _layer_norm("condition_norm")

    def build(self, input_shape: tf.TensorShape) -> None:
        (width,) = checks.static_sizes("query", input_shape, "[N, Q, d]", known=1)
        self.attention.build(input_shape)
        self.hidden = tf.keras.layers.Dense(self.dff_factor * width, "relu", name="hidden")
        self.hidden.build([None, width])
        self.output_projection = tf.keras.layers.Dense(width, name="output")
        self.output_projection.build([None, self.dff_factor * width])
        self.attention_norm.build([None, None, width])
        self.feed_forward_norm.build([None, None, width])
        if self.conditioned:
            # Attention to a single key gives it all the weight, whatever query and key are, so
            # cross-attention to one token is a projection of that token.
            self.condition_projection = tf.keras.layers.Dense(
                width, use_bias=False, name="condition"
            )
            self.condition_projection.build([None, width])
            self.condition_norm.build([None, None, width])
        super().build(input_shape)

    def call(
        self,
        query: tf.Tensor,
        keys: tf.Tensor,
        key_mask: tf.Tensor | None = None,
        condition: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        if self.conditioned != (condition is not None):
            raise ValueError(
                f"`condition` must be given exactly if the block is conditioned, received "
                f"{condition} with conditioned={self.conditioned}."
            )
        attended = self.dropout(self.attention(query, keys, key_mask), training=training)
        tokens = self.attention_norm(query + attended)
        if self.conditioned:
            shift = self.dropout(self.condition_projection(condition), training=training)
            tokens = self.condition_norm(tokens + shift)
        update = self.dropout(self.output_projection(self.hidden(tokens)), training=training)
        return self.feed_forward_norm(tokens + update)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dff_factor": self.dff_factor,
            "dropout_rate": self.dropout_rate,
            "conditioned": self.conditioned,
            "seed": self.seed,
        }


def _layer_norm(name: str) -> tf.keras.layers.LayerNormalization:
    return tf.keras.layers.LayerNormalization(epsilon=_NORM_EPSILON, name=name)
