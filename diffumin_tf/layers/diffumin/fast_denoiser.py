"""The denoiser at many timesteps of one context: what `Denoiser.call` returns, in less time."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from diffumin_tf.layers import checks
from diffumin_tf.layers.attention import MASKED
from diffumin_tf.layers.diffumin.denoiser import Denoiser
from diffumin_tf.layers.diffumin.folded_block import FoldedBlock


class Time(NamedTuple):
    """Timesteps as `FastDenoiser` takes them.

    Attributes:
        timestep: `[...]`, int.
        added: `[..., 4d]`, float32. What time adds to the projections of the first block.
    """

    timestep: tf.Tensor
    added: tf.Tensor


class Prepared(NamedTuple):
    """What does not change between timesteps; R = B·C rows of C slots.

    Attributes:
        context, channels, live: as `FastDenoiser.prepare` got them.
        others: `[C − 1, R, 4d]`, float32. Projections of the other channels by the first block.
        seen: `[C, R · heads]`, float32. What is added to the logits of every slot.
        conditions: of every block but the last `[C · R, d]`, of the last `[R, d]`.
    """

    context: tf.Tensor
    channels: tf.Tensor
    live: tf.Tensor
    others: tf.Tensor
    seen: tf.Tensor
    conditions: list[tf.Tensor]


class FastDenoiser:
    """`denoiser(noisy, context, channels, timestep, live)` for one context and many timesteps.

    Without dropout the results and all gradients are those of the plain call, to rounding. It is
    faster because

    * projections are linear: those of the first block are sums of those of the noisy interest, of
      the context and of the time, of which the last two are computed once;
    * only one token of a row is read in the end: the last block answers a single query;
    * norms are folded into kernels (`FoldedBlock`);
    * attention to so few keys is cheaper without a matrix product a head (`attend_to_few`);
    * the C tokens of a row are C slots and the first axis of every tensor, so that what is added
      or summed over tokens lies side by side in memory. Slot s of the row of channel i holds
      channel i + s, modulo C: the noisy one is slot 0.

    With dropout, in training, it calls the plain one.

    Args:
        denoiser: a `Denoiser` that is built.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser
        self._count, self._width = denoiser.channel_num, denoiser.width
        self._blocks: list[FoldedBlock] = []
        for block in denoiser.blocks:
            norm = self._blocks[-1].norm if self._blocks else None
            self._blocks.append(FoldedBlock(block, norm))
        self._first = self._blocks[0].asking.beside(self._blocks[0].answering).kernel

    def prepare(self, context: tf.Tensor, channels: tf.Tensor, live: tf.Tensor) -> Prepared:
        """What is computed once for a context.

        Args:
            context: `[B, C, d]`, float32.
            channels: `[B, C, d]`, float32.
            live: `[B, C]`, bool.
        """
        count, width = self._count, self._width
        projected = tf.matmul(tf.reshape(context, [-1, width]), self._first)
        projected = tf.reshape(projected, [-1, count, 4 * width])
        others = [tf.roll(projected, -slot, axis=1) for slot in range(1, count)]
        others = tf.reshape(tf.stack(others), [count - 1, -1, 4 * width]) if others else None
        unseen = tf.where(live, 0.0, MASKED)  # numbers, since no GPU rolls bools
        slots = [tf.roll(unseen, -slot, axis=1) for slot in range(1, count)]
        seen = tf.stack([tf.zeros_like(unseen), *slots])
        heads = self._denoiser.num_heads
        seen = tf.reshape(tf.repeat(seen[..., tf.newaxis], heads, axis=-1), [count, -1])
        flat = tf.reshape(channels, [-1, width])
        *conditions, last = [block.condition(flat) for block in self._blocks]
        conditions = [tf.tile(condition, [count, 1]) for condition in conditions]
        return Prepared(context, channels, live, others, seen, [*conditions, last])

    def embed_time(self, timestep: int | tf.Tensor) -> Time:
        """Timesteps `[...]`, int, embedded and projected."""
        timestep = tf.convert_to_tensor(timestep)
        embedding = self._denoiser.embed_time(tf.reshape(timestep, [-1]))
        added = tf.matmul(embedding, self._first)
        shape = tf.concat([tf.shape(timestep), [4 * self._width]], axis=0)
        return Time(timestep, tf.reshape(added, shape))

    def __call__(
        self, noisy: tf.Tensor, prepared: Prepared, time: Time, training: bool | None = None
    ) -> tf.Tensor:
        """One pass of the network.

        Args:
            noisy: `[B, C, d]`, float32. Noisy interest x_t of every channel.
            prepared: from `prepare`.
            time: from `embed_time` of timesteps `[B, C]` or `[]`.
            training: bool. Whether to apply dropout.

        Returns:
            `[B, C, d]`, float32.
        """
        noisy = checks.tensor("noisy", noisy, "[B, C, d]", prepared.context.shape)
        if training and self._denoiser.dropout_rate:
            context, channels, live = prepared[:3]
            return self._denoiser(noisy, context, channels, time.timestep, live, training)
        parts = tf.split(self._projected(noisy, prepared, time), 4, axis=1)
        *blocks, last = self._blocks
        *conditions, last_condition = prepared.conditions
        for block, condition, following in zip(blocks, conditions, self._blocks[1:], strict=True):
            tokens = self._pass(block, parts, prepared.seen, condition, self._count)
            asking = self._own(tokens) if following is last else tokens
            parts = [
                *tf.split(following.asking(asking), 2, axis=1),
                *tf.split(following.answering(tokens), 2, axis=1),
            ]
        if not blocks:
            parts[:2] = map(self._own, parts[:2])
        tokens = self._pass(last, parts, prepared.seen, last_condition, queries=1)
        tokens = tokens * last.norm.gamma + last.norm.beta
        return tf.reshape(tokens, [-1, self._count, self._width])

    def _projected(self, noisy: tf.Tensor, prepared: Prepared, time: Time) -> tf.Tensor:
        """All slots as the first block projects them, `[C · R, 4d]`."""
        own = tf.matmul(tf.reshape(noisy, [-1, self._width]), self._first)[tf.newaxis]
        slots = own if self._count == 1 else tf.concat([own, prepared.others], axis=0)
        added = tf.reshape(time.added, [-1, 4 * self._width])  # one for each row, or for all
        return tf.reshape(slots + added, [-1, 4 * self._width])

    def _pass(
        self,
        block: FoldedBlock,
        parts: Sequence[tf.Tensor],
        seen: tf.Tensor,
        condition: tf.Tensor,
        queries: int,
    ) -> tf.Tensor:
        """A block for the first of the slots, `[queries · R, d]`."""
        tokens, *projections = parts
        query, keys, values = (
            tf.reshape(x, [slots, -1, self._width])
            for x, slots in zip(projections, (queries, self._count, self._count), strict=True)
        )
        attended = attend_to_few(query, keys, values, seen, self._denoiser.num_heads)
        return block.update(tokens, tf.reshape(attended, [-1, self._width]), condition)

    def _own(self, tokens: tf.Tensor) -> tf.Tensor:
        """The first slot `[R, m]` of all `[C · R, m]`."""
        return tf.reshape(tokens, [self._count, -1, tokens.shape[1]])[0]


