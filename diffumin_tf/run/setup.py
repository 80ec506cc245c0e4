"""How a run is set up: `check` reads everything and writes nothing, `prepare_folder` writes."""

import dataclasses
import json
import posixpath
from collections.abc import Callable, Sequence

import tensorflow as tf

from diffumin_tf import devices, registry
from diffumin_tf.config import task as config_lib
from diffumin_tf.config.schema import SCHEMA_FILE, DataStruct
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError, did_you_mean
from diffumin_tf.files import write_text
from diffumin_tf.input import dataset, survey, vocabulary
from diffumin_tf.input.damage import FileCheck
from diffumin_tf.input.features import FeatureLayout
from diffumin_tf.input.kinds import with_kinds
from diffumin_tf.input.sightings import id_batches
from diffumin_tf.input.splits import (
    SPLITS,
    empty_days,
    files_of,
    has_split,
    refuse_overlap,
    schemas_beside,
)
from diffumin_tf.model import features_of
from diffumin_tf.paths import from_where
from diffumin_tf.run import folder as run_folder
from diffumin_tf.run.find import schema_file, with_stored_once
from diffumin_tf.training import checkpoints, strategy
from diffumin_tf.training.strategy import Distribution

Report = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class CheckedRun:
    """What a run needs, all of it looked at."""

    config: TaskConfig
    schema: DataStruct
    model_dir: str
    distribution: Distribution
    file_check: FileCheck
    train_files: list[str]
    is_begun: bool  # whether the folder holds a run that has saved something
    changes: list[str]  # what is set otherwise than when that run began, in words


def check(exp: str, model_dir: str | None, overrides: Sequence[str], report: Report) -> CheckedRun:
    """Starts the strategy, and looks at all that a run needs; writes nothing.

    Raises:
        ConfigError, DataError: something is wrong or missing.
    """
    config, ignored = config_lib.load(exp, overrides)
    distribution = strategy.from_config(config, report)
    report = distribution.chief_report(report)
    if ignored:
        report(f"ignored keys of the original's engine: {', '.join(ignored)}")
    model_dir = model_dir or config.model_path
    if not model_dir:
        raise ConfigError(f"{exp}: give --model_dir or set model_path")
    report(devices.describe(config))
    schema = with_stored_once(DataStruct.load(schema_file(exp, config)), config, report)
    layout = FeatureLayout.of(features_of(config), schema)
    for name in config.input_units:
        registry.input_unit(name)(devices.with_defaults(config), layout)
    _check_user_column(config, schema)
    schema = with_kinds(schema, files_of(config, schema, "train"))
    file_check = FileCheck(schema, config.max_bad_records, report)
    train_files = _check_splits(config, schema, layout, distribution, file_check, report)
    is_begun = run_folder.is_run(model_dir) and checkpoints.has_any(model_dir)
    earlier, changes = config.pretrain_model_dir, []
    if is_begun:
        checkpoints.best(model_dir)  # which an earlier version may have written
    if is_begun and distribution.is_chief:
        changes = run_folder.changes(model_dir, config)
    if config.embedding.kind == "vocabulary" and config.embedding.path and not is_begun:
        try:
            vocabulary.read_ids(config.embedding.path)
        except ConfigError as error:
            raise ConfigError(f"embedding.path: {error}") from None
    if not is_begun and earlier and not run_folder.is_run(earlier):
        missing = f"no run ({run_folder.CONFIG} is missing)"
        raise ConfigError(f"pretrain_model_dir {earlier!r}{from_where(earlier)}: {missing}")
    return CheckedRun(
        config, schema, model_dir, distribution, file_check, train_files, is_begun, changes
    )


def prepare_folder(run: CheckedRun, report: Report) -> None:
    """Makes the folder of a run, or notes that it goes on; returns when all may read it."""
    report = run.distribution.chief_report(report)
    if run.distribution.is_chief:
        for change in run.changes:
            report(change)
        if run.changes or not run.is_begun:
            run_folder.mark_unfinished(run.model_dir)
        if not run.is_begun:
            tf.io.gfile.makedirs(run.model_dir)
            _settle_vocabulary(run, report)
            schema_text = json.dumps(run.schema.to_dict(), indent=2)
            write_text(posixpath.join(run.model_dir, SCHEMA_FILE), schema_text + "\n")
        run_folder.write_config(run.model_dir, run.config)
    run.distribution.wait_for_all()


def _check_splits(
    config: TaskConfig,
    schema: DataStruct,
    layout: FeatureLayout,
    distribution: Distribution,
    file_check: FileCheck,
    report: Report,
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
        days = empty_days(path, files[split], start, end)
        if days is None:
            report(f"{split}: folders of {path!r} are not named after days: none is looked for")
        for day in days or ():
            report(f"{split}: no records on {day}")
        grouped = file_check.grouped(files[split])
        if grouped and schema.stored_once and not schemas_beside(path, files[split]):
            report(
                f"{split}: no {SCHEMA_FILE} beside the records says what they hold once: it is "
                f"believed to be the stored_once of {schema.source}"
            )
        for line in survey.look(schema, layout, config.user_column, files[split], file_check):
            report(f"{split}: {line}")
    return files["train"]


def _check_user_column(config: TaskConfig, schema: DataStruct) -> None:
    known = schema.auxiliary_info + schema.cat_feature
    if config.user_column is not None and config.user_column not in known:
        raise ConfigError(
            f"user_column {config.user_column!r}: no such column in {schema.source}"
            f"{did_you_mean(config.user_column, known)}; null means that users are unknown"
        )


def _settle_vocabulary(run: CheckedRun, report: Report) -> None:
    """Puts the vocabulary into the run's folder: copied, or counted over the training split.

    One that is counted goes on from that of `pretrain_model_dir`.
    """
    embedding, earlier = run.config.embedding, run.config.pretrain_model_dir
    if embedding.kind != "vocabulary":
        return
    path = posixpath.join(run.model_dir, run_folder.VOCABULARY)
    if embedding.path:
        tf.io.gfile.copy(embedding.path, path, overwrite=True)
        return
    layout = FeatureLayout.of(features_of(run.config), run.schema)
    columns = layout.categorical + layout.behaviours
    ids = id_batches(run.train_files, run.schema, columns, check=run.file_check)
    before = earlier and posixpath.join(earlier, run_folder.VOCABULARY)
    counted = vocabulary.write_vocabulary(
        path,
        run.file_check.read(ids.as_numpy_iterator(), run.train_files),
        embedding.min_count,
        before if before and tf.io.gfile.exists(before) else None,
    )
    report(
        f"vocabulary: {counted.size:,} ids seen {embedding.min_count} times or more"
        + (f", {counted.new:,} of them new" if earlier else "")
    )
