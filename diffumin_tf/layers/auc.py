"""Area under the ROC curve, counted without scattering and without assertions."""

import tensorflow as tf


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class CountedAUC(tf.keras.metrics.AUC):
    """`tf.keras.metrics.AUC` of logits, with the same counts in the same variables.

    ```
    true positives over threshold i = Σ_b y_b [bucket_b ≥ i]
    bucket_b = max(⌈σ(logit_b) (T − 1)⌉ − 1, 0)
    ```

    The library sums up buckets by a scatter, one sample after the other where XLA compiles it;
    here it is a product of the labels with a matrix `[B, T]`. A click that is predicted as NaN
    counts as predicted to be 0, where the library raises.

    Call arguments:
        y_true: `[B]`, float32. Labels 0 or 1.
        y_pred: `[B]`, float32. Logits.
        sample_weight: None, or a scalar.
    """

    def __init__(self, name: str = "auc", **kwargs) -> None:
        super().__init__(name=name, from_logits=True, **kwargs)

    def update_state(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> None:
        weight = 1.0 if sample_weight is None else sample_weight
        last = self.num_thresholds - 1
        bucket = tf.nn.relu(tf.math.ceil(tf.sigmoid(y_pred) * last) - 1)
        over = tf.cast(bucket[:, tf.newaxis] >= tf.range(last + 1.0), tf.float32)
        labels = tf.cast(tf.cast(y_true, tf.bool), tf.float32)
        # Rows: positive, negative.
        of_class = weight * tf.stack([labels, 1 - labels])
        counted = tf.matmul(of_class, over)
        self.true_positives.assign_add(counted[0])
        self.false_positives.assign_add(counted[1])
        under = tf.reduce_sum(of_class, axis=1, keepdims=True) - counted
        self.false_negatives.assign_add(under[0])
        self.true_negatives.assign_add(under[1])