def attend_to_few(
    query: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, seen: tf.Tensor, num_heads: int
) -> tf.Tensor:
    """Attention to a handful of keys: elementwise products and one matrix product for all heads.

    With four keys of width 24, matrix products of one head of one sample are too small to pay for
    their calls. Here memory grows with `Q · K · R · d`. Each of R rows attends to its own keys.

    Args:
        query: `[Q, R, d]`, float32, with static Q.
        keys: `[K, R, d]`, float32, with static K.
        values: `[K, R, d]`, float32.
        seen: `[K, R · heads]`, float32. What is added to logits: 0, or `MASKED` for a key that is
            masked; one key of every row at least is not.
        num_heads: int. Number of heads; it divides d.

    Returns:
        `[Q, R, d]`, float32.
    """
    (queries, _, width), count = query.shape, keys.shape[0]
    # Which head an entry of a token belongs to: sums over heads become a matrix product.
    heads = np.repeat(np.eye(num_heads, dtype=np.float32), width // num_heads, axis=0)
    products = tf.reshape(query, [queries, 1, -1]) * tf.reshape(keys, [count, -1])
    logits = tf.matmul(tf.reshape(products, [-1, width]), heads * (width // num_heads) ** -0.5)
    logits = tf.reshape(logits, [queries, count, -1]) + seen
    highest = tf.stop_gradient(tf.reduce_max(logits, axis=1, keepdims=True))
    weights = tf.exp(logits - highest)
    weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
    weights = tf.matmul(tf.reshape(weights, [-1, num_heads]), heads, transpose_b=True)
    weighted = tf.reshape(weights, [queries, count, -1]) * tf.reshape(values, [count, -1])
    return tf.reshape(tf.reduce_sum(weighted, axis=1), [queries, -1, width])
