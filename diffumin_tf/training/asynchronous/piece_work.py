"""Pieces of the training split as work for the workers of a parameter-server cluster."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input.batch import Batch
from diffumin_tf.input.chunks import Samples, in_batches
from diffumin_tf.input.damage import DAMAGE, LOST, FileCheck
from diffumin_tf.input.dataset import batch_of
from diffumin_tf.input.features import FeaturePath
from diffumin_tf.input.parsing import compression_of
from diffumin_tf.model import RankingModel
from diffumin_tf.training.state import TrainingState

# Few files are cut into pieces, so that fast and slow workers end an epoch at about the same time.
# The number must not depend on the cluster: a checkpoint knows pieces by number. Each piece of a
# file costs a reading of the whole file.
_FEWEST_PIECES = 8


@dataclasses.dataclass(frozen=True)
class PieceReader:
    """Reads pieces of the training split, which are part files, or every n-th record of one."""

    schema: DataStruct
    path: FeaturePath  # of the strategy's scope: every worker has a vocabulary of its own
    files: Sequence[str]  # each worker must be able to read them under these names
    check: FileCheck
    batch_size: int
    shuffle_buffer_size: int
    samples_per_user: int  # that stay together when shuffled
    input_shards: int  # pieces that a worker reads side by side
    user_column: str | None

    @property
    def pieces(self) -> int:
        return len(self.files) * self._pieces_of_a_file

    @property
    def _pieces_of_a_file(self) -> int:
        return -(-_FEWEST_PIECES // len(self.files))

    def file_of(self, piece: int) -> str:
        return self.files[piece // self._pieces_of_a_file]

    @tf.autograph.experimental.do_not_convert  # as in `Batches.dataset`
    def batches(self, pieces: tf.Tensor, files: tf.Tensor, seed: tf.Tensor) -> tf.data.Dataset:
        """Shuffled batches of pieces, given by their numbers [n] and the files [n] they lie in."""
        compression, count = compression_of(self.files[0]), self._pieces_of_a_file
        records_of = tf.constant([self.check.cuts.get(f, -1) for f in self.files], tf.int64)

        def read(piece: tf.Tensor, file: tf.Tensor) -> tf.data.Dataset:
            records = tf.data.TFRecordDataset(file, compression).take(records_of[piece // count])
            return records.shard(count, tf.cast(piece % count, tf.int64)) if count > 1 else records

        def batch(serialised: Samples) -> Batch:
            return batch_of(self.schema, self.path, self.user_column, serialised)

        records = tf.data.Dataset.from_tensor_slices((pieces, files)).interleave(
            read, self.input_shards, num_parallel_calls=tf.data.AUTOTUNE
        )
        most = self.samples_per_user if self.check.grouped(self.files) else None
        shuffle = self.shuffle_buffer_size, seed
        return (
            in_batches(records, self.batch_size, most, shuffle)
            .map(batch, num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
        )


@dataclasses.dataclass
class AsynchronousState(TrainingState):
    """Where an asynchronous run is: `pieces_done` of this epoch; `batch` stays 0."""

    pieces_done: list[int] = dataclasses.field(default_factory=list)

    def advance(self, steps: int, samples: int) -> None:
        self.step += steps
        self.samples += samples

    def samples_in_epoch(self, batch_size: int, examples: int | None) -> int:
        return max(self.samples - self.epoch * examples, 0) if examples else 0

    def next_epoch(self) -> None:
        super().next_epoch()
        self.pieces_done = []


class Counts(NamedTuple):
    """What the workers did since they were connected."""

    steps: int
    samples: int
    loss: float  # sum over these samples
    by_worker: np.ndarray  # int64 [workers], updates of each


class PieceWork:
    """Hands out pieces, `input_shards` of them at a time, to whichever worker is free.

    A worker trains on its pieces from the first record to the last in one call, so that the chief
    takes no part in a step. The pieces of a worker that is lost are done again by another one, from
    their beginning. No piece is ever left out; if no worker is lost, each sample is used once an
    epoch.

    Args:
        model: compiled, in the scope of the strategy.
        workers: how many there are.
    """

    def __init__(
        self,
        model: RankingModel,
        strategy: tf.distribute.ParameterServerStrategy,
        workers: int,
        reader: PieceReader,
        seed: int,
    ) -> None:
        self._seed = seed  # of the order of pieces and samples
        self._model = model
        self._strategy = strategy
        self._reader = reader
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        with strategy.scope():
            self._totals = tf.Variable(tf.zeros([workers, 3], tf.float64), name="totals")
            self._done = tf.Variable(tf.zeros([reader.pieces], tf.int32), name="done")
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
        """Starts on the pieces of an epoch, but for those that are done already."""
        reader = self._reader
        done_before = np.isin(np.arange(reader.pieces), done)
        self._done.assign(done_before.astype(np.int32))
        order = np.random.default_rng(self._seed + epoch).permutation(reader.pieces)
        left = order[~done_before[order]].astype(np.int32)
        for start in range(0, len(left), reader.input_shards):
            pieces = left[start : start + reader.input_shards]
            files = [reader.file_of(piece) for piece in pieces]
            seed = np.random.SeedSequence([self._seed, epoch, pieces[0]]).generate_state(1)[0]
            work = tf.constant(pieces), tf.constant(files), tf.constant(seed, tf.int64)
            self._coordinator.schedule(self._train, work)

    def finished(self) -> bool:
        """Whether all that was started is done; raises the first error of a worker."""
        return self._coordinator.done()

    def stop(self) -> None:
        """Lets the workers end after the step that each is in; nothing can be started again."""
        self._stop.assign(True)

    def counts(self) -> Counts:
        totals = self._totals.numpy()
        steps, samples, loss = totals.sum(axis=0)
        return Counts(int(steps), int(samples), float(loss), totals[:, 0].astype(np.int64))

    def done(self) -> list[int]:
        """Numbers of the pieces that are done with in this epoch."""
        return np.flatnonzero(self._done.numpy()).tolist()

    def raise_if_damaged(self, error: tf.errors.OpError) -> None:
        """Raises DataError when the error of a worker comes from a file that is damaged or gone."""
        if isinstance(error, (*DAMAGE, *LOST)):
            damage = self._reader.check.first_damage(self._reader.files)
            if damage:
                raise DataError(damage) from None

    def _train_on(self, pieces: tf.Tensor, files: tf.Tensor, seed: tf.Tensor) -> None:
        """Runs on a worker: all batches of some pieces, unless they are done already."""
        worker = tf.distribute.coordinator.experimental_get_current_worker_index()
        left = tf.gather(self._done, pieces) == 0
        pieces, files = tf.boolean_mask(pieces, left), tf.boolean_mask(files, left)
        stopped, steps = tf.identity(self._stop), 0
        for batch in iter(self._reader.batches(pieces, files, seed)):
            stopped = tf.identity(self._stop)
            if stopped:
                break
            with tf.control_dependencies([self._update(batch, worker)]):
                steps += 1
        # Nothing but its result makes what follows wait for the loop.
        with tf.control_dependencies([steps]):
            if not stopped:
                self._done.scatter_update(tf.IndexedSlices(tf.ones_like(pieces), pieces))

    # `_train_on` needs AutoGraph for its loop; the layers do not, and to convert them takes long.
    @tf.autograph.experimental.do_not_convert
    def _update(self, batch: Batch, worker: tf.Tensor) -> tf.Tensor:
        losses = self._strategy.run(self._model.update, args=(batch,))
        samples, loss = tf.size(batch.label), losses["loss"]
        one = [tf.cast(x, tf.float64) for x in (1, samples, tf.cast(samples, loss.dtype) * loss)]
        return self._totals.scatter_add(tf.IndexedSlices([one], [worker]))
