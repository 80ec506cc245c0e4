"""What is checked and written before a run begins, and what its folder needs to be read again."""

import posixpath
from collections.abc import Callable

import tensorflow as tf

from diffumin_tf.config import reading as config_file
from diffumin_tf.config.schema import SCHEMA_FILE, DataStruct
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError, did_you_mean
from diffumin_tf.input import dataset, vocabulary
from diffumin_tf.input.damage import FileCheck
from diffumin_tf.input.features import FeatureLayout
from diffumin_tf.input.splits import (
    SPLITS,
    empty_days,
    files_of,
    first_record,
    has_split,
    refuse_overlap,
)
from diffumin_tf.run import folder as run_folder
from diffumin_tf.training.strategy import Distribution


def compute_reproducibly(deterministic: bool = True) -> None:
    """Settles, for this process, how TensorFlow computes on whatever device it finds.

    Products stay those of float32: a GPU would round what it multiplies to TF32, which leaves
    channels orthonormal to 6e-4 only, and lets other behaviours be kept than on a CPU.

    Args:
        deterministic: whether the same seed gives the same bits on the same machine; a GPU sums in
            an order of its own otherwise.
    """
    tf.config.experimental.enable_tensor_float_32_execution(False)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def checked_splits(
    config: TaskConfig,
    schema: DataStruct,
    distribution: Distribution,
    check: FileCheck,
    report: Callable[[str], None],
) -> list[str]:
    """Looks at the records of all splits; returns the files of the training split."""
    splits = [s for s in SPLITS if s == "train" or has_split(config, s)]
    files = {split: files_of(config, schema, split) for split in splits}
    refuse_overlap(files)
    dataset.check_input_shards(
        config.input_shards, config.batch_size, len(files["train"]), distribution.workers
    )
    for split in splits:
        report(f"{split}: {len(files[split])} files, {files[split][0]} … {files[split][-1]}")
        start, end = getattr(config, f"{split}_data_start"), getattr(config, f"{split}_data_end")
        path = getattr(config, f"{split}_data_path") or config.train_data_path
        for day in empty_days(path, start, end):
            report(f"{split}: no records on {day}")
        check.look(files[split])
        next(check.read(first_record(files[split], schema, check.cuts), files[split]))
    return files["train"]


def check_user_column(config: TaskConfig, schema: DataStruct) -> None:
    """Raises ConfigError when the schema has no such column."""
    known = schema.auxiliary_info + schema.cat_feature
    if config.user_column is not None and config.user_column not in known:
        raise ConfigError(
            f"user_column {config.user_column!r}: no such column in {schema.source}"
            f"{did_you_mean(config.user_column, known)}; null means that users are unknown"
        )


def check_earlier_run(config: TaskConfig) -> None:
    """Raises ConfigError when the run to start from is none."""
    earlier = config.pretrain_model_dir
    if earlier and not run_folder.is_run(earlier):
        raise ConfigError(
            f"pretrain_model_dir {earlier!r}: no run ({run_folder.CONFIG} is missing)"
        )


def schema_file(exp: str, config: TaskConfig) -> str:
    """Where the schema of an experiment lies.

    In its folder, in that of an experiment that it extends, or beside the training records.

    Raises:
        ConfigError: in none of them.
    """
    folders = map(posixpath.dirname, config_file.lineage(exp))
    tried = [posixpath.join(folder, SCHEMA_FILE) for folder in folders]
    if config.train_data_path:
        tried.append(posixpath.join(config.train_data_path, SCHEMA_FILE))
    for path in tried:
        if tf.io.gfile.exists(path):
            return path
    raise ConfigError(f"no schema: neither {' nor '.join(tried)} is there")


def settle_vocabulary(
    config: TaskConfig,
    schema: DataStruct,
    layout: FeatureLayout,
    files: list[str],
    check: FileCheck,
    model_dir: str,
    report: Callable[[str], None],
) -> None:
    """Puts the vocabulary into the run's folder: copied, or counted over the training split.

    One that is counted goes on from that of `pretrain_model_dir`.
    """
    embedding, earlier = config.embedding, config.pretrain_model_dir
    earlier = earlier and posixpath.join(earlier, run_folder.VOCABULARY)
    if embedding.kind != "vocabulary":
        return
    path = posixpath.join(model_dir, run_folder.VOCABULARY)
    if embedding.path:
        try:
            tf.io.gfile.copy(embedding.path, path, overwrite=True)
        except tf.errors.OpError as error:
            raise ConfigError(
                f"embedding.path {embedding.path!r}: cannot be read: {error.message}"
            ) from None
        return

    ids = dataset.id_batches(files, schema, layout.fields + layout.behaviours, cuts=check.cuts)
    counted = vocabulary.write_vocabulary(
        path,
        check.read(ids.as_numpy_iterator(), files),
        embedding.min_count,
        earlier if earlier and tf.io.gfile.exists(earlier) else None,
    )
    report(
        f"vocabulary: {counted.size:,} ids seen {embedding.min_count} times or more"
        + (f", {counted.new:,} of them new" if earlier else "")
    )


def row_mapping(
    config: TaskConfig, model_dir: str
) -> vocabulary.HashedRows | vocabulary.VocabularyRows:
    """Ids to rows of the table, as the configuration and the folder of the run say."""
    if config.embedding.kind == "hash":
        return vocabulary.HashedRows(config.embedding.rows)
    return vocabulary.VocabularyRows(posixpath.join(model_dir, run_folder.VOCABULARY))
