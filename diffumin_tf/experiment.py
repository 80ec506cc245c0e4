"""A run and its folder: what `train`, `evaluate`, `predict` and `export` have in common."""

import functools
import itertools
import json
import posixpath
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from diffumin_tf import config as config_lib
from diffumin_tf import registry
from diffumin_tf.config import TaskConfig
from diffumin_tf.data import dataset, records, vocabulary
from diffumin_tf.data.features import FeatureLayout, FeaturePath
from diffumin_tf.data_struct import DataStruct, did_you_mean, read_json
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.evaluation.scoring import Scores, predict_function, score
from diffumin_tf.model import RankingModel, features_of
from diffumin_tf.serving.export import export
from diffumin_tf.training import checkpoints, optimizers
from diffumin_tf.training.trainer import Trainer, TrainingResult

SPLITS = ("train", "valid", "test")
_CONFIG, _SCHEMA, _VOCABULARY = "config.json", "data_struct.json", "vocabulary.txt"
_EVALUATION_BATCH = 1024


class Experiment:
    """A configuration, its schema, its model and the folder where its results go.

    Build one with `create` (a new run) or `open` (a trained one).

    Attributes:
      config: the resolved configuration.
      schema: columns of a record.
      model_dir: folder of the run.
      model: the ranking model; its weights exist.
    """

    def __init__(self, config: TaskConfig, schema: DataStruct, model_dir: str) -> None:
        self.config = config
        self.schema = schema
        self.model_dir = model_dir
        tf.keras.utils.set_random_seed(config.seed)
        tf.config.experimental.enable_op_determinism()
        rows_of = _row_mapping(config, model_dir)
        layout = FeatureLayout.of(features_of(config), schema)
        self.path = FeaturePath(schema, layout, config.seq_len, rows_of, config.buckets)
        self.model = RankingModel(config, schema, rows_of.rows)
        self.model.create_weights()

    @classmethod
    def create(
        cls,
        exp: str,
        model_dir: str | None = None,
        overrides: Sequence[str] = (),
        report: Callable[[str], None] = print,
    ) -> "Experiment":
        """Starts a run: checks configuration and data, writes what later commands need.

        Args:
          exp: experiment folder with ``task_conf.json`` and ``data_struct.json``; the schema may
            lie beside the training records instead.
          model_dir: folder of the run, default ``model_path`` of the configuration.
          overrides: ``key=value`` texts.
          report: takes a line of progress.

        Raises:
          ConfigError, DataError: something is wrong or missing; nothing was started.
        """
        config, ignored = config_lib.load(exp, overrides)
        if ignored:
            report(f"ignored keys of the original's engine: {', '.join(ignored)}")
        model_dir = model_dir or config.model_path
        if not model_dir:
            raise ConfigError(f"{exp}: give --model_dir or set model_path")
        if any(
            tf.io.gfile.exists(posixpath.join(model_dir, name))
            for name in (checkpoints.BEST, checkpoints.LATEST)
        ):
            raise ConfigError(f"{model_dir}: holds a run already; choose another --model_dir")
        schema = DataStruct.load(_schema_file(exp, config))
        layout = FeatureLayout.of(features_of(config), schema)
        for name in config.input_units:
            registry.input_unit(name)(config, layout)
        _check_user_column(config, schema)
        splits = [s for s in SPLITS if s == "train" or has_split(config, s)]
        files = {split: _files(config, schema, split) for split in splits}
        _refuse_overlap(files)
        for split in splits:
            report(f"{split}: {len(files[split])} files, {files[split][0]} … {files[split][-1]}")
            next(dataset.guarded(_first_record(files[split], schema), files[split], schema))
        tf.io.gfile.makedirs(model_dir)
        _settle_vocabulary(config, schema, layout, files["train"], model_dir, report)
        schema_text = json.dumps(schema.to_dict(), indent=2)
        records.write_text(posixpath.join(model_dir, _SCHEMA), schema_text + "\n")
        experiment = cls(config, schema, model_dir)
        config_text = config.model_dump_json(indent=2)
        records.write_text(posixpath.join(model_dir, _CONFIG), config_text + "\n")
        return experiment

    @classmethod
    def open(cls, model_dir: str, overrides: Sequence[str] = ()) -> "Experiment":
        """Loads a trained run with its best weights.

        Raises:
          ConfigError, DataError: the folder holds no trained run.
        """
        path = posixpath.join(model_dir, _CONFIG)
        if not tf.io.gfile.exists(path):
            raise ConfigError(f"{model_dir}: no trained run ({_CONFIG} is missing)")
        config, _ = config_lib.load(path, overrides)
        schema = DataStruct.load(posixpath.join(model_dir, _SCHEMA))
        experiment = cls(config, schema, model_dir)
        checkpoints.restore_weights(model_dir, experiment.model)
        return experiment

    @functools.cached_property
    def _predict(self):
        return predict_function(self.model)

    def train(self, report: Callable[[str], None] = print) -> TrainingResult:
        """Trains; afterwards the model holds the best weights.

        Raises:
          TrainingError: the loss is not finite.
        """
        config = self.config
        self.model.compile(*optimizers.build(config))
        step = tf.Variable(0, dtype=tf.int64, name="step")
        files = _files(config, self.schema, "train")
        trainer = Trainer(
            self.model,
            config,
            step,
            checkpoints.Checkpoints(self.model_dir, self.model, step, config.keep_checkpoint_max),
            posixpath.join(self.model_dir, "logs"),
            (lambda: self.score("valid").metrics()) if has_split(config, "valid") else None,
            report,
        )

        def epoch_batches(epoch: int) -> Iterator:
            shuffle = (config.shuffle_buffer_size, config.seed + epoch)
            return self._batches(files, config.batch_size, shuffle)

        return trainer.fit(epoch_batches, _count_examples(config, files))

    def score(self, split: str) -> Scores:
        """Scores a split in the order of its records.

        Raises:
          DataError: the split is not configured, empty or damaged.
        """
        files = _files(self.config, self.schema, split)
        return score(self._predict, self._batches(files, _EVALUATION_BATCH))

    def evaluate(self, splits: Sequence[str], write: bool = True) -> dict[str, dict]:
        """Metrics by split, written to ``metrics.json`` too, whose other entries stay."""
        results = {split: self.score(split).metrics() for split in splits}
        if write:
            write_metrics(self.model_dir, results)
        return results

    def export(self) -> str:
        """Writes ``export/<version>`` and returns that folder."""
        folder = posixpath.join(self.model_dir, "export")
        return export(self.model, self.schema, self.path, folder)

    def _batches(
        self, files: list[str], batch_size: int, shuffle: tuple[int, int] | None = None
    ) -> Iterator:
        batches = dataset.batches(
            files, self.schema, self.path, batch_size, self.config.user_column, shuffle
        )
        return dataset.guarded(batches, files, self.schema)


