"""Part files as work for the workers of a parameter-server cluster."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from diffumin_tf.config import TaskConfig
from diffumin_tf.data.faults import DAMAGE, find_fault
from diffumin_tf.data.features import FeaturePath
from diffumin_tf.data.parsing import compression_of, parse, user_ids
from diffumin_tf.data_struct import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.model import RankingModel


@dataclasses.dataclass(frozen=True)
class PartReader:
    """Reads part files on the worker that trains on them.

    Attributes:
      config: batch size, shuffling, files read side by side, the column that tells users apart.
      schema: columns of a record.
      path: maps raw tensors to model inputs; built in the scope of the strategy, so that every
        worker has a vocabulary of its own.
      files: all part files; each worker must be able to read them under these names.
    """

    config: TaskConfig
    schema: DataStruct
    path: FeaturePath
    files: Sequence[str]

    def batches(self, names: tf.Tensor, seed: tf.Tensor) -> tf.data.Dataset:
        """Batches of (inputs, label) of the files with these names, shuffled together."""
        records = tf.data.TFRecordDataset(
            names,
            compression_type=compression_of(self.files[0]),
            num_parallel_reads=self.config.input_shards,
        )
        return (
            records.shuffle(self.config.shuffle_buffer_size, seed=seed)
            .batch(self.config.batch_size)
            .map(self._prepare, num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
        )

    def _prepare(self, serialised: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        raw = parse(self.schema, serialised)
        inputs = self.path.grouped(raw)
        user = user_ids(self.schema, raw, self.config.user_column)
        if user is not None:
            inputs["user"] = user
        return inputs, tf.cast(raw["label"], tf.float32)


class Counts(NamedTuple):
    """What the workers did since they were connected.

    Attributes:
      steps: updates.
      samples: samples they were made from.
      loss: sum of the losses of these samples.
      by_worker: int64 [workers], updates of each.
    """

    steps: int
    samples: int
    loss: float
    by_worker: np.ndarray


class PartWork:
    """Hands out part files, ``input_shards`` of them at a time, to whichever worker is free.

    A worker trains on its files from the first record to the last in one go, so that neither the
    chief nor the network takes part in a step, beside the servers that hold the weights. What a
    lost worker had in hand is done again by another one, from its beginning. Whatever happens, no
    file is left out, and without a lost worker each sample is used once an epoch.

    Args:
      model: compiled, in the scope of the strategy.
      strategy: the strategy.
      workers: how many there are.
      reader: reads part files.
    """

    def __init__(
        self,
        model: RankingModel,
        strategy: tf.distribute.ParameterServerStrategy,
        workers: int,
        reader: PartReader,
    ) -> None:
        self._model = model
        self._strategy = strategy
        self._reader = reader
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        with strategy.scope():
            self._totals = tf.Variable(tf.zeros([workers, 3], tf.float64), name="totals")
            self._done = tf.Variable(tf.zeros([len(reader.files)], tf.int32), name="done")
            self._stop = tf.Variable(False, name="stop")
        self._train = tf.function(
            self._train_on,
            input_signature=[
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([None], tf.string),
                tf.TensorSpec([], tf.int64),
            ],
        )

    def start(self, epoch: int, done: Sequence[int]) -> None:
        """Starts on the files of an epoch, but for those that are done already."""
        config, count = self._reader.config, len(self._reader.files)
        done_before = np.isin(np.arange(count), done)
        self._done.assign(done_before.astype(np.int32))
        order = np.random.default_rng(config.seed + epoch).permutation(count)
        left = order[~done_before[order]].astype(np.int32)
        for start in range(0, len(left), config.input_shards):
            files = left[start : start + config.input_shards]
            names = [self._reader.files[file] for file in files]
            seed = np.random.SeedSequence([config.seed, epoch, files[0]]).generate_state(1)[0]
            work = tf.constant(files), tf.constant(names), tf.constant(seed, tf.int64)
            self._coordinator.schedule(self._train, work)

    def finished(self) -> bool:
        """Whether all that was started is done; raises the first error of a worker."""
        return self._coordinator.done()

    def stop(self) -> None:
        """Lets the workers end after the step that each is in; nothing can be started again."""
        self._stop.assign(True)

    def counts(self) -> Counts:
        """What was done so far."""
        totals = self._totals.numpy()
        steps, samples, loss = totals.sum(axis=0)
        return Counts(int(steps), int(samples), float(loss), totals[:, 0].astype(np.int64))

    def done(self) -> list[int]:
        """Numbers of the files that are done with in this epoch."""
        return np.flatnonzero(self._done.numpy()).tolist()

    def raise_if_damaged(self, error: tf.errors.OpError) -> None:
        """Raises DataError when the error of a worker comes from a file that is damaged or gone."""
        if isinstance(error, (*DAMAGE, tf.errors.NotFoundError, tf.errors.PermissionDeniedError)):
            fault = find_fault(self._reader.files, self._reader.schema)
            if fault:
                raise DataError(str(fault)) from None

    def _train_on(self, files: tf.Tensor, names: tf.Tensor, seed: tf.Tensor) -> None:
        """Runs on a worker: all batches of some files, unless they are done already."""
        worker = tf.distribute.coordinator.experimental_get_current_worker_index()
        left = tf.gather(self._done, files) == 0
        files, names = tf.boolean_mask(files, left), tf.boolean_mask(names, left)
        stopped, steps = tf.identity(self._stop), 0
        for batch in iter(self._reader.batches(names, seed)):
            stopped = tf.identity(self._stop)
            if stopped:
                break
            with tf.control_dependencies([self._update(batch, worker)]):
                steps += 1
        with tf.control_dependencies([steps]):  # after the loop, which holds nothing it waits for
            if not stopped:
                self._done.scatter_update(tf.IndexedSlices(tf.ones_like(files), files))

    def _update(self, batch: Any, worker: tf.Tensor) -> tf.Tensor:
        losses = self._strategy.run(self._model.update, args=(batch,))
        samples, loss = tf.size(batch[1]), losses["loss"]
        one = [tf.cast(x, tf.float64) for x in (1, samples, tf.cast(samples, loss.dtype) * loss)]
        return self._totals.scatter_add(tf.IndexedSlices([one], [worker]))
