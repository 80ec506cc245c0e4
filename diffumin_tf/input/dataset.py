"""Records to batches with tf.data: read, shuffle, deal out, parse, map ids to rows."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import ConfigError
from diffumin_tf.input.batch import Batch
from diffumin_tf.input.chunks import Samples, between, in_batches, joined, size_of
from diffumin_tf.input.damage import FileCheck
from diffumin_tf.input.features import FeaturePath
from diffumin_tf.input.parsing import parse, read_records

EVALUATION_BATCH = 1024


@dataclasses.dataclass(frozen=True)
class Part:
    """What one input pipeline feeds: replicas [first, first + count) of `total`.

    Replica r of N gets rows [B·r/N, B·(r+1)/N) of a global batch of B samples, rounded down: parts
    differ by one sample at most, and are empty where there are fewer samples than replicas.

    `pipeline` is its index among the `pipelines`, of which a worker has one.
    """

    first: int = 0
    count: int = 1
    total: int = 1
    pipeline: int = 0
    pipelines: int = 1

    def __post_init__(self) -> None:
        replicas = 0 <= self.first < self.first + self.count <= self.total
        if not replicas or not 0 <= self.pipeline < self.pipelines:
            raise ValueError(f"not a part of a whole: {self}")


def check_input_shards(input_shards: int, batch_size: int, files: int, pipelines: int = 1) -> None:
    """Checks that so many files can be dealt to the shards, and the shards to the pipelines.

    Raises:
        ConfigError: names the keys and values that do not fit together.
    """
    if input_shards == 1:
        return
    if input_shards % pipelines:
        raise ConfigError(
            f"input_shards: {input_shards} is no multiple of the {pipelines} workers; give one, or "
            "1, so that each of them reads everything"
        )
    if batch_size % input_shards:
        raise ConfigError(
            f"batch_size: {batch_size} is no multiple of input_shards, {input_shards}: each shard "
            "gives the same number of samples to a batch"
        )
    if files < input_shards:
        raise ConfigError(
            f"input_shards: {input_shards}, but there are only {files} files to deal out"
        )


@dataclasses.dataclass
class Batches:
    """Batches for the model, epoch by epoch; same files and seed, same batches.

    With `input_shards` M, the files in their order are dealt to M shards in turn. Each shard is
    read and shuffled on its own and gives batch_size / M samples to a global batch, as long as it
    has them; a global batch is what the shards give, in their order. Global batches are the same
    for whatever parts read them.

    Attributes:
        batch_size: samples of a global batch; the last ones may be smaller.
        user_column: column that tells users apart; becomes `Batch.user`.
        shuffle: (buffer size, seed of the first epoch), or None to keep the order of the files.
        samples_per_user: samples that stay together when shuffled, where a record has as many.
        input_shards: M, a multiple of the pipelines.
        part: which replicas to feed. With one shard, every pipeline reads all records and takes its
            replicas' rows. With more, it reads the files of its own shards alone, ends when they
            do, and its replicas share what those give in the way that `Part` says.
        with_records: whether a batch comes as a pair with its serialised samples: strings [B], or
            `Chunks` where records may be of several impressions.
        distribute: makes of a dataset what the replicas of a strategy iterate.
        spec: types of a batch, known once an epoch was begun.

    Raises:
        ConfigError: the files or the batch cannot be dealt to so many shards.
    """

    files: Sequence[str]
    schema: DataStruct
    path: FeaturePath
    batch_size: int
    user_column: str | None
    shuffle: tuple[int, int] | None = None
    _: dataclasses.KW_ONLY
    samples_per_user: int = 16
    input_shards: int = 1
    part: Part = Part()
    check: FileCheck | None = None
    with_records: bool = False
    distribute: Callable[[tf.data.Dataset], Any] = lambda dataset: dataset
    spec: Any = dataclasses.field(default=None, init=False)

    def __post_init__(self) -> None:
        pipelines = self.part.pipelines
        check_input_shards(self.input_shards, self.batch_size, len(self.files), pipelines)
        self.check = self.check or FileCheck(self.schema)

    def epoch(self, number: int = 0, skip: int = 0) -> Iterator:
        """Batches of an epoch, the first `skip` left out.

        Raises:
            DataError: a file is gone or damaged, or more records would be left out than allowed.
        """
        self.check.look(self.files)  # all of them, so that all workers come to the same cuts
        batches = self.distribute(self.dataset(number, skip))
        self.spec = batches.element_spec
        return self.check.read(batches, sum(self._files(number).values(), []), skip)

    # No function here branches on a tensor, and AutoGraph would take a third of the time to begin.
    @tf.autograph.experimental.do_not_convert
    def dataset(self, epoch: int = 0, skip: int = 0) -> tf.data.Dataset:
        """The batches of `epoch` as a dataset, whose errors are TensorFlow's.

        For each global batch it has one element a replica of the part, which may be empty. Batches
        that are left out are read, but not parsed.
        """
        files = self._files(epoch)
        shards = [self._shard(shard, files[shard], epoch, skip) for shard in files]
        part = self.part
        if self.input_shards > 1 and part.pipelines > 1:  # it reads for its own replicas alone
            part = Part(0, part.count, part.count)
        options = tf.data.Options()
        # The parts are cut here; tf.distribute must not deal them out once more.
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return (
            _cut(_side_by_side(shards), part)
            .map(self._batch, num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
            .with_options(options)
        )

    def _batch(self, serialised: Samples) -> Batch | tuple[Batch, Samples]:
        batch = batch_of(self.schema, self.path, self.user_column, serialised)
        return (batch, serialised) if self.with_records else batch

    def _files(self, epoch: int) -> dict[int, list[str]]:
        """Files of each shard that the part reads, in the order in which they are read."""
        files = list(self.files)
        if self.shuffle:
            order = np.random.default_rng(self.shuffle[1] + epoch).permutation(len(files))
            files = [files[i] for i in order]
        if self.input_shards == 1:
            return {0: files}
        count = self.input_shards // self.part.pipelines
        first = self.part.pipeline * count
        return {shard: files[shard :: self.input_shards] for shard in range(first, first + count)}

    def _shard(self, shard: int, files: list[str], epoch: int, skip: int) -> tf.data.Dataset:
        """What one shard gives to each global batch: batch_size / M samples at most."""
        share, shuffle, most = self.batch_size // self.input_shards, self.shuffle, None
        if shuffle:
            buffer_size, seed = shuffle[0], shuffle[1] + epoch
            if self.input_shards > 1:
                # Neighbouring epochs have neighbouring seeds, which shards must not share.
                (state,) = np.random.SeedSequence([seed, shard]).generate_state(1, np.uint64)
                seed = int(state >> 1)
            shuffle = buffer_size // self.input_shards, seed
        if self.check.grouped(self.files):
            most = self.samples_per_user if shuffle else share
        records = read_records(files, self.check.cuts)
        return in_batches(records, share, most, shuffle, skip)


def batch_of(
    schema: DataStruct, path: FeaturePath, user_column: str | None, serialised: Samples
) -> Batch:
    """What the model takes, of serialised samples, labelled if the schema is."""
    raw, user = parse(schema, serialised), ()
    for group in ("cat_feature", "auxiliary_info"):  # the latter counts where both have it
        if user_column in getattr(schema, group):
            user = raw[group][:, schema.position(group, user_column)]
    label = tf.cast(raw["label"], tf.float32) if schema.label else ()
    return path.grouped(raw)._replace(user=user, label=label)


def _side_by_side(shards: list[tf.data.Dataset]) -> tf.data.Dataset:
    """Joins what the shards give to each batch, until all have ended."""
    if len(shards) == 1:
        return shards[0]
    none = tf.nest.map_structure(lambda spec: tf.zeros([0], spec.dtype), shards[0].element_spec)
    nothing = tf.data.Dataset.from_tensors(none).repeat()
    # Each reads ahead in a thread of its own.
    endless = [shard.prefetch(tf.data.AUTOTUNE).concatenate(nothing) for shard in shards]
    return (
        tf.data.Dataset.zip(tuple(endless)).map(joined).take_while(lambda batch: size_of(batch) > 0)
    )


def _cut(serialised: tf.data.Dataset, part: Part) -> tf.data.Dataset:
    """Each batch as the rows of the part's replicas, one after the other."""
    if part.total == 1:
        return serialised

    def parts(batch: Samples) -> tf.data.Dataset:
        size = size_of(batch)

        def rows(replica: tf.Tensor) -> Samples:
            first, stop = size * replica // part.total, size * (replica + 1) // part.total
            return between(batch, first, stop)

        stop = part.first + part.count
        return tf.data.Dataset.range(part.first, stop, output_type=tf.int32).map(rows)

    return serialised.flat_map(parts)
