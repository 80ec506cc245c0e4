"""The general search unit of SIM with soft search: finds behaviours, and learns to by clicks."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks, replicas
from diffumin_tf.layers.batch_norm import BatchNorm
from diffumin_tf.layers.top_indices import top_indices
from diffumin_tf.layers.tower import Tower


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class SoftSearch(tf.keras.layers.Layer):
    """Searches by inner products of projected embeddings, which train on a click model of its own.

    ```
    r_j   = (W_b k_j) · (W_a q)
    logit = tower([q, BatchNorm(Σ_j r_j k_j)])
    loss  = mean binary cross-entropy of logit and label
    ```

    The search (`choose`) is a hard choice without gradient, so that nothing else trains W_a and
    W_b. Both start as the identity: the first searches are by the embeddings themselves.

    Args:
        top_k: int. Behaviours k that a search finds at most.
        units: ints. Widths of the hidden layers of the click model.
        activation: `"dice"`, `"prelu"` or `"relu"`, of the click model.
        momentum: float in [0, 1). Share of the moving averages that a training step keeps.
        loss_weight: float. Weight of the loss that `call` adds.

    Call arguments:
        history: `[B, L, d]`, float32. The behaviours k.
        candidate: `[B, d]`, float32. The candidate q.
        mask: `[B, L]`, bool, or None. Which behaviours are valid; None means all.
        label: `[B]`, float32, or None. Clicks; in training they make the loss.
        training: bool. Whether to use batch statistics and to add the loss.

    Returns:
        Click logits `[B]`, float32, for training only.

    Raises:
        ValueError: if an argument is out of range or an input has the wrong shape.

    Example:

    ```python
    search = SoftSearch(top_k=5)
    candidate, history = tf.random.normal([4, 8]), tf.random.normal([4, 50, 8])
    search(history, candidate, label=tf.ones([4]), training=True)
    indices, found = search.choose(history, tf.ones([4, 50], tf.bool), candidate)  # [4, 5]
    ```

    Source: Pi et al., Search-based User Interest Modeling with Lifelong Sequential Behavior Data
    for Click-Through Rate Prediction (CIKM '20), general search unit.
    """

    def __init__(
        self,
        top_k: int,
        units: Sequence[int] = (200, 80),
        activation: str = "dice",
        momentum: float = 0.99,
        loss_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.top_k = checks.positive_int("top_k", top_k)
        self.loss_weight = checks.not_negative("loss_weight", loss_weight)
        self.tower = Tower(units, activation=activation, momentum=momentum, name="tower")
        self.normalize = BatchNorm(momentum=momentum, name="interest_norm")
        self.search_loss = tf.keras.metrics.Mean(name="search_loss")

    def build(self, input_shape: tf.TensorShape) -> None:
        (self.width,) = checks.static_sizes("history", input_shape, "[B, L, d]", known=1)
        shape = [self.width, self.width]
        self.query_projection = self.add_weight("query_projection", shape, initializer="identity")
        self.key_projection = self.add_weight("key_projection", shape, initializer="identity")
        self.normalize.build([None, self.width])
        self.tower.build(tf.TensorShape([None, 2 * self.width]))
        super().build(input_shape)

    def call(
        self,
        history: tf.Tensor,
        candidate: tf.Tensor,
        mask: tf.Tensor | None = None,
        label: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        history, candidate, mask = checks.history_inputs(history, candidate, mask, self.width)
        relevance = tf.where(mask, self.scores(history, candidate), 0.0)
        interest = tf.squeeze(tf.matmul(relevance[:, tf.newaxis], history), axis=1)
        interest = self.normalize(interest, training=training)
        logit = self.tower(tf.concat([candidate, interest], axis=1), training=training)
        if training and label is not None:
            label = checks.tensor("label", label, "[B]", [history.shape[0]])
            errors = tf.nn.sigmoid_cross_entropy_with_logits(label, logit)
            samples = tf.cast(tf.size(errors), tf.float32)
            loss = replicas.mean(tf.reduce_sum(errors), samples)
            self.add_loss(self.loss_weight * loss)
            self.search_loss.update_state(loss)
        return logit

    def scores(self, history: tf.Tensor, candidate: tf.Tensor) -> tf.Tensor:
        """The relevance r `[B, L]` of behaviours `[B, L, d]` to candidates `[B, d]`, float32."""
        return tf.linalg.matvec(history, self.direction_of(candidate))

    def direction_of(self, candidate: tf.Tensor) -> tf.Tensor:
        """Vectors `[B, d]` whose products with a behaviour are its relevance r, float32."""
        # W_b k · W_a q = k · W_bᵀ W_a q, so that no behaviour needs to be projected.
        query = tf.matmul(candidate, self.query_projection)
        return tf.matmul(query, self.key_projection, transpose_b=True)

    def choose(
        self, history: tf.Tensor, valid: tf.Tensor, candidate: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The k most relevant behaviours. Has no gradient, and needs a layer that is built.

        Args:
            history: `[B, L, d]`, float32.
            valid: `[B, L]`, bool.
            candidate: `[B, d]`, float32.

        Returns:
            Indices in the history `[B, k]`, int64, 0 where fewer were found; and which were
            found, `[B, k]`, bool.
        """
        return top_indices(self.scores(history, candidate), valid, self.top_k)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "top_k": self.top_k,
            "units": self.tower.units,
            "activation": self.tower.activation,
            "momentum": self.tower.momentum,
            "loss_weight": self.loss_weight,
        }
