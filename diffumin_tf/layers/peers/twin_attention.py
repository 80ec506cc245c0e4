"""The attention of TWIN: search and attention by one and the same scores."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks
from diffumin_tf.layers.top_indices import top_indices, with_one_behaviour


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
        top_k: int. Behaviours k that a head keeps at most.
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
    attention = TwinAttention(num_heads=2, top_k=5, field_dim=4, inherent=[0, 2])
    interest = attention(tf.random.normal([3, 50, 12]), tf.random.normal([3, 8]))  # [3, 12]
    ```

    Source: Chang et al., TWIN: TWo-stage Interest Network for Lifelong User Behavior Modeling in
    CTR Prediction at Kuaishou (KDD '23).
    """

    def __init__(
        self, num_heads: int, top_k: int, field_dim: int, inherent: Sequence[int], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = checks.positive_int("num_heads", num_heads)
        self.top_k = checks.positive_int("top_k", top_k)
        self.field_dim = checks.positive_int("field_dim", field_dim)
        self.inherent = [checks.integer("inherent", field) for field in inherent]
        if not self.inherent or len(set(self.inherent)) < len(self.inherent):
            raise ValueError(
                f"`inherent` must hold one field at least and none twice, received {self.inherent}."
            )

    def build(self, input_shape: tf.TensorShape) -> None:
        (self.width,) = checks.static_sizes("history", input_shape, "[B, L, d]", known=1)
        checks.divisor("num_heads", self.num_heads, self.width, "a behaviour's width")
        checks.divisor("field_dim", self.field_dim, self.width, "a behaviour's width")
        fields = range(self.width // self.field_dim)
        if not set(self.inherent) <= set(fields):
            raise ValueError(
                f"`inherent` must name some of the {len(fields)} fields of a behaviour, "
                f"received {self.inherent}."
            )
        self.cross = [field for field in fields if field not in self.inherent]
        self.head_width = self.width // self.num_heads
        self.inherent_width = len(self.inherent) * self.field_dim
        self.query_kernel = self._kernel("query", self.inherent_width, self.width)
        self.key_kernel = self._kernel("key", self.inherent_width, self.width)
        self.value_kernel = self._kernel("value", self.width, self.width)
        self.output_kernel = self._kernel("output", self.width, self.width)
        if self.cross:
            shape = [self.num_heads, len(self.cross), self.field_dim]
            self.compression = self._kernel("compression", *shape)
            self.importance = self.add_weight("importance", shape=shape[:2], initializer="ones")
        super().build(input_shape)

    def call(
        self, history: tf.Tensor, candidate: tf.Tensor, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        history, candidate, mask = checks.history_inputs(
            history, candidate, mask, self.width, self.inherent_width
        )
        history, mask = with_one_behaviour(history, mask)
        directions = self.directions_of(candidate)
        indices, found = self.choose(history, mask, directions)
        return self.attend(tf.gather(history, indices, batch_dims=1), found, directions)

    def directions_of(self, candidate: tf.Tensor) -> tf.Tensor:
        """Vectors `[B, heads, d]` whose products with a behaviour are its scores α, float32.

        α is linear in the behaviour, so that no behaviour needs to be projected. Like `choose` and
        `attend`, a part of `call` that needs a layer that is built.
        """
        heads, width = self.num_heads, self.head_width
        shape = [None, self.inherent_width]
        candidate = checks.tensor("candidate", candidate, "[B, h]", shape)
        queries = tf.reshape(tf.matmul(candidate, self.query_kernel), [-1, heads, width])
        key_kernel = tf.reshape(self.key_kernel, [-1, heads, width])
        inherent = width**-0.5 * tf.einsum("bhs,ihs->bhi", queries, key_kernel)
        by_field = dict(zip(self.inherent, tf.split(inherent, len(self.inherent), 2), strict=True))
        if self.cross:
            biases = self.compression * self.importance[:, :, tf.newaxis]
            shape = [tf.shape(candidate)[0], heads, self.field_dim]
            for index, field in enumerate(self.cross):
                by_field[field] = tf.broadcast_to(biases[:, index], shape)
        return tf.concat([by_field[field] for field in range(len(by_field))], axis=2)

    def choose(
        self, history: tf.Tensor, valid: tf.Tensor, directions: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The first stage: the k behaviours of the highest scores in every head. Has no gradient.

        Args:
            history: `[B, L, d]`, float32.
            valid: `[B, L]`, bool.
            directions: `[B, heads, d]`, float32.

        Returns:
            Indices in the history `[B, heads, k]`, int64, 0 where fewer were found; and which
            were found, `[B, heads, k]`, bool.
        """
        scores = tf.matmul(directions, history, transpose_b=True)
        return top_indices(scores, valid[:, tf.newaxis], self.top_k)

    def attend(self, picked: tf.Tensor, found: tf.Tensor, directions: tf.Tensor) -> tf.Tensor:
        """The second stage: attention over the behaviours that `choose` found.

        Args:
            picked: `[B, heads, k, d]`, float32.
            found: `[B, heads, k]`, bool.
            directions: `[B, heads, d]`, float32.

        Returns:
            `[B, d]`, float32.
        """
        scores = tf.linalg.matvec(picked, directions)
        weights = tf.nn.softmax(tf.where(found, scores, scores.dtype.min))
        weights = tf.where(found, weights, 0.0)
        pooled = tf.squeeze(tf.matmul(weights[:, :, tf.newaxis], picked), axis=2)
        value_kernel = tf.reshape(self.value_kernel, [self.width, self.num_heads, self.head_width])
        heads = tf.einsum("bhd,dhs->bhs", pooled, value_kernel)
        return tf.matmul(tf.reshape(heads, [-1, self.width]), self.output_kernel)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "top_k": self.top_k,
            "field_dim": self.field_dim,
            "inherent": list(self.inherent),
        }

    def _kernel(self, name: str, *shape: int) -> tf.Variable:
        return self.add_weight(name, shape=shape, initializer="glorot_uniform")
