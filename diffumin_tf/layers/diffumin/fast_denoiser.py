"""The denoiser at many timesteps of one context: what `Denoiser.call` returns, in less time."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from diffumin_tf.layers import checks
from diffumin_tf.layers.attention import TransformerBlock
from diffumin_tf.layers.diffumin.denoiser import Denoiser

# A query, a key and a value for each token.
Projections = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


class Time(NamedTuple):
    """Timesteps as `FastDenoiser` takes them.

    Attributes:
        embedding: `[..., d]`, float32.
        projections: three of `[..., d]`, float32. The embedding as query, key and value of the
            first block.
    """

    embedding: tf.Tensor
    projections: Projections


class FastDenoiser:
    """`denoiser(noisy, context, channels, timestep, live)` for one context and many timesteps.

    Without dropout the results and all gradients are those of the plain call, to rounding. It is
    faster because

    * projections are linear: queries, keys and values of the first block are sums of those of the
      context and of the time, which are computed once;
    * only one token of a row is read in the end: the last block answers a single query;
    * attention to so few keys is cheaper without a matrix product a head (`attend_to_few`).

    Args:
        denoiser: a `Denoiser` that is built.
        context: `[B, C, d]`, float32.
        channels: `[B, C, d]`, float32.
        live: `[B, C]`, bool.
    """

    def __init__(
        self, denoiser: Denoiser, context: tf.Tensor, channels: tf.Tensor, live: tf.Tensor
    ) -> None:
        self._denoiser = denoiser
        self._count, self._width = denoiser.channel_num, denoiser.width
        self._context = context
        self._context_projections = self._project(context)
        self._key_mask = denoiser.key_mask(live)
        condition = tf.reshape(channels, [-1, self._width])
        *conditions, last = [block.condition_projection(condition) for block in denoiser.blocks]
        # One for each token of a row, but for the single token of the last block.
        self._conditions = [*(tf.repeat(x, self._count, axis=0) for x in conditions), last]

    def embed_time(self, timestep: int | tf.Tensor) -> Time:
        """Timesteps `[...]`, int, embedded and projected."""
        timestep = tf.convert_to_tensor(timestep)
        embedding = self._denoiser.embed_time(tf.reshape(timestep, [-1]))
        projections = self._denoiser.blocks[0].attention.project(embedding)
        shape = tf.concat([tf.shape(timestep), [self._width]], axis=0)
        embedding, *projections = (
            tf.ensure_shape(tf.reshape(x, shape), [*timestep.shape, self._width])
            for x in (embedding, *projections)
        )
        return Time(embedding, tuple(projections))

    def __call__(self, noisy: tf.Tensor, time: Time, training: bool | None = None) -> tf.Tensor:
        """One pass of the network.

        Args:
            noisy: `[B, C, d]`, float32. Noisy interest x_t of every channel.
            time: from `embed_time` of timesteps `[B, C]` or `[]`.
            training: bool. Whether to apply dropout.

        Returns:
            `[B, C, d]`, float32.
        """
        shape = [self._context.shape[0], self._count, self._width]
        noisy = checks.tensor("noisy", noisy, "[B, C, d]", shape)
        blocks, conditions = self._denoiser.blocks, self._conditions
        tokens = self._tokens(noisy, self._context, time.embedding)
        projections = map(
            self._tokens, self._project(noisy), self._context_projections, time.projections
        )
        for block, condition, following in zip(
            blocks[:-1], conditions[:-1], blocks[1:], strict=True
        ):
            attended = self._attend(block, *projections, queries=self._count)
            tokens = block.update(tokens, attended, condition, training)
            projections = following.attention.project(tokens)
        query, keys, values = projections
        attended = self._attend(blocks[-1], self._own_token(query), keys, values, queries=1)
        tokens = blocks[-1].update(self._own_token(tokens), attended, conditions[-1], training)
        return tf.reshape(tokens, [-1, self._count, self._width])

    def _attend(
        self,
        block: TransformerBlock,
        query: tf.Tensor,
        keys: tf.Tensor,
        values: tf.Tensor,
        queries: int,
    ) -> tf.Tensor:
        """Attention of some queries a row to its C tokens; tokens `[rows · tokens, d]`."""
        attended = attend_to_few(
            tf.reshape(query, [-1, queries, self._width]),
            tf.reshape(keys, [-1, self._count, self._width]),
            tf.reshape(values, [-1, self._count, self._width]),
            self._key_mask,
            block.num_heads,
        )
        return block.attention.output_projection(tf.reshape(attended, [-1, self._width]))

    def _project(self, tokens: tf.Tensor) -> Projections:
        """Tokens `[B, C, d]` as query, key and value of the first block."""
        attention = self._denoiser.blocks[0].attention
        projections = attention.project(tf.reshape(tokens, [-1, self._width]))
        return tuple(tf.reshape(x, [-1, self._count, self._width]) for x in projections)

    def _tokens(self, noisy: tf.Tensor, context: tf.Tensor, time: tf.Tensor) -> tf.Tensor:
        """Rows of tokens, `[B·C·C, d]`: the context with the noisy one in its channel, and time."""
        time = time[..., tf.newaxis, :]
        is_noisy = tf.eye(self._count, dtype=tf.bool)[:, :, tf.newaxis]
        tokens = tf.where(is_noisy, noisy[:, :, tf.newaxis] + time, context[:, tf.newaxis] + time)
        return tf.reshape(tokens, [-1, self._width])

    def _own_token(self, tokens: tf.Tensor) -> tf.Tensor:
        """Token i of row i, `[B·C, d]`, from all tokens `[B·C·C, d]`."""
        count, width = self._count, self._width
        rows = tf.reshape(tokens, [-1, count * count, width])
        return tf.reshape(rows[:, :: count + 1], [-1, width])


def attend_to_few(
    query: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, key_mask: tf.Tensor, num_heads: int
) -> tf.Tensor:
    """`attend` for a handful of keys: elementwise products and one matrix product for all heads.

    With four keys of width 24, matrix products of one head of one sample are too small to pay for
    their calls. Here memory grows with `N · Q · K · d`.

    Args:
        query: `[N, Q, d]`, float32, with static Q.
        keys: `[N, K, d]`, float32, with static K.
        values: `[N, K, d]`, float32.
        key_mask: `[N, K]`, bool. Which keys may be attended to; one at least for every n.
        num_heads: int. Number of heads; it divides d.

    Returns:
        `[N, Q, d]`, float32.
    """
    (_, queries, width), count = query.shape, keys.shape[1]
    # Which head an entry of a token belongs to: sums over heads become a matrix product.
    heads = np.repeat(np.eye(num_heads, dtype=np.float32), width // num_heads, axis=0)
    products = tf.reshape(query[:, :, tf.newaxis] * keys[:, tf.newaxis], [-1, width])
    logits = tf.matmul(products, heads * (width // num_heads) ** -0.5)
    logits = tf.reshape(logits, [-1, queries, count, num_heads])
    logits = tf.where(key_mask[:, tf.newaxis, :, tf.newaxis], logits, logits.dtype.min)
    highest = tf.stop_gradient(tf.reduce_max(logits, axis=2, keepdims=True))
    weights = tf.exp(logits - highest)
    weights /= tf.reduce_sum(weights, axis=2, keepdims=True)
    weights = tf.matmul(tf.reshape(weights, [-1, num_heads]), heads, transpose_b=True)
    weights = tf.reshape(weights, [-1, queries, count, width])
    return tf.reduce_sum(weights * values[:, tf.newaxis], axis=2)
