"""The network of the diffusion process: it reads a noisy interest in the context of the others."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import tensorflow as tf

from diffumin_tf.layers import checks
from diffumin_tf.layers.attention import TransformerBlock, attend_to_few

# Longest period of the sinusoids (Vaswani et al., 2017), in timesteps.
_LONGEST_PERIOD = 10_000.0
# Hidden width of the time MLP, in multiples of d (Ho et al., 2020).
_TIME_HIDDEN_FACTOR = 4


class Prepared(NamedTuple):
    """What a `Denoiser` computes once for all timesteps.

    Attributes:
        context: `[B, C, d]`, float32. Clean interests.
        projected: three of `[B, C, d]`, float32. The context as query, key and value of the first
            block.
        shifts: `[B·C·C, d]` a block and `[B·C, d]` for the last, float32. What cross-attention
            adds to its tokens.
        key_mask: `[B·C, C]`, bool. Which tokens may be attended to.
    """

    context: tf.Tensor
    projected: tuple[tf.Tensor, tf.Tensor, tf.Tensor]
    shifts: tuple[tf.Tensor, ...]
    key_mask: tf.Tensor


class Time(NamedTuple):
    """Timesteps as a `Denoiser` sees them.

    Attributes:
        embedding: `[..., d]`, float32.
        projected: three of `[..., d]`, float32. It as query, key and value of the first block.
    """

    embedding: tf.Tensor
    projected: tuple[tf.Tensor, tf.Tensor, tf.Tensor]


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class Denoiser(tf.keras.layers.Layer):
    """Predicts a denoised interest per channel from the noisy one and the other channels.

    ```
    tokens_i = [context_1, …, noisy_i, …, context_C] + MLP(sinusoid(t_i))
    output_i = token i of n_layers blocks of
               self-attention, cross-attention to the channel o_i, feed-forward
    ```

    The C problems of a sample are C rows of one batch. Dead channels are no keys, except for their
    own row.

    Args:
        n_layers: int. Number of blocks.
        num_heads: int. Attention heads; it divides d.
        dff_factor: int. Hidden width of the feed-forward part, in multiples of d.
        dropout_rate: float in [0, 1). Dropout before every residual.
        seed: int. Seed of dropout.

    Call arguments:
        noisy: `[B, C, d]`, float32. Noisy interest x_t of every channel.
        context: `[B, C, d]`, float32. Clean interests, as the other channels see them.
        channels: `[B, C, d]`, float32. Orthonormal channels o_i.
        timestep: `[B, C]` or scalar, int. Timestep of `noisy`.
        live: `[B, C]`, bool, or None. Which channels hold an interest; None means all.
        training: bool. Whether to apply dropout.

    Returns:
        `[B, C, d]`, float32.

    Raises:
        ValueError: if an argument is out of range or an input has the wrong shape.

    Example:

    ```python
    denoiser = Denoiser(n_layers=2, num_heads=2, dff_factor=3)
    noisy, context, channels = (tf.random.normal([4, 3, 24]) for _ in range(3))
    denoised = denoiser(noisy, context, channels, timestep=7)  # [4, 3, 24]
    ```

    Source: the DiffuMIN paper (RecSys '25), diffusion multi-interest generator.
    """

    def __init__(
        self,
        n_layers: int,
        num_heads: int,
        dff_factor: int,
        dropout_rate: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.n_layers = checks.positive_int("n_layers", n_layers)
        self.num_heads = checks.positive_int("num_heads", num_heads)
        self.dff_factor = checks.positive_int("dff_factor", dff_factor)
        self.dropout_rate = checks.rate("dropout_rate", dropout_rate)
        self.seed = checks.integer("seed", seed)
        self.blocks = [
            TransformerBlock(
                self.num_heads,
                self.dff_factor,
                self.dropout_rate,
                conditioned=True,
                seed=self.seed + layer,
                name=f"block_{layer}",
            )
            for layer in range(self.n_layers)
        ]

    def build(self, input_shape: tf.TensorShape) -> None:
        sizes = checks.static_sizes("noisy", input_shape, "[B, C, d]", known=2)
        self.channel_num, self.width = sizes
        time_width = _TIME_HIDDEN_FACTOR * self.width
        self.time_hidden = tf.keras.layers.Dense(time_width, "swish", name="time_hidden")
        self.time_hidden.build([None, self.width])
        self.time_output = tf.keras.layers.Dense(self.width, name="time_output")
        self.time_output.build([None, time_width])
        for block in self.blocks:
            block.build([None, None, self.width])
        super().build(input_shape)

    def call(
        self,
        noisy: tf.Tensor,
        context: tf.Tensor,
        channels: tf.Tensor,
        timestep: int | tf.Tensor,
        live: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        shape = [noisy.shape[0], self.channel_num, self.width]
        context = checks.tensor("context", context, "[B, C, d]", shape)
        prepared = self.prepare(context, channels, live)
        if tf.convert_to_tensor(timestep).shape.rank:
            shape = [noisy.shape[0], self.channel_num]
            timestep = checks.tensor("timestep", timestep, "[B, C] or []", shape, tf.int32)
        return self.step(noisy, prepared, self.embed_time(timestep), training)

    def prepare(
        self, context: tf.Tensor, channels: tf.Tensor, live: tf.Tensor | None = None
    ) -> Prepared:
        """What does not change between timesteps; arguments as in `call`."""
        batch, count, width = context.shape[0], self.channel_num, self.width
        context = checks.tensor("context", context, "[B, C, d]", [batch, count, width])
        channels = checks.tensor("channels", channels, "[B, C, d]", [batch, count, width])
        if live is None:
            live = tf.ones(tf.shape(context)[:2], tf.bool)
        live = checks.tensor("live", live, "[B, C]", [batch, count], tf.bool)
        own = tf.eye(count, dtype=tf.bool)
        condition = tf.reshape(channels, [-1, width])
        shifts = [block.condition_projection(condition) for block in self.blocks]
        shifts[:-1] = [tf.repeat(shift, count, axis=0) for shift in shifts[:-1]]
        return Prepared(
            context=context,
            projected=self._project(context),
            shifts=tuple(shifts),
            key_mask=tf.reshape(live[:, tf.newaxis] | own, [-1, count]),
        )

    def embed_time(self, timestep: int | tf.Tensor) -> Time:
        """MLP(sinusoid(t)) and its projections by the first block.

        Args:
            timestep: `[...]`, int.

        Returns:
            `Time` of tensors `[..., d]`, float32.
        """
        timestep = tf.convert_to_tensor(timestep)
        flat = sinusoid(tf.reshape(timestep, [-1]), self.width)
        embedding = self.time_output(self.time_hidden(flat))
        shape = tf.concat([tf.shape(timestep), [self.width]], axis=0)
        embedding, *projected = (
            tf.ensure_shape(tf.reshape(x, shape), [*timestep.shape, self.width])
            for x in (embedding, *self.blocks[0].attention.project(embedding))
        )
        return Time(embedding, tuple(projected))

    def step(
        self,
        noisy: tf.Tensor,
        prepared: Prepared,
        time: Time,
        training: bool | None = None,
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
        shape = [prepared.context.shape[0], self.channel_num, self.width]
        noisy = checks.tensor("noisy", noisy, "[B, C, d]", shape)
        tokens = self._place(noisy, prepared.context, time.embedding)
        # Projections are linear, so that those of the context and of the time are reused.
        query, keys, values = map(
            self._place, self._project(noisy), prepared.projected, time.projected
        )
        count, width = self.channel_num, self.width
        for block, shift in zip(self.blocks, prepared.shifts, strict=True):
            if block is not self.blocks[0]:
                query, keys, values = block.attention.project(tokens)
            if block is self.blocks[-1]:
                # Nobody reads the other tokens of the last block, so it answers a single query.
                query, tokens = self._own_token(query), self._own_token(tokens)
            queries = 1 if block is self.blocks[-1] else count
            attended = attend_to_few(
                tf.reshape(query, [-1, queries, width]),
                tf.reshape(keys, [-1, count, width]),
                tf.reshape(values, [-1, count, width]),
                prepared.key_mask,
                self.num_heads,
            )
            attended = block.attention.output_projection(tf.reshape(attended, [-1, width]))
            tokens = block.update(tokens, attended, shift, training)
        return tf.reshape(tokens, [-1, count, width])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "n_layers": self.n_layers,
            "num_heads": self.num_heads,
            "dff_factor": self.dff_factor,
            "dropout_rate": self.dropout_rate,
            "seed": self.seed,
        }

    def _project(self, tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Tokens `[B, C, d]` as query, key and value of the first block."""
        count, width = self.channel_num, self.width
        projected = self.blocks[0].attention.project(tf.reshape(tokens, [-1, width]))
        return tuple(tf.reshape(x, [-1, count, width]) for x in projected)

    def _place(self, own: tf.Tensor, shared: tf.Tensor, time: tf.Tensor) -> tf.Tensor:
        """Tokens `[B·C·C, d]`: row i is `shared` with `own_i` in place i, at the time of row i."""
        time = time[..., tf.newaxis, :]
        diagonal = tf.eye(self.channel_num, dtype=tf.bool)[:, :, tf.newaxis]
        tokens = tf.where(diagonal, own[:, :, tf.newaxis] + time, shared[:, tf.newaxis] + time)
        return tf.reshape(tokens, [-1, self.width])

    def _own_token(self, tokens: tf.Tensor) -> tf.Tensor:
        """Token i of row i, `[B·C, d]`, from all tokens `[B·C·C, d]`."""
        count, width = self.channel_num, self.width
        rows = tf.reshape(tokens, [-1, count * count, width])
        return tf.reshape(rows[:, :: count + 1], [-1, width])


def sinusoid(timestep: tf.Tensor, width: int) -> tf.Tensor:
    """Sine and cosine of the timestep at geometrically spaced frequencies.

    ```
    [sin(t ω_0), …, sin(t ω_{h−1}), cos(t ω_0), …, cos(t ω_{h−1})],   ω_i = 10000^(−i/h),  h = ⌊d/2⌋
    ```

    Args:
        timestep: `[...]`, int.
        width: int. Number of entries d; if it is odd, the last one is zero.

    Returns:
        `[..., d]`, float32.
    """
    half = width // 2
    exponents = tf.range(half, dtype=tf.float32) / max(half, 1)
    frequencies = tf.exp(-math.log(_LONGEST_PERIOD) * exponents)
    angles = tf.cast(timestep, tf.float32)[..., tf.newaxis] * frequencies
    waves = tf.concat([tf.sin(angles), tf.cos(angles)], axis=-1)
    padding = tf.zeros_like(tf.cast(timestep, tf.float32)[..., tf.newaxis])
    return waves if width % 2 == 0 else tf.concat([waves, padding], axis=-1)