def has_split(config: TaskConfig, split: str) -> bool:
    """Whether the configuration names data for a split."""
    names = (f"{split}_data_path", f"{split}_data_start", f"{split}_data_end")
    return any(getattr(config, name) is not None for name in names)


def write_metrics(model_dir: str, entries: dict[str, Any]) -> None:
    """Adds entries to ``metrics.json`` of a run."""
    path = posixpath.join(model_dir, "metrics.json")
    there = read_json(path) if tf.io.gfile.exists(path) else {}
    records.write_text(path, json.dumps({**there, **entries}, indent=2) + "\n")


def find_experiment(exp: str) -> str:
    """The folder of an experiment, given as a path or by its name under ``exp/user1``.

    Raises:
      ConfigError: there is none; says where it was looked for.
    """
    root = posixpath.dirname(posixpath.dirname(__file__))
    tried = [exp]
    tried += [
        posixpath.join(base, "exp", "user1", exp)
        for base in (".", root, posixpath.join(sys.prefix, "share", "diffumin_tf"))
    ]
    for folder in tried:
        if tf.io.gfile.exists(posixpath.join(folder, "task_conf.json")):
            return folder
    raise ConfigError(f"--exp {exp!r}: no task_conf.json in {', '.join(tried)}")


def _files(config: TaskConfig, schema: DataStruct, split: str) -> list[str]:
    """The files of a split, after a look whether they were written with this schema."""
    path = getattr(config, f"{split}_data_path") or config.train_data_path
    if not has_split(config, split):
        raise DataError(f"the {split} split is not configured: set {split}_data_start and _end")
    start, end = getattr(config, f"{split}_data_start"), getattr(config, f"{split}_data_end")
    files = dataset.list_files(path, start, end, split)
    beside = posixpath.join(path, _SCHEMA)
    if tf.io.gfile.exists(beside):
        written, here = DataStruct.load(beside).to_dict(), schema.to_dict()
        for group in sorted(written.keys() | here.keys()):
            if written.get(group) != here.get(group):
                raise ConfigError(
                    f"{schema.source}: {group} differs from {beside}, with which the records "
                    f"were written: {here.get(group)} against {written.get(group)}"
                )
    return files


