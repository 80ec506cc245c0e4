"""The ranking model: one embedding lookup, input units, tower, losses."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs

from diffumin_tf import devices, registry
from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import Features, TaskConfig
from diffumin_tf.history import Embedded, History
from diffumin_tf.input.batch import Bags, Batch, HistoryGroup, in_int64, open_ended
from diffumin_tf.input.features import FeatureLayout
from diffumin_tf.layers import IdEmbedding, Tower, replicas
from diffumin_tf.layers.auc import CountedAUC
from diffumin_tf.layers.xla import compiled_in_training


def features_of(config: TaskConfig) -> Features:
    """The union of the features that the units of a config read.

    Raises:
        ConfigError: a unit is unknown or has no features.
    """
    all_features = [registry.input_unit(n).features_of(config) for n in config.input_units]
    return Features(
        **{
            role: tuple(dict.fromkeys(n for f in all_features for n in getattr(f, role)))
            for role in Features.model_fields
        }
    )


def compiled_for_any_batch(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`function` of one nest of tensors as a graph that is traced once for all batches of a kind.

    Batches are of one kind if `open_ended` says so: a batch whose samples share histories is of
    another than one in which each has its own.
    """
    traced: dict[tuple, Callable[[Any], Any]] = {}

    def call(batch: Any) -> Any:
        spec = open_ended(batch)
        kind = tuple(tf.nest.flatten(spec))
        if kind not in traced:
            traced[kind] = tf.function(function, input_signature=[spec], autograph=False)
        return traced[kind](batch)

    return call


