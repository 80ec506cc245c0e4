"""The network of the diffusion process: it reads a noisy interest in the context of the others."""

import math
from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks
from diffumin_tf.layers.attention import TransformerBlock

# Longest period of the sinusoids (Vaswani et al., 2017), in timesteps.
_LONGEST_PERIOD = 10_000.0
# Hidden width of the time MLP, in multiples of d (Ho et al., 2020).
_TIME_HIDDEN_FACTOR = 4


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class Denoiser(tf.keras.layers.Layer):
    """Predicts a denoised interest per channel from the noisy one and the other channels.

    ```
    tokens_i = [context_1, …, noisy_i, …, context_C] + MLP(sinusoid(t_i))
    output_i = token i of n_layers blocks of
               self-attention, cross-attention to the channel o_i, feed-forward
    ```

    The C problems of a sample are C rows of one batch. Dead channels are no keys, except in their
    own row. This is the plain form; `FastDenoiser` is the one that DMIG runs without dropout.

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
        count, width = self.channel_num, self.width
        noisy = checks.tensor("noisy", noisy, "[B, C, d]", [None, count, width])
        context = checks.tensor("context", context, "[B, C, d]", noisy.shape)
        channels = checks.tensor("channels", channels, "[B, C, d]", noisy.shape)
        if tf.convert_to_tensor(timestep).shape.rank:
            timestep = checks.tensor(
                "timestep", timestep, "[B, C] or []", noisy.shape[:2], tf.int32
            )
        if live is None:
            live = tf.ones(tf.shape(noisy)[:2], tf.bool)
        live = checks.tensor("live", live, "[B, C]", noisy.shape[:2], tf.bool)

        is_noisy = tf.eye(count, dtype=tf.bool)[:, :, tf.newaxis]
        tokens = tf.where(is_noisy, noisy[:, :, tf.newaxis], context[:, tf.newaxis])
        tokens += self.embed_time(timestep)[..., tf.newaxis, :]
        tokens = tf.reshape(tokens, [-1, count, width])
        key_mask, condition = self.key_mask(live), tf.reshape(channels, [-1, 1, width])
        for block in self.blocks:
            tokens = block(tokens, tokens, key_mask, condition, training=training)
        tokens = tf.reshape(tokens, [-1, count, count, width])
        return tf.reduce_sum(tf.where(is_noisy, tokens, 0.0), axis=2)

    def key_mask(self, live: tf.Tensor) -> tf.Tensor:
        """Which of the C tokens of a row may be attended to, `[B·C, C]`, bool."""
        is_noisy = tf.eye(self.channel_num, dtype=tf.bool)
        return tf.reshape(live[:, tf.newaxis] | is_noisy, [-1, self.channel_num])

    def embed_time(self, timestep: int | tf.Tensor) -> tf.Tensor:
        """MLP(sinusoid(t)) of timesteps `[...]`, int: `[..., d]`, float32."""
        timestep = tf.convert_to_tensor(timestep)
        waves = sinusoid(tf.reshape(timestep, [-1]), self.width)
        embedding = self.time_output(self.time_hidden(waves))
        shape = tf.concat([tf.shape(timestep), [self.width]], axis=0)
        return tf.ensure_shape(tf.reshape(embedding, shape), [*timestep.shape, self.width])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "n_layers": self.n_layers,
            "num_heads": self.num_heads,
            "dff_factor": self.dff_factor,
            "dropout_rate": self.dropout_rate,
            "seed": self.seed,
        }


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
