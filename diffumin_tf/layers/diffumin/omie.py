"""Orthogonal multi-interest extractor (OMIE): a long history becomes C interest vectors."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from diffumin_tf.layers import checks
from diffumin_tf.layers.diffumin.field_aligned_channels import FieldAlignedChannels
from diffumin_tf.layers.diffumin.gram_schmidt import orthonormalise
from diffumin_tf.layers.top_indices import top_indices, with_one_behaviour
from diffumin_tf.layers.unit_vectors import unit_vectors

CHANNEL_INITS = ("field_aligned", "random")
AGGREGATIONS = ("mean", "sum", "softmax")

# Far below the scale of trained embeddings, so that it only speaks for a candidate that is zero.
_BIAS_DEVIATION = 1e-4
# Keeps 16.1 % of 1000 at 161 although 16.1 * 1000 / 100 is a little above 161 in floating point.
_CEIL_SLACK = 1e-6


class Interests(NamedTuple):
    """What `OrthogonalMultiInterestExtractor` returns.

    Attributes:
        interests: `[B, C, d]`, float32. The extracted interests r, zero in a channel without any.
        channels: `[B, C, d]`, float32. The orthonormal channels O.
        live: `[B, C]`, bool. Whether the channel keeps a behaviour.
        indices: `[B, C, k]`, int64. Where in the history the k best behaviours of a channel are.
        kept: `[B, C, k]`, bool. Which of these the channel keeps: those that are routed to it.
    """

    interests: tf.Tensor
    channels: tf.Tensor
    live: tf.Tensor
    indices: tf.Tensor
    kept: tf.Tensor


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class OrthogonalMultiInterestExtractor(tf.keras.layers.Layer):
    """Extracts one interest per orthogonal channel of the candidate from a long history.

    ```
    O      = GramSchmidt(reshape(Dense(candidate), [C, d]))
    A      = E Oᵀ
    kept   = valid ∧ (i = argmax_c A_jc) ∧ (A_ji among the k best of channel i)
    r_i    = Σ_j kept_ji A_ji E_j / Σ_j valid_j
    ```

    with `k = ⌈top_p · seq_len / 100⌉`, at least 1. Gram–Schmidt with a positive diagonal makes O a
    continuous function of the candidate. Routing and filtering are hard choices: a behaviour that
    is not kept receives a gradient of exactly zero. So `call` is three steps, of which only the
    last is differentiated with respect to behaviours. A model that looks up embeddings takes the
    steps itself, with a choice and a lookup of its own between the others: `channels_of`, the
    `top_k` highest inner products with every channel, `aggregate`.

    Args:
        channels: int. Number of interest channels C, at most the width d.
        top_p: float in (0, 100]. Percent of `seq_len` that a channel keeps at most.
        seq_len: int or None. Nominal length of a history in behaviours; it fixes k however far a
            batch is padded. None takes the length L of the input.
        field_dim: int or None. Width of one field of a behaviour. None takes d / C.
        channel_init: `"field_aligned"` (see `FieldAlignedChannels`) or `"random"`.
        init_noise: float. Standard deviation of the noise on a field-aligned start.
        aggregation: `"mean"` (over the valid history, so that the length of r_i tells which share
            of it the channel kept), `"sum"` (without the division) or `"softmax"` (weights that
            are the softmax of A over the kept behaviours).
        aligned_fields: fields that the first channels start from. None means 0, 1, 2, …
        orthogonal: bool. False leaves Gram–Schmidt out: channels are normalised one by one.
        routing: bool. False lets every channel keep its k best behaviours, whichever channel they
            score highest in.
        seed: int or None. Seed of the initial weights. None draws from TensorFlow's global seed.

    Call arguments:
        history: `[B, L, d]`, float32. Behaviour embeddings E, the most recent first.
        candidate: `[B, d]`, float32. Candidate embedding e_s.
        mask: `[B, L]`, bool, or None. Which behaviours are valid; None means all.

    Returns:
        `Interests`: interests and channels `[B, C, d]`, live `[B, C]`, indices and kept
        `[B, C, k]`.

    Raises:
        ValueError: if an argument is out of range, C exceeds d, the fields do not fit d, or an
            input has the wrong shape.

    Example:

    ```python
    extractor = OrthogonalMultiInterestExtractor(channels=3, top_p=20.0, seq_len=100)
    extracted = extractor(tf.random.normal([2, 100, 24]), tf.random.normal([2, 24]))
    extracted.interests  # [2, 3, 24]
    ```

    Source: the DiffuMIN paper (RecSys '25), orthogonal multi-interest extractor.
    """

    def __init__(
        self,
        channels: int,
        top_p: float = 20.0,
        seq_len: int | None = None,
        field_dim: int | None = None,
        channel_init: str = "field_aligned",
        init_noise: float = 0.01,
        aggregation: str = "mean",
        aligned_fields: Sequence[int] | None = None,
        orthogonal: bool = True,
        routing: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.channels = checks.positive_int("channels", channels)
        self.top_p = checks.number("top_p", top_p, "in (0, 100]", lambda x: 0 < x <= 100)
        self.seq_len = None if seq_len is None else checks.positive_int("seq_len", seq_len)
        self.field_dim = None if field_dim is None else checks.positive_int("field_dim", field_dim)
        self.channel_init = checks.choice("channel_init", channel_init, CHANNEL_INITS)
        self.init_noise = checks.not_negative("init_noise", init_noise)
        self.aggregation = checks.choice("aggregation", aggregation, AGGREGATIONS)
        self.aligned_fields = None if aligned_fields is None else list(aligned_fields)
        self.orthogonal = bool(orthogonal)
        self.routing = bool(routing)
        self.seed = None if seed is None else checks.integer("seed", seed)

    def build(self, input_shape: tf.TensorShape) -> None:
        (self.width,) = checks.static_sizes("history", input_shape, "[B, L, d]", known=1)
        if self.channels > self.width:
            raise ValueError(
                f"`channels` must be at most the width {self.width} of a behaviour, because no "
                f"more than {self.width} vectors can be orthogonal, received {self.channels}."
            )
        self.projection = tf.keras.layers.Dense(
            self.channels * self.width,
            kernel_initializer=self._kernel_initializer(),
            bias_initializer=tf.keras.initializers.RandomNormal(
                stddev=_BIAS_DEVIATION, seed=None if self.seed is None else self.seed + 1
            ),
            name="projection",
        )
        self.projection.build([None, self.width])
        super().build(input_shape)

    def call(
        self, history: tf.Tensor, candidate: tf.Tensor, mask: tf.Tensor | None = None
    ) -> Interests:
        history, candidate, valid = checks.history_inputs(history, candidate, mask, self.width)
        history, valid = with_one_behaviour(history, valid)
        channels = self.channels_of(candidate)
        indices, found = self.choose(history, valid, channels)
        chosen = tf.gather(history, indices, batch_dims=1)
        lengths = tf.reduce_sum(tf.cast(valid, tf.float32), axis=1)
        interests, kept = self.aggregate(chosen, found, channels, lengths)
        return Interests(interests, channels, tf.reduce_any(kept, axis=2), indices, kept)

    def channels_of(self, candidate: tf.Tensor) -> tf.Tensor:
        """The orthonormal channels O `[B, C, d]` of candidates `[B, d]`, float32."""
        vectors = tf.reshape(self.projection(candidate), [-1, self.channels, self.width])
        return orthonormalise(vectors) if self.orthogonal else unit_vectors(vectors)

    def choose(
        self, history: tf.Tensor, valid: tf.Tensor, channels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Filtering: the k best behaviours of every channel. Has no gradient.

        Args:
            history: `[B, L, d]`, float32, with L of at least 1.
            valid: `[B, L]`, bool.
            channels: `[B, C, d]`, float32.

        Returns:
            Indices in the history `[B, C, k]`, int64, and which of them are found, `[B, C, k]`,
            bool; see `top_indices`.
        """
        scores = tf.matmul(channels, history, transpose_b=True)
        length = history.shape[1] or tf.shape(history)[1]
        return top_indices(scores, valid[:, tf.newaxis], self.top_k(length))

    def top_k(self, length: int | tf.Tensor) -> int | tf.Tensor:
        """k, how many behaviours a channel keeps at most of histories of a length L.

        Args:
            length: L, behaviours. It does not count where `seq_len` is given.
        """
        nominal = self.seq_len or length
        if isinstance(nominal, int):
            return max(math.ceil(self.top_p * nominal / 100 - _CEIL_SLACK), 1)
        share = tf.cast(nominal, tf.float64) * (self.top_p / 100)
        return tf.maximum(tf.cast(tf.math.ceil(share - _CEIL_SLACK), tf.int32), 1)

    def aggregate(
        self, chosen: tf.Tensor, found: tf.Tensor, channels: tf.Tensor, lengths: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Routing and the interests: a channel leaves out what scores higher in another one.

        Args:
            chosen: `[B, C, k, d]`, float32. The behaviours at the indices from `choose`.
            found: `[B, C, k]`, bool, from `choose`.
            channels: `[B, C, d]`, float32.
            lengths: `[B]`, float32. Valid behaviours of the whole history.

        Returns:
            Interests `[B, C, d]`, float32, and which of `chosen` are kept, `[B, C, k]`, bool.
        """
        top_k = found.shape[2] or tf.shape(found)[2]
        flat = tf.reshape(chosen, [-1, self.channels * top_k, self.width])
        in_all = tf.matmul(flat, channels, transpose_b=True)
        in_all = tf.reshape(in_all, [-1, self.channels, top_k, self.channels])
        scores = tf.reduce_sum(in_all * tf.eye(self.channels)[:, tf.newaxis], axis=3)
        kept = found
        if self.routing:
            # In int64, since int32 is compared on the host even where there is a GPU.
            own = tf.range(self.channels, dtype=tf.int64)[:, tf.newaxis]
            kept &= tf.argmax(in_all, axis=3) == own
        if self.aggregation == "softmax":
            weights = tf.nn.softmax(tf.where(kept, scores, scores.dtype.min))
        else:
            weights = scores
        weights = tf.where(kept, weights, 0.0)
        interests = tf.squeeze(tf.matmul(weights[:, :, tf.newaxis], chosen), axis=2)
        interests = tf.ensure_shape(interests, channels.shape)
        if self.aggregation == "mean":
            interests /= tf.maximum(lengths, 1.0)[:, tf.newaxis, tf.newaxis]
        return interests, kept

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "channels": self.channels,
            "top_p": self.top_p,
            "seq_len": self.seq_len,
            "field_dim": self.field_dim,
            "channel_init": self.channel_init,
            "init_noise": self.init_noise,
            "aggregation": self.aggregation,
            "aligned_fields": self.aligned_fields,
            "orthogonal": self.orthogonal,
            "routing": self.routing,
            "seed": self.seed,
        }

    def _kernel_initializer(self) -> tf.keras.initializers.Initializer:
        if self.channel_init == "random":
            return tf.keras.initializers.RandomNormal(stddev=self.width**-0.5, seed=self.seed)
        if self.field_dim is None and self.width % self.channels:
            raise ValueError(
                f"`field_dim` must be given, or `channel_init` be 'random', when the width "
                f"{self.width} of a behaviour is no multiple of `channels`, received "
                f"field_dim=None with channels={self.channels}."
            )
        return FieldAlignedChannels(
            field_dim=self.field_dim or self.width // self.channels,
            channels=self.channels,
            noise=self.init_noise,
            seed=self.seed,
            aligned_fields=self.aligned_fields,
        )