def _refuse_overlap(files: dict[str, list[str]]) -> None:
    """Raises ConfigError when a file belongs to two splits."""
    for one, other in itertools.combinations(files, 2):
        shared = sorted(set(files[one]) & set(files[other]))
        if shared:
            raise ConfigError(
                f"the {one} and {other} splits share {len(shared)} files ({shared[0]} …); set "
                f"{one}_data_start, {one}_data_end, {other}_data_start, {other}_data_end apart"
            )


def _check_user_column(config: TaskConfig, schema: DataStruct) -> None:
    known = schema.auxiliary_info + schema.cat_feature
    if config.user_column is not None and config.user_column not in known:
        raise ConfigError(
            f"user_column {config.user_column!r}: no such column in {schema.source}"
            f"{did_you_mean(config.user_column, known)}; null means that users are unknown"
        )


def _schema_file(exp: str, config: TaskConfig) -> str:
    tried = [posixpath.join(exp, _SCHEMA)]
    if config.train_data_path:
        tried.append(posixpath.join(config.train_data_path, _SCHEMA))
    for path in tried:
        if tf.io.gfile.exists(path):
            return path
    raise ConfigError(f"no schema: neither {' nor '.join(tried)} is there")


def _first_record(files: list[str], schema: DataStruct) -> tf.data.Dataset:
    """The first record of a split, parsed, so that a wrong schema shows before training."""
    first = dataset.read_records(files).take(1).batch(1)
    return first.map(lambda serialised: dataset.parse(schema, serialised))


def _settle_vocabulary(
    config: TaskConfig,
    schema: DataStruct,
    layout: FeatureLayout,
    files: list[str],
    model_dir: str,
    report: Callable[[str], None],
) -> None:
    """Puts the vocabulary into the run's folder: copied, or counted over the training split."""
    embedding = config.embedding
    if embedding.kind != "vocabulary":
        return
    path = posixpath.join(model_dir, _VOCABULARY)
    if embedding.path:
        try:
            tf.io.gfile.copy(embedding.path, path, overwrite=True)
        except tf.errors.OpError as error:
            raise ConfigError(
                f"embedding.path {embedding.path!r}: cannot be read: {error.message}"
            ) from None
        return
    counted = dataset.id_batches(files, schema, layout.fields + layout.behaviours)
    ids = vocabulary.write_vocabulary(
        path, dataset.guarded(counted, files, schema), embedding.min_count
    )
    report(f"vocabulary: {ids:,} ids seen {embedding.min_count} times or more")


def _row_mapping(config: TaskConfig, model_dir: str):
    if config.embedding.kind == "hash":
        return vocabulary.HashedRows(config.embedding.rows)
    return vocabulary.VocabularyRows(posixpath.join(model_dir, _VOCABULARY))


def _count_examples(config: TaskConfig, files: list[str]) -> int | None:
    """Samples of the training split by the manifest of `prepare`; None without one."""
    path = posixpath.join(config.train_data_path, "manifest.json")
    if not tf.io.gfile.exists(path):
        return None
    days = read_json(path).get("days", {})
    used = {posixpath.basename(posixpath.dirname(file)) for file in files}
    return sum(days[day]["examples"] for day in used if day in days) or None