class RankingModel(tfrs.Model):
    """Click model: `logit = tower(concat(unit(embed(batch)) for every input unit))`.

    Args:
        config: the experiment.
        schema: columns of a record.
        rows: rows of the embedding table.

    Call arguments:
        batch: B samples, a `Batch`.

    Returns:
        Click logits, float32 [B].
    """

    def __init__(self, config: TaskConfig, schema: DataStruct, rows: int) -> None:
        super().__init__(name="ranking_model")
        config = devices.with_defaults(config)
        self.layout = FeatureLayout.of(features_of(config), schema)
        self.embedding = IdEmbedding(
            rows,
            config.embed_dim,
            tf.keras.initializers.RandomNormal(stddev=config.embedding.initial_stddev),
            name="embedding",
        )
        self.units = [
            registry.input_unit(name)(config, self.layout, name=name.partition(":")[2])
            for name in config.input_units
        ]
        self.tower = Tower(
            config.deep_layers,
            activation=config.activation,
            dropout_rate=(
                config.dropout_rate
                if config.tower_dropout_rate is None
                else config.tower_dropout_rate
            ),
            momentum=config.batch_norm_momentum,
            seed=config.seed,
            name="tower",
        )
        self._run_tower = compiled_in_training(
            lambda inputs, training: self.tower(inputs, training=training),
            config.jit_compile,
            communicates=True,
        )
        # A sum, of which `click_loss` makes the mean over the global batch.
        self.task = tfrs.tasks.Ranking(
            loss=tf.keras.losses.BinaryCrossentropy(
                from_logits=True, reduction=tf.keras.losses.Reduction.SUM
            ),
            name="click",
        )
        self._sample_rate = config.sample_rate
        self._label_smoothing = config.label_smoothing
        self.auc = CountedAUC(name="auc")
        self.table_optimizer: tf.keras.optimizers.Optimizer | None = None
        # `fit` need not reduce what every replica returns averaged already.
        self.distribute_reduction_method = "first"

    def call(self, batch: Batch, training: bool = False) -> tf.Tensor:
        embedded = self.embed(batch)
        return self.logit([unit(embedded, training=training) for unit in self.units], training)

    def logit(self, vectors: Sequence[tf.Tensor], training: bool) -> tf.Tensor:
        """Click logits, float32 [B], of what the units made of a batch."""
        return self._run_tower(tf.concat(vectors, axis=1), training)

    def create_weights(self) -> None:
        """Creates every weight by a call on one sample with an empty history."""
        empty = HistoryGroup(
            rows=tf.zeros([1, 1, len(self.layout.behaviours)], tf.int32),
            mask=tf.zeros([1, 1], tf.bool),
            samples=tf.zeros([1], tf.int32),
        )
        fields = tf.zeros([1, len(self.layout.fields)], tf.int32)
        dense = tf.zeros([1, len(self.layout.dense)])
        no_value = Bags(tf.zeros([0], tf.int32), tf.zeros([1], tf.int32))
        self(Batch(fields, (empty,), dense, multi=(no_value,) * len(self.layout.multi)))

    def embed(self, batch: Batch) -> Embedded:
        """Looks up the fields; units look up what they use of the histories."""
        if devices.gpus():
            batch = in_int64(batch)
        fields = self.embedding(batch.fields)
        if batch.multi:
            fields = tf.concat([fields, self._means(batch.multi, tf.shape(fields)[0])], axis=1)
        history = History(batch.histories, self.embedding)
        user, label = (x if tf.is_tensor(x) else None for x in (batch.user, batch.label))
        return Embedded(fields, history, batch.dense, batch.fields, user, label)

    def _means(self, multi: Sequence[Bags], count: tf.Tensor) -> tf.Tensor:
        """A vector for each of the fields of several values, float32 [count, fields, e]."""
        shape = [count, self.embedding.dim]
        return tf.stack([tf.broadcast_to(self.embedding.mean(*b), shape) for b in multi], axis=1)

    def predict_click(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Click probabilities at inference.

        Returns:
            `pctr` = σ(logit) and `rectified_pctr` = pctr / (pctr + (1 − pctr) / sample_rate),
            which undoes the down-sampling of negatives; float32 [B] each.
        """
        pctr = tf.sigmoid(self(batch, training=False))
        rectified = pctr / (pctr + (1.0 - pctr) / self._sample_rate)
        return {"pctr": pctr, "rectified_pctr": rectified}

    def compile(
        self,
        optimizer: tf.keras.optimizers.Optimizer,
        table_optimizer: tf.keras.optimizers.Optimizer,
        **kwargs,
    ) -> None:
        """Sets the optimiser of the embedding table and that of everything else.

        Where the weights exist, so does then what the optimisers remember of them: a checkpoint
        that is read finds all that it holds, and no graph needs to create variables.
        """
        super().compile(optimizer=optimizer, **kwargs)
        self.table_optimizer = table_optimizer
        if self.embedding.built:
            table, rest = self.table_and_rest()
            table_optimizer.build(table)
            optimizer.build(rest)

    def click_loss(self, label: tf.Tensor, logit: tf.Tensor) -> tf.Tensor:
        """Mean binary cross-entropy.

        Args:
            label: float32 [B].
            logit: float32 [B].

        Returns:
            Scalar float32; under `tf.distribute` it is the average over replicas that is the mean
            over the global batch.
        """
        summed = self.task(label[:, tf.newaxis], logit[:, tf.newaxis], compute_metrics=False)
        return replicas.mean(summed, tf.cast(tf.size(logit), tf.float32))

    def compute_loss(self, batch: Batch, training: bool = False) -> tf.Tensor:
        """`click_loss` of one batch."""
        logit = self(batch, training=training)
        self.auc.update_state(batch.label, logit)
        return self.click_loss(batch.label, logit)

    def update(self, batch: Batch) -> dict[str, tf.Tensor]:
        """One update on a batch, of one device or of all replicas together.

        The table's gradient goes to its optimiser as `tf.IndexedSlices`, never densified. A loss
        that is not finite, on whichever replica, raises on all of them before any weight changes.

        Returns:
            `loss`, that of the clicks, and `total_loss`, averaged over replicas.
        """
        with tf.GradientTape() as tape:
            logit = self(batch, training=True)
            loss, total = self.training_losses(batch.label, logit)
        losses = replicas.average({"loss": loss, "total_loss": total})
        checked = tf.debugging.check_numerics(losses["total_loss"], "training loss")
        # The backward pass starts from here, so that no replica has gone on to what the replicas
        # do together while another one raises.
        with tf.control_dependencies([checked]):
            share = tf.constant(1.0 / replicas.count())
            self.auc.update_state(batch.label, logit)
        table, rest = self.table_and_rest()
        gradients = tape.gradient(total, table + rest, output_gradients=share)
        with tf.control_dependencies([checked]):
            self.table_optimizer.apply_gradients(zip(gradients[: len(table)], table, strict=True))
            self.optimizer.apply_gradients(zip(gradients[len(table) :], rest, strict=True))
        return {**losses, "total_loss": checked}

    def training_losses(self, label: tf.Tensor, logit: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`click_loss` of smoothed labels, and its sum with what units have added."""
        loss = self.click_loss(self._smoothed(label), logit)
        return loss, loss + tf.add_n(self.losses) if self.losses else loss

    def train_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """`update`, and the metrics after it."""
        losses = self.update(batch)
        return {**self._logs(self.metrics), **losses}

    def test_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Loss and metrics of one batch, without an update."""
        loss = replicas.average(self.compute_loss(batch))
        return {**self._logs([self.auc]), "loss": loss}

    def _smoothed(self, label: tf.Tensor) -> tf.Tensor:
        """Labels to train on: s/2 and 1 − s/2 in place of 0 and 1, s being `label_smoothing`."""
        smoothing = self._label_smoothing
        return label * (1 - smoothing) + smoothing / 2 if smoothing else label

    def table_and_rest(self) -> tuple[list[tf.Variable], list[tf.Variable]]:
        """What the optimiser of the table trains, one variable or its shards, and all else."""
        table = self.embedding.trainable_variables
        return table, [v for v in self.trainable_variables if all(v is not t for t in table)]

    @staticmethod
    def _logs(metrics: Iterable[tf.keras.metrics.Metric]) -> dict[str, tf.Tensor]:
        return {metric.name: metric.result() for metric in metrics}
