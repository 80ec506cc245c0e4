"""Records to batches with tf.data: pick the files, read, shuffle, parse, map ids to rows."""

import dataclasses
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import ConfigError, DataError

# Users import these from here; their code lies by its subject.
from diffumin_tf.input.batch import Batch
from diffumin_tf.input.features import FeaturePath
from diffumin_tf.input.parsing import parse, read_records, user_ids
from diffumin_tf.input.records import PART_PREFIX

_DAY = re.compile(r"^\d{8}$")


def list_files(path: str | None, start: int | None, end: int | None, split: str) -> list[str]:
    """The part files of a split, in order.

    Args:
        path: a folder of day partitions (`<path>/<yyyymmdd>/part-*`) or a glob of files.
        start, end: first and last day, inclusive; None leaves that end open.
        split: name of the split, for messages.

    Raises:
        DataError: nothing is there; says what was looked for and what there is.
    """
    key = f"{split}_data_path"
    if not path:
        raise DataError(f"{key} is not set: give a folder of <yyyymmdd>/{PART_PREFIX}* or a glob")
    if any(c in path for c in "*?["):
        files = sorted(tf.io.gfile.glob(path))
        if not files:
            raise DataError(f"{key}: no file matches {path!r}")
        return files
    if not tf.io.gfile.isdir(path):
        raise DataError(f"{key}: {path!r} is no folder")
    days = _days(path)
    files = [file for day in _picked(days, start, end) for file in _parts(path, day)]
    if not files:
        there = f"{days[0]} to {days[-1]} ({len(days)} days)" if days else "no day at all"
        raise DataError(
            f"{key}: {path!r} holds no records from {start or 'the first day'} to "
            f"{end or 'the last day'}; there is {there}"
        )
    return files


def empty_days(path: str, start: int | None, end: int | None) -> list[str]:
    """Day folders from start to end that hold no part file, or only files without a byte.

    Args:
        path: a folder of day partitions; a glob of files has no days.
        start, end: first and last day, inclusive; None leaves that end open.
    """
    if any(c in path for c in "*?["):
        return []
    return [
        day
        for day in _picked(_days(path), start, end)
        if not any(tf.io.gfile.stat(file).length for file in _parts(path, day))
    ]


def _days(path: str) -> list[str]:
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(path))
    return sorted(name for name in names if _DAY.match(name))


def _picked(days: list[str], start: int | None, end: int | None) -> list[str]:
    return [day for day in days if (start or 0) <= int(day) <= (end or 99999999)]


def _parts(path: str, day: str) -> list[str]:
    return sorted(tf.io.gfile.glob(posixpath.join(path, day, PART_PREFIX + "*")))


