"""Batches for the replicas of this process, whatever the strategy."""

from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from diffumin_tf.config import TaskConfig
from diffumin_tf.data import damage, dataset
from diffumin_tf.data.features import FeaturePath
from diffumin_tf.data_struct import DataStruct
from diffumin_tf.training.strategy import Distribution


class Batches:
    """Reads files into batches of (inputs, label), a global batch shared by all replicas.

    Args:
      config: seed, shuffling, shards, and the column that tells users apart.
      schema: columns of a record.
      path: maps raw tensors to model inputs.
      distribution: the replicas.
      repairs: what to do about damaged records.

    Attributes:
      spec: types of a batch, known once one was read.
    """

    def __init__(
        self,
        config: TaskConfig,
        schema: DataStruct,
        path: FeaturePath,
        distribution: Distribution,
        repairs: damage.Repairs,
    ) -> None:
        self._config = config
        self._schema = schema
        self._path = path
        self._distribution = distribution
        self._repairs = repairs
        self.spec: Any = None

    def read(
        self,
        files: Sequence[str],
        batch_size: int,
        shuffle: tuple[int, int] | None = None,
        skip: int = 0,
        input_shards: int = 1,
    ) -> Iterator:
        """Batches in the order that the seed of `shuffle` gives, the first `skip` left out.

        Raises:
          DataError: a file is gone, or more records are damaged than the configuration allows.
        """

        def make(files: list[str], skip: int) -> Any:
            def of_pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
                return dataset.batches(
                    files,
                    self._schema,
                    self._path,
                    batch_size,
                    self._config.user_column,
                    shuffle,
                    skip=skip,
                    part=_part(context),
                    input_shards=input_shards,
                )

            strategy = self._distribution.strategy
            if self._distribution.replicas == 1:
                made = of_pipeline(tf.distribute.InputContext())
            else:
                made = strategy.distribute_datasets_from_function(of_pipeline)
            self.spec = made.element_spec
            return made

        if self._distribution.workers > 1 and self._config.max_bad_records:
            # A worker that stumbles over a damaged record amid a step would take the others down.
            self._repairs.mend(list(files))
        return damage.resilient(make, list(files), self._repairs, skip)


class EpochBatches:
    """The training split, epoch by epoch.

    Args:
      batches: how to read.
      config: batch size, shuffling, shards.
      files: the training split.
      examples: samples of an epoch; None when unknown.
    """

    def __init__(
        self, batches: Batches, config: TaskConfig, files: list[str], examples: int | None
    ) -> None:
        self._batches = batches
        self._config = config
        self._files = files
        self.examples = examples

    @property
    def spec(self) -> Any:
        """Types of a batch, known once an epoch was begun."""
        return self._batches.spec

    def epoch(self, number: int, skip: int) -> Iterator:
        """Batches of an epoch, the first `skip` left out."""
        config = self._config
        shuffle = (config.shuffle_buffer_size, config.seed + number)
        return self._batches.read(
            self._files, config.batch_size, shuffle, skip, config.input_shards
        )


def _part(context: tf.distribute.InputContext) -> dataset.Part:
    count = context.num_replicas_in_sync // context.num_input_pipelines
    return dataset.Part(
        first=context.input_pipeline_id * count,
        count=count,
        total=context.num_replicas_in_sync,
        pipeline=context.input_pipeline_id,
        pipelines=context.num_input_pipelines,
    )
