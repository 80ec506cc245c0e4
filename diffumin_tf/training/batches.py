"""Batches for the replicas of this process, whatever the strategy."""

from collections.abc import Iterator, Sequence
from typing import Any

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.input import dataset
from diffumin_tf.input.damage import FileCheck
from diffumin_tf.input.features import FeaturePath
from diffumin_tf.training.strategy import Distribution

EVALUATION_BATCH = 1024


class Batches:
    """Reads files into batches, a global batch shared by all replicas.

    Args:
        config: seed, shuffling, shards, and the column that tells users apart.
        schema: columns of a record.
        path: maps raw tensors to model inputs.
        distribution: the replicas.
        check: what is known of damaged record files.

    Attributes:
        spec: types of a batch, known once one was read.
    """

    def __init__(
        self,
        config: TaskConfig,
        schema: DataStruct,
        path: FeaturePath,
        distribution: Distribution,
        check: FileCheck,
    ) -> None:
        self._config = config
        self._schema = schema
        self._path = path
        self._distribution = distribution
        self._check = check
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
            DataError: a file is gone or damaged, or more records would be left out than allowed.
        """
        # Every worker looks at all files, so that all of them come to the same cuts.
        self._check.look(files)
        part = _part(self._distribution)
        batches = dataset.batches(
            files,
            self._schema,
            self._path,
            batch_size,
            self._config.user_column,
            shuffle,
            skip=skip,
            part=part,
            input_shards=input_shards,
            cuts=self._check.cuts,
        )
        if self._distribution.replicas > 1:
            strategy = self._distribution.strategy
            made = strategy.distribute_datasets_from_function(lambda _: batches)
        else:
            made = batches
        self.spec = made.element_spec
        own = dataset.own_files(files, shuffle, part, input_shards)
        return self._check.read(made, own, skip)


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


def _part(distribution: Distribution) -> dataset.Part:
    count = distribution.replicas // distribution.workers
    return dataset.Part(
        first=distribution.place * count,
        count=count,
        total=distribution.replicas,
        pipeline=distribution.place,
        pipelines=distribution.workers,
    )