@dataclasses.dataclass(frozen=True)
class Part:
    """What one input pipeline feeds: replicas [first, first + count) of `total`.

    Replica r of N gets rows [B·r/N, B·(r+1)/N) of a global batch of B samples, rounded down: parts
    differ by one sample at most, and are empty where there are fewer samples than replicas.

    Attributes:
        first, count: its replicas.
        total: all replicas.
        pipeline, pipelines: its place among the input pipelines, of which a worker has one.
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


WHOLE = Part()


def check_input_shards(input_shards: int, batch_size: int, files: int, pipelines: int = 1) -> None:
    """Checks that the files can be dealt out.

    Args:
        input_shards: groups of files that are read side by side.
        batch_size: samples of a global batch.
        files: how many files there are.
        pipelines: workers that read.

    Raises:
        ConfigError: names the keys and values that do not fit together.
    """
    if input_shards == 1:
        return
    if input_shards < 1:
        raise ConfigError(f"input_shards: {input_shards}; give 1 or more")
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


def own_files(
    files: Sequence[str],
    shuffle: tuple[int, int] | None = None,
    part: Part = WHOLE,
    input_shards: int = 1,
) -> list[str]:
    """The files that `batches` with these arguments reads."""
    return sum(_shards(files, shuffle, part, input_shards).values(), [])


def batches(
    files: Sequence[str],
    schema: DataStruct,
    path: FeaturePath,
    batch_size: int,
    user_column: str | None,
    shuffle: tuple[int, int] | None = None,
    *,
    skip: int = 0,
    part: Part = WHOLE,
    input_shards: int = 1,
    cuts: Mapping[str, int] | None = None,
) -> tf.data.Dataset:
    """Batches for the model; same files and seed, same batches.

    With `input_shards` M, the files in their order are dealt to M shards in turn. Each shard is
    read and shuffled on its own and gives batch_size / M samples to a global batch, as long as it
    has them; a global batch is what the shards give, in their order. Global batches are the same
    for whatever parts read them.

    Args:
        files: part files.
        schema: columns of a record.
        path: maps raw tensors to a batch.
        batch_size: samples of a global batch; the last ones may be smaller.
        user_column: column that tells users apart; becomes `Batch.user`.
        shuffle: (buffer size, seed), or None to keep the order of the files.
        skip: global batches to leave out at the start. They are read, but not parsed.
        part: which replicas to feed. With one shard, every pipeline reads all records and takes its
            replicas' rows. With more, it reads the files of its own shards alone, ends when they
            do, and its replicas share what those give in the way that `Part` tells.
        input_shards: M, a multiple of the pipelines.
        cuts: how many records to read of files that are not read to their end.

    Returns:
        A dataset of `Batch`: for each global batch, one element a replica of the part, which may be
        empty.

    Raises:
        ConfigError: the files or the batch cannot be dealt to so many shards.
    """
    check_input_shards(input_shards, batch_size, len(files), part.pipelines)
    shards = [
        _shard(of_shard, shard, batch_size, shuffle, skip, input_shards, cuts)
        for shard, of_shard in _shards(files, shuffle, part, input_shards).items()
    ]
    serialised = shards[0] if len(shards) == 1 else _side_by_side(shards)
    if input_shards > 1 and part.pipelines > 1:  # what it reads is for its own replicas alone
        part = Part(0, part.count, part.count)
    if part.total > 1:
        serialised = _cut(serialised, part)
    options = tf.data.Options()
    # The parts are cut here; tf.distribute must not deal them out once more.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return (
        serialised.map(
            lambda serialised: batch_of(schema, path, user_column, serialised),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )


def batch_of(
    schema: DataStruct, path: FeaturePath, user_column: str | None, serialised: tf.Tensor
) -> Batch:
    """What the model takes, of serialised samples [B]; see `batches`."""
    raw = parse(schema, serialised)
    user = user_ids(schema, raw, user_column)
    return path.grouped(raw)._replace(
        user=() if user is None else user, label=tf.cast(raw["label"], tf.float32)
    )


def _shards(
    files: Sequence[str], shuffle: tuple[int, int] | None, part: Part, input_shards: int
) -> dict[int, list[str]]:
    """Files of each shard that a part reads, in the order in which they are read."""
    if shuffle:
        order = np.random.default_rng(shuffle[1]).permutation(len(files))
        files = [files[i] for i in order]
    if input_shards == 1:
        return {0: list(files)}
    each = input_shards // part.pipelines
    own = range(part.pipeline * each, (part.pipeline + 1) * each)
    return {shard: list(files[shard::input_shards]) for shard in own}


def _shard(
    files: list[str],
    shard: int,
    batch_size: int,
    shuffle: tuple[int, int] | None,
    skip: int,
    input_shards: int,
    cuts: Mapping[str, int] | None,
) -> tf.data.Dataset:
    """What one shard gives to each global batch: strings [at most batch_size / M]."""
    records, share = read_records(files, cuts), batch_size // input_shards
    if shuffle:
        buffer_size, seed = shuffle
        if input_shards > 1:
            # Spread out: the seeds of neighbouring epochs are neighbours.
            seed = int(np.random.SeedSequence([seed, shard]).generate_state(1, np.uint64)[0] >> 1)
        records = records.shuffle(max(1, buffer_size // input_shards), seed=seed)
    return records.skip(skip * share).batch(share)


def _side_by_side(shards: list[tf.data.Dataset]) -> tf.data.Dataset:
    """Joins what the shards give to each batch, until all have ended."""
    nothing = tf.data.Dataset.from_tensors(tf.constant([], tf.string)).repeat()
    # Each reads ahead in a thread of its own.
    endless = [shard.prefetch(tf.data.AUTOTUNE).concatenate(nothing) for shard in shards]
    return (
        tf.data.Dataset.zip(tuple(endless))
        .map(lambda *given: tf.concat(given, axis=0))
        .take_while(lambda batch: tf.size(batch) > 0)
    )


def _cut(serialised: tf.data.Dataset, part: Part) -> tf.data.Dataset:
    """Each batch as the rows of the part's replicas, one after the other."""

    def parts(batch: tf.Tensor) -> tf.data.Dataset:
        size = tf.size(batch, out_type=tf.int64)

        def rows(replica: tf.Tensor) -> tf.Tensor:
            return batch[size * replica // part.total : size * (replica + 1) // part.total]

        return tf.data.Dataset.range(part.first, part.first + part.count).map(rows)

    return serialised.flat_map(parts)


def id_batches(
    files: Sequence[str],
    schema: DataStruct,
    fields: Iterable[str],
    batch_size: int = 1024,
    cuts: Mapping[str, int] | None = None,
) -> tf.data.Dataset:
    """All ids of the given columns and history fields, batch by batch, for counting."""
    columns = [schema.cat_feature.index(n) for n in fields if n in schema.cat_feature]
    sequences = [schema.sequences[n] for n in fields if n in schema.sequences]
    for field in sequences:
        if field.start is not None:
            columns.extend(range(field.start, field.start + field.max_len))
    names = [f.name for f in sequences if f.start is None]

    def ids(serialised: tf.Tensor) -> tf.Tensor:
        raw = parse(schema, serialised)
        picked = [tf.reshape(tf.gather(raw["cat_feature"], columns, axis=1), [-1])]
        return tf.concat(picked + [raw[n].values for n in names], axis=0)

    records = read_records(files, cuts).batch(batch_size)
    return records.map(ids, num_parallel_calls=tf.data.AUTOTUNE)
