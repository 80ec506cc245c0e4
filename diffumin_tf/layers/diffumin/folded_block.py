"""A transformer block whose norms are folded into the kernels around them."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from diffumin_tf.layers.attention import TransformerBlock
from diffumin_tf.layers.token_norm import TokenNorm


class Linear(NamedTuple):
    """`x W + b` of tokens `[N, d]`.

    Attributes:
        kernel: W, `[d, m]`, float32.
        bias: b, `[m]`, float32.
    """

    kernel: tf.Tensor
    bias: tf.Tensor

    def __call__(self, tokens: tf.Tensor) -> tf.Tensor:
        return tf.nn.bias_add(tf.matmul(tokens, self.kernel), self.bias)

    def after(self, norm: TokenNorm | None) -> Linear:
        """The same of what a norm returns, for tokens that miss its gain and bias."""
        if norm is None:
            return self
        shift = tf.squeeze(tf.matmul(norm.beta[tf.newaxis], self.kernel), axis=0)
        return Linear(norm.gamma[:, tf.newaxis] * self.kernel, self.bias + shift)

    def centred(self) -> Linear:
        """The same less its mean over the m entries."""
        return Linear(
            self.kernel - tf.reduce_mean(self.kernel, axis=1, keepdims=True),
            self.bias - tf.reduce_mean(self.bias),
        )

    def beside(self, other: Linear) -> Linear:
        """The entries of both, side by side."""
        return Linear(*(tf.concat(pair, axis=-1) for pair in zip(self, other, strict=True)))


class FoldedBlock:
    """A conditioned `TransformerBlock` without dropout, in fewer passes over its tokens.

    A layer norm is `γ n + β` with `n = c / √(mean c² + ε)` and `c = x − mean x`. Both the mean and
    the gain are linear, so that kernels before a norm give c and kernels after it take n.

    Args:
        block: a `TransformerBlock` that is built.
        norm: the norm that its tokens come from, without gain and bias; None takes them as they
            are.
    """

    def __init__(self, block: TransformerBlock, norm: TokenNorm | None) -> None:
        attention, width = block.attention, block.attention.width
        identity, no_bias = Linear(tf.eye(width), tf.zeros([width])), tf.zeros([width])
        query, key, value = (
            Linear(projection.kernel, no_bias).after(norm)
            for projection in (
                attention.query_projection,
                attention.key_projection,
                attention.value_projection,
            )
        )
        # What the block adds to, and queries; keys and values.
        self.asking = identity.after(norm).centred().beside(query)
        self.answering = key.beside(value)
        self._output = Linear(attention.output_projection.kernel, no_bias).centred()
        self._before_condition = identity.after(block.attention_norm).centred()
        self._condition = Linear(block.condition_projection.kernel, no_bias).centred()
        self._hidden = Linear(block.hidden.kernel, block.hidden.bias).after(block.condition_norm)
        update = Linear(block.output_projection.kernel, block.output_projection.bias).centred()
        kept = identity.after(block.condition_norm).centred()
        self._update = update._replace(bias=update.bias + kept.bias)
        self._kept = kept.kernel
        self.norm = block.feed_forward_norm
        self.num_heads = block.num_heads
        self._epsilon = self.norm.epsilon

    def condition(self, channels: tf.Tensor) -> tf.Tensor:
        """What the channels `[N, d]` add to their tokens, `[N, d]`, as `update` takes it."""
        added = tf.matmul(channels, self._condition.kernel)
        return added + self._before_condition.bias

    def update(self, tokens: tf.Tensor, attended: tf.Tensor, condition: tf.Tensor) -> tf.Tensor:
        """What follows the attention.

        Args:
            tokens: `[N, d]`, float32. The tokens to update, as `asking` gives them.
            attended: `[N, d]`, float32. Sums of values, before the output projection.
            condition: `[N, d]`, float32, from `condition`.

        Returns:
            `[N, d]`, float32, without gain and bias of `norm`.
        """
        tokens = self._normalised(tokens + tf.matmul(attended, self._output.kernel))
        kept = tf.matmul(tokens, self._before_condition.kernel)
        tokens = self._normalised(kept + condition)
        update = self._update(tf.nn.relu(self._hidden(tokens)))
        return self._normalised(update + tf.matmul(tokens, self._kept))

    def _normalised(self, centred: tf.Tensor) -> tf.Tensor:
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        return centred * tf.math.rsqrt(variance + self._epsilon)
