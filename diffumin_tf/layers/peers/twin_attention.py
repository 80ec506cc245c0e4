"""The attention of TWIN: search and attention by one and the same scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks
from diffumin_tf.layers.top_places import top_places


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class TwinAttention(tf.keras.layers.Layer):
    """Target attention over the k behaviours that have the highest scores in that attention.

    ```
    α      = (K_h W_h)(q W_q)ᵀ / √(d/heads) + (K_c W_c) β        (of every head)
    head   = Softmax(the k highest α) K W_v
    result = [head_1, …, head_heads] W_o
    ```

    K_h are the fields of a behaviour that the candidate has too, its inherent features. Each of the
    others, the cross features K_c, is compressed by W_c to a single number, and β weighs these.
    Each head keeps k behaviours of its own, so that both stages agree head by head.

    Args:
        num_heads: int. Heads; they divide d.
        places: int. Behaviours k that a head keeps at most.
        field_dim: int. Width of one field e.
        inherent: ints. Fields of a behaviour that are inherent features, one at least.

    Call arguments:
        history: `[B, L, d]`, float32. The behaviours K, d a multiple of e.
        candidate: `[B, h]`, float32. The inherent features q of the candidate, in the order of
            `inherent`; h is their width.
        mask: `[B, L]`, bool, or None. Which behaviours are valid; None means all.

    Returns:
        `[B, d]`, float32, zero where nothing is valid.

    Raises:
        ValueError: if an argument is out of range or an input has the wrong shape.

    Example:

    ```python
    attention = TwinAttention(num_heads=2, places=5, field_dim=4, inherent=[0, 2])
    interest = attention(tf.random.normal([3, 50, 12]), tf.random.normal([3, 8]))  # [3, 12]
    ```

    Source: Chang et al., TWIN: TWo-stage Interest Network for Lifelong User Behavior Modeling in
    CTR Prediction at Kuaishou (KDD '23).
    """

    def __init__(
        self, num_heads: int, places: int, field_dim: int, inherent: Sequence[int], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = checks.positive_int("num_heads", num_heads)
        self.places = checks.positive_int("places", places)
        self.field_dim = checks.positive_int("field_dim", field_dim)
        self.inherent = [checks.integer("inherent", field) for field in inherent]
        if not self.inherent or len(set(self.inherent)) < len(self.inherent):
            raise ValueError(
                "`inherent` must hold one field at least and none twice, "
                f"received {list(self.inherent)}."
            )

    def build(self, input_shape: tf.TensorShape) -> None:
        (self.width,) = checks.static_sizes("history", input_shape, "[B, L, d]", known=1)
        fields = self._fields()
        self.cross = [field for field in range(fields) if field not in self.inherent]
        glorot = tf.keras.initializers.GlorotUniform
        projected = [len(self.inherent) * self.field_dim, self.width]
        self.query_kernel = self.add_weight("query", shape=projected, initializer=glorot())
        self.key_kernel = self.add_weight("key", shape=projected, initializer=glorot())
        self.value_kernel = self.add_weight(
            "value", shape=[self.width, self.width], initializer=glorot()
        )
        self.output_kernel = self.add_weight(
            "output", shape=[self.width, self.width], initializer=glorot()
        )
        if self.cross:
            shape = [self.num_heads, len(self.cross), self.field_dim]
            self.compression = self.add_weight("compression", shape=shape, initializer=glorot())
            self.importance = self.add_weight("importance", shape=shape[:2], initializer="ones")
        super().build(input_shape)

    def call(
        self, history: tf.Tensor, candidate: tf.Tensor, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        history = checks.tensor("history", history, "[B, L, d]", [None, None, self.width])
        if mask is None:
            mask = tf.ones(tf.shape(history)[:2], tf.bool)
        mask = checks.tensor("mask", mask, "[B, L]", history.shape[:2], tf.bool)
        if not history.shape[1]:  # an empty history is one masked place
            missing = tf.maximum(1 - tf.shape(history)[1], 0)
            history = tf.pad(history, [[0, 0], [0, missing], [0, 0]])
            mask = tf.pad(mask, [[0, 0], [0, missing]])
        directions = self.directions_of(candidate)
        places, there = self.choose(history, mask, directions)
        return self.attend(tf.gather(history, places, batch_dims=1), there, directions)

    def directions_of(self, candidate: tf.Tensor) -> tf.Tensor:
        """Vectors `[B, heads, d]` whose products with a behaviour are its scores α, float32.

        α is linear in the behaviour, so that no behaviour needs to be projected. Like `choose` and
        `attend`, a part of `call` that needs a layer that is built.
        """
        heads, width = self.num_heads, self._head_width
        shape = [None, self.query_kernel.shape[0]]
        candidate = checks.tensor("candidate", candidate, "[B, h]", shape)
        queries = tf.reshape(tf.matmul(candidate, self.query_kernel), [-1, heads, width])
        key_kernel = tf.reshape(self.key_kernel, [-1, heads, width])
        inherent = width**-0.5 * tf.einsum("bhs,ihs->bhi", queries, key_kernel)
        by_field = dict(zip(self.inherent, tf.split(inherent, len(self.inherent), 2), strict=True))
        if self.cross:
            biases = self.compression * self.importance[:, :, tf.newaxis]
            shape = [tf.shape(candidate)[0], heads, self.field_dim]
            for place, field in enumerate(self.cross):
                by_field[field] = tf.broadcast_to(biases[:, place], shape)
        return tf.concat([by_field[field] for field in range(len(by_field))], axis=2)

    def choose(
        self, history: tf.Tensor, valid: tf.Tensor, directions: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The first stage: the k behaviours of the highest scores in every head. Has no gradient.

        Args:
            history: `[B, L, d]`, float32, or `[1, L, d]`, one of all samples.
            valid: `[B, L]` or `[1, L]`, bool.
            directions: `[B, heads, d]`, float32.

        Returns:
            Places in the history `[B, heads, k]`, int32, 0 where there is none; and whether there
            is one, `[B, heads, k]`, bool.
        """
        scores = tf.matmul(directions, history, transpose_b=True)
        return top_places(scores, valid[:, tf.newaxis], self.places)

    def attend(self, picked: tf.Tensor, there: tf.Tensor, directions: tf.Tensor) -> tf.Tensor:
        """The second stage: attention over the behaviours in the places that `choose` gave.

        Args:
            picked: `[B, heads, k, d]`, float32.
            there: `[B, heads, k]`, bool.
            directions: `[B, heads, d]`, float32.

        Returns:
            `[B, d]`, float32.
        """
        scores = tf.linalg.matvec(picked, directions)
        weights = tf.nn.softmax(tf.where(there, scores, scores.dtype.min))
        weights = tf.where(there, weights, 0.0)
        pooled = tf.squeeze(tf.matmul(weights[:, :, tf.newaxis], picked), axis=2)
        value_kernel = tf.reshape(self.value_kernel, [self.width, self.num_heads, self._head_width])
        heads = tf.einsum("bhd,dhs->bhs", pooled, value_kernel)
        return tf.matmul(tf.reshape(heads, [-1, self.width]), self.output_kernel)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "places": self.places,
            "field_dim": self.field_dim,
            "inherent": list(self.inherent),
        }

    def _fields(self) -> int:
        """Fields of a behaviour."""
        if self.width % self.num_heads:
            raise ValueError(
                f"`num_heads` must divide the width {self.width} of a behaviour, "
                f"received {self.num_heads}."
            )
        fields = self.width // self.field_dim
        if self.width % self.field_dim or not all(0 <= f < fields for f in self.inherent):
            raise ValueError(
                f"`inherent` must name fields of width {self.field_dim} of a behaviour of width "
                f"{self.width}, received {list(self.inherent)}."
            )
        return fields

    @property
    def _head_width(self) -> int:
        return self.width // self.num_heads
