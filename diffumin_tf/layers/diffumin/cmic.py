"""Contrastive multi-interest calibrator (CMIC): keeps generated interests near extracted ones."""

from typing import Any

import tensorflow as tf

from diffumin_tf.layers import checks, replicas
from diffumin_tf.layers.dense import Dense
from diffumin_tf.layers.unit_vectors import unit_vectors

NEGATIVES = ("global", "replica")


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class ContrastiveMultiInterestCalibrator(tf.keras.layers.Layer):
    """Adds a contrastive loss between extracted and generated interests of the same sample.

    ```
    s_bn = cos(g(r_b), g*(r*_n)) / temp
    L_cl = mean over live (b, channel) of −log( exp s_bb / (exp s_bb + Σ_n exp s_bn) )
    ```

    where n runs over the samples of other users whose channel is live. Samples of the same user are
    neither pulled nor pushed. In training `loss_weight · L_cl` is added to the losses of the model,
    and the metric `contrastive_loss` follows L_cl; at inference the heads g, g* are not evaluated.
    The generated interests pass through unchanged, so that in a functional model the layer stays
    between its inputs and the outputs. Under `tf.distribute` the mean is over the global batch.

    Args:
        temp: float above 0. Temperature; cosine similarities are divided by it.
        loss_weight: float. Weight of L_cl in the loss of the model (`lamda2`).
        hidden_factor: int. Hidden width of a projection head, in multiples of d.
        negatives: `"global"` (n runs over the samples of all replicas, as on one device) or
            `"replica"` (over those of its own, which costs no communication).

    Call arguments:
        interests: `[B, C, d]`, float32. Extracted interests r.
        generated: `[B, C, d]`, float32. Generated interests r*.
        user_ids: `[B]`, int64, or None. User of a sample; None takes every sample as another user.
        live: `[B, C]`, bool, or None. Which channels hold an interest; None means all.
        training: bool. Whether to add the loss.

    Returns:
        `generated`, `[B, C, d]`, float32.

    Raises:
        ValueError: if an argument is out of range or an input has the wrong shape.

    Example:

    ```python
    calibrator = ContrastiveMultiInterestCalibrator(temp=0.05)
    interests, generated = tf.random.normal([4, 3, 24]), tf.random.normal([4, 3, 24])
    generated = calibrator(interests, generated, tf.constant([7, 7, 8, 9]), training=True)
    (weighted_loss,) = calibrator.losses
    ```

    Source: the DiffuMIN paper (RecSys '25), contrastive multi-interest calibrator.
    """

    def __init__(
        self,
        temp: float = 0.05,
        loss_weight: float = 0.001,
        hidden_factor: int = 4,
        negatives: str = "global",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.temp = checks.positive_number("temp", temp)
        self.loss_weight = checks.not_negative("loss_weight", loss_weight)
        self.hidden_factor = checks.positive_int("hidden_factor", hidden_factor)
        self.negatives = checks.choice("negatives", negatives, NEGATIVES)
        self.contrastive_loss = tf.keras.metrics.Mean(name="contrastive_loss")

    def build(self, input_shape: tf.TensorShape) -> None:
        (self.width,) = checks.static_sizes("interests", input_shape, "[B, C, d]", known=1)
        self.extracted_head = self._head("extracted_head")
        self.generated_head = self._head("generated_head")
        super().build(input_shape)

    def call(
        self,
        interests: tf.Tensor,
        generated: tf.Tensor,
        user_ids: tf.Tensor | None = None,
        live: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        interests = checks.tensor("interests", interests, "[B, C, d]", [None, None, self.width])
        batch, count, _ = interests.shape
        generated = checks.tensor("generated", generated, "[B, C, d]", interests.shape)
        if user_ids is not None:
            user_ids = checks.tensor("user_ids", user_ids, "[B]", [batch], tf.int64)
        if live is None:
            live = tf.ones(tf.shape(interests)[:2], tf.bool)
        live = checks.tensor("live", live, "[B, C]", [batch, count], tf.bool)

        if training:
            loss = self._loss(interests, generated, user_ids, live)
            self.add_loss(self.loss_weight * loss)
            self.contrastive_loss.update_state(loss)
        return generated

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "temp": self.temp,
            "loss_weight": self.loss_weight,
            "hidden_factor": self.hidden_factor,
            "negatives": self.negatives,
        }

    def _head(self, name: str) -> tf.keras.Sequential:
        head = tf.keras.Sequential(
            [
                Dense(self.hidden_factor * self.width, "relu"),
                Dense(self.width),
            ],
            name=name,
        )
        head.build([None, None, self.width])
        return head

    def _loss(
        self,
        interests: tf.Tensor,
        generated: tf.Tensor,
        user_ids: tf.Tensor | None,
        live: tf.Tensor,
    ) -> tf.Tensor:
        anchors = unit_vectors(self.extracted_head(interests))
        others = unit_vectors(self.generated_head(generated))
        others, other_users, other_live, same_sample = self._others(others, user_ids, live)
        logits = tf.einsum("bcd,ncd->cbn", anchors, others) / self.temp

        same_user = same_sample if user_ids is None else user_ids[:, tf.newaxis] == other_users
        negative = ~same_user & tf.transpose(other_live)[:, tf.newaxis]
        masked = tf.where(same_sample | negative, logits, logits.dtype.min)
        positive = tf.reduce_sum(tf.where(same_sample, logits, 0.0), axis=-1)
        losses = tf.reduce_logsumexp(masked, axis=-1) - positive
        counted = tf.cast(tf.transpose(live), tf.float32)
        return replicas.mean(tf.reduce_sum(losses * counted), tf.reduce_sum(counted))

    def _others(
        self, others: tf.Tensor, user_ids: tf.Tensor | None, live: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor | None, tf.Tensor, tf.Tensor]:
        """The samples n to compare with.

        Returns:
            Their vectors `[n, C, d]`, users `[n]` and live channels `[n, C]`, and which of them is
            the sample itself, `[B, n]`, bool.
        """
        samples = tf.shape(live)[0]
        if self.negatives == "replica" or replicas.count() == 1:
            return others, user_ids, live, tf.eye(samples, dtype=tf.bool)
        rows = replicas.batch_rows(samples)
        users = [] if user_ids is None else [user_ids]
        others, live, *users = replicas.gather([others, tf.cast(live, tf.float32), *users], rows)
        same_sample = tf.range(rows.total) == (rows.offset + tf.range(samples))[:, tf.newaxis]
        return others, users[0] if users else None, live > 0, same_sample
