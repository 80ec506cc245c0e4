"""Multi-head attention and the post-norm block that the encoder and the denoiser are made of."""

from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks
from diffumin_tf.layers.dense import Dense
from diffumin_tf.layers.dropout import SeededDropout
from diffumin_tf.layers.token_norm import TokenNorm

# Added to the logit of a masked key: nothing is left of it in the softmax.
MASKED = tf.float32.min / 2
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
        checks.divisor("num_heads", self.num_heads, self.width, "a token's width")
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
        if key_mask is not None:
            key_mask = checks.tensor("key_mask", key_mask, "[N, K]", keys.shape[:2], tf.bool)
            # Its logits are 0 then, whatever was there, and values of 0 are what a query receives
            # whose keys are all masked.
            keys = tf.where(key_mask[:, :, tf.newaxis], keys, 0.0)
        mixed = attend(
            self.query_projection(query),
            self.key_projection(keys),
            self.value_projection(keys),
            key_mask,
            self.num_heads,
        )
        return self.output_projection(mixed)

    def project(self, tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Tokens `[..., d]` as queries, keys and values, `[..., d]` each."""
        return (
            self.query_projection(tokens),
            self.key_projection(tokens),
            self.value_projection(tokens),
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_heads": self.num_heads}

    def _projection(self, name: str) -> Dense:
        projection = Dense(self.width, use_bias=False, name=name)
        projection.build([None, self.width])
        return projection


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
        self.attention_norm = _norm("attention_norm")
        self.feed_forward_norm = _norm("feed_forward_norm")
        if self.conditioned:
            self.condition_norm = _norm("condition_norm")

    def build(self, input_shape: tf.TensorShape) -> None:
        (width,) = checks.static_sizes("query", input_shape, "[N, Q, d]", known=1)
        self.attention.build(input_shape)
        self.hidden = Dense(self.dff_factor * width, "relu", name="hidden")
        self.hidden.build([None, width])
        self.output_projection = Dense(width, name="output")
        self.output_projection.build([None, self.dff_factor * width])
        self.attention_norm.build([None, None, width])
        self.feed_forward_norm.build([None, None, width])
        if self.conditioned:
            # Attention to a single key gives it all the weight, whatever query and key are, so
            # cross-attention to one token is a projection of that token.
            self.condition_projection = Dense(width, use_bias=False, name="condition")
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
        projected = None
        if self.conditioned:
            shape = [None, 1, self.attention.width]
            condition = checks.tensor("condition", condition, "[N, 1, d]", shape)
            projected = self.condition_projection(condition)
        return self.update(query, self.attention(query, keys, key_mask), projected, training)

    def update(
        self,
        query: tf.Tensor,
        attended: tf.Tensor,
        projected: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        """What follows the attention, for callers that compute the attention themselves.

        Args:
            query: `[..., d]`, float32. The tokens to update.
            attended: `[..., d]`, float32. The result of the attention.
            projected: broadcastable to `[..., d]`, float32: `condition W_c`, if the block is
                conditioned, else None.
            training: bool. Whether to apply dropout.

        Returns:
            `[..., d]`, float32.
        """
        tokens = self.attention_norm(query + self.dropout(attended, training=training))
        if projected is not None:
            tokens = self.condition_norm(tokens + self.dropout(projected, training=training))
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


def attend(
    query: tf.Tensor,
    keys: tf.Tensor,
    values: tf.Tensor,
    key_mask: tf.Tensor | None,
    num_heads: int,
) -> tf.Tensor:
    """Scaled dot-product attention.

    By matrix products, and by elementwise products where Q is statically 1: with as many keys as a
    head is wide, such matrix products in TensorFlow 2.21 write beyond their scratch memory, so that
    training crashed now and then (probably what uxlfoundation/oneDNN#5043 mends).

    Args:
        query: `[N, Q, d]`, float32.
        keys: `[N, K, d]`, float32, zero where masked.
        values: `[N, K, d]`, float32, zero where masked.
        key_mask: `[N, K]`, bool, or None. Which keys may be attended to; None means all.
        num_heads: int. Number of heads; it divides d.

    Returns:
        `[N, Q, d]`, float32, zero where every key is masked.
    """
    width, is_single = query.shape[-1], query.shape[1] == 1
    query *= (width // num_heads) ** -0.5
    query, keys, values = (_split_heads(x, num_heads) for x in (query, keys, values))
    if is_single:
        logits = tf.transpose(tf.reduce_sum(query * keys, axis=-1), [0, 2, 1])[:, :, tf.newaxis]
    else:
        query, keys, values = (tf.transpose(x, [0, 2, 1, 3]) for x in (query, keys, values))
        logits = tf.matmul(query, keys, transpose_b=True)
    if key_mask is not None:
        # A sum takes a fraction of the time of a `tf.where` that broadcasts.
        logits += tf.where(key_mask, 0.0, MASKED)[:, tf.newaxis, tf.newaxis]
    weights = tf.nn.softmax(logits)
    if is_single:
        weights = tf.transpose(weights, [0, 3, 1, 2])
        mixed = tf.reduce_sum(weights * values, axis=1, keepdims=True)
    else:
        mixed = tf.transpose(tf.matmul(weights, values), [0, 2, 1, 3])
    return tf.reshape(mixed, [-1, tf.shape(mixed)[1], width])


def _split_heads(tokens: tf.Tensor, num_heads: int) -> tf.Tensor:
    return tf.reshape(tokens, [-1, tf.shape(tokens)[1], num_heads, tokens.shape[2] // num_heads])


def _norm(name: str) -> TokenNorm:
    return TokenNorm(epsilon=_NORM_EPSILON, name=name)
