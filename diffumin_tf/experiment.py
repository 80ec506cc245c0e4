"""A run and its folder: what `train`, `evaluate`, `predict` and `export` have in common."""

import contextlib
import functools
import json
import posixpath
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from diffumin_tf import config as config_lib
from diffumin_tf import registry, run_folder, run_setup
from diffumin_tf.config import TaskConfig
from diffumin_tf.data import records
from diffumin_tf.data.damage import Repairs
from diffumin_tf.data.features import FeatureLayout, FeaturePath
from diffumin_tf.data_struct import SCHEMA_FILE, DataStruct
from diffumin_tf.errors import ConfigError, TrainingError
from diffumin_tf.evaluation.scoring import ReplicaScorer, Scores, predict_function, score
from diffumin_tf.model import RankingModel, features_of
from diffumin_tf.serving.export import export
from diffumin_tf.splits import (
    count_examples,
    files_of,
    has_split,
)
from diffumin_tf.training import checkpoints, optimizers, strategy
from diffumin_tf.training.batches import Batches, EpochBatches
from diffumin_tf.training.preemption import Preemption
from diffumin_tf.training.run_lock import run_lock
from diffumin_tf.training.state import TrainingState
from diffumin_tf.training.strategy import Distribution
from diffumin_tf.training.summaries import Summaries
from diffumin_tf.training.trainer import Trainer, TrainingResult
from diffumin_tf.training.warm_start import warm_start

_EVALUATION_BATCH = 1024


class Experiment:
    """A configuration, its schema, its model and the folder where its results go.

    Build one with `create` (a run, new or to be continued) or `open` (a trained one).

    Attributes:
      config: the resolved configuration.
      schema: columns of a record.
      model_dir: folder of the run.
      distribution: devices and machines that train it.
    """

    def __init__(
        self,
        config: TaskConfig,
        schema: DataStruct,
        model_dir: str,
        distribution: Distribution | None = None,
        repairs: Repairs | None = None,
    ) -> None:
        self.config = config
        self.schema = schema
        self.model_dir = model_dir
        self.distribution = distribution or strategy.one_device()
        tf.config.experimental.enable_op_determinism()
        self._rows_of = run_setup.row_mapping(config, model_dir)
        layout = FeatureLayout.of(features_of(config), schema)
        self.path = FeaturePath(schema, layout, config.seq_len, self._rows_of, config.buckets)
        self._repairs = repairs or run_setup.repairs(
            config, schema, model_dir, self.distribution, print
        )

    @functools.cached_property
    def model(self) -> RankingModel:
        """The ranking model on one device; its weights exist."""
        return self._new_model()

    @classmethod
    def create(
        cls,
        exp: str,
        model_dir: str | None = None,
        overrides: Sequence[str] = (),
        report: Callable[[str], None] = print,
    ) -> "Experiment":
        """Starts a run or goes on with one: checks everything, writes what later commands need.

        Args:
          exp: experiment folder with ``task_conf.json`` and ``data_struct.json``; the schema may
            lie beside the training records instead.
          model_dir: folder of the run, default ``model_path`` of the configuration.
          overrides: ``key=value`` texts.
          report: takes a line of progress; of several workers, the chief's alone.

        Raises:
          ConfigError, DataError: something is wrong or missing; nothing was started.
        """
        config, ignored = config_lib.load(exp, overrides)
        distribution = strategy.from_config(config)
        report = report if distribution.is_chief else _silent
        if ignored:
            report(f"ignored keys of the original's engine: {', '.join(ignored)}")
        model_dir = model_dir or config.model_path
        if not model_dir:
            raise ConfigError(f"{exp}: give --model_dir or set model_path")
        schema = DataStruct.load(run_setup.schema_file(exp, config))
        layout = FeatureLayout.of(features_of(config), schema)
        for name in config.input_units:
            registry.input_unit(name)(config, layout)
        run_setup.check_user_column(config, schema)
        run_setup.check_earlier_run(config)
        repairs = run_setup.repairs(config, schema, model_dir, distribution, report)
        files = run_setup.checked_splits(config, schema, distribution, repairs, report)
        if distribution.is_chief:
            with run_lock(model_dir):
                if run_folder.is_run(model_dir):
                    run_folder.check_continues(model_dir, config, report)
                else:
                    run_setup.settle_vocabulary(
                        config, schema, layout, files, repairs, model_dir, report
                    )
                    schema_text = json.dumps(schema.to_dict(), indent=2)
                    records.write_text(posixpath.join(model_dir, SCHEMA_FILE), schema_text + "\n")
        with _lost_workers(distribution):
            distribution.wait_for_all()
        experiment = cls(config, schema, model_dir, distribution, repairs)
        if distribution.is_chief:
            run_folder.write_config(model_dir, config)
        return experiment

    @classmethod
    def open(cls, model_dir: str, overrides: Sequence[str] = ()) -> "Experiment":
        """Loads a trained run with its best weights, on one device.

        Raises:
          ConfigError, DataError: the folder holds no trained run.
        """
        config = run_folder.load_config(model_dir, overrides)
        schema = DataStruct.load(posixpath.join(model_dir, SCHEMA_FILE))
        experiment = cls(config, schema, model_dir)
        checkpoints.restore_weights(model_dir, experiment.model)
        return experiment

    def train(self, report: Callable[[str], None] = print) -> TrainingResult:
        """Trains from the last checkpoint, if any, to the end; then loads the best weights.

        Raises:
          TrainingError: the loss is not finite, the disk is full, or a worker is lost.
          Preempted: the process was told to end; everything is saved.
        """
        report = report if self.distribution.is_chief else _silent
        with contextlib.ExitStack() as stack:
            if self.distribution.is_chief:
                stack.enter_context(run_lock(self.model_dir))
                checkpoints.clean(self.model_dir)
            preemption = stack.enter_context(Preemption().watched())
            stack.enter_context(_lost_workers(self.distribution))
            result = self._trainer(preemption, report).fit(self._epochs())
        checkpoints.restore_weights(self.model_dir, self.model)
        return result

    def score(self, split: str) -> Scores:
        """Scores a split in the order of its records.

        Raises:
          DataError: the split is not configured, empty or damaged.
        """
        files = files_of(self.config, self.schema, split)
        batches = self._batches(strategy.one_device())
        return score(self._predict, batches.read(files, _EVALUATION_BATCH))

    def evaluate(self, splits: Sequence[str], write: bool = True) -> dict[str, dict]:
        """Metrics by split, written to ``metrics.json`` too, whose other entries stay."""
        results = {split: self.score(split).metrics() for split in splits}
        if write:
            run_folder.write_metrics(self.model_dir, results)
        return results

    def export(self) -> str:
        """Writes ``export/<version>`` and returns that folder."""
        folder = posixpath.join(self.model_dir, "export")
        return export(self.model, self.schema, self.path, folder)

    @functools.cached_property
    def _predict(self):
        return predict_function(self.model)

    def _new_model(self) -> RankingModel:
        tf.keras.utils.set_random_seed(self.config.seed)
        model = RankingModel(self.config, self.schema, self._rows_of.rows)
        model.create_weights()
        return model

    def _trainer(self, preemption: Preemption, report: Callable[[str], None]) -> Trainer:
        """A trainer at the place where the run is."""
        config, spread = self.config, self.distribution
        with spread.strategy.scope():
            model = self.model if spread.replicas == 1 else self._new_model()
            optimizers.compile_model(model, config)
        state = TrainingState()
        worker = None if spread.is_chief else spread.name
        saved = checkpoints.Checkpoints(
            self.model_dir, model, state, config.keep_checkpoint_max, worker
        )
        if saved.restore(report):
            report(f"going on from step {state.step}, epoch {state.epoch + 1}")
        elif config.pretrain_model_dir:
            with spread.strategy.scope():
                self._start_from_earlier_run(model, report)
        logs = posixpath.join(self.model_dir, "logs")
        return Trainer(
            model,
            config,
            state,
            saved,
            Summaries(logs if spread.is_chief else None),
            self._validation(model) if has_split(config, "valid") else None,
            spread,
            preemption,
            report,
        )

    def _start_from_earlier_run(self, model: RankingModel, report: Callable[[str], None]) -> None:
        config = self.config
        vocabulary_path = None
        if config.embedding.kind == "vocabulary":
            vocabulary_path = posixpath.join(self.model_dir, run_folder.VOCABULARY)
        taken = warm_start(
            model, config.pretrain_model_dir, config.vars_to_warm_start, vocabulary_path
        )
        report(
            f"starting from {config.pretrain_model_dir}: {len(taken.copied)} variables, "
            f"{taken.rows_kept:,} rows of the table kept and {taken.rows_new:,} new"
            + ("" if taken.with_slots else "; the optimisers start afresh")
        )

    def _epochs(self) -> EpochBatches:
        files = files_of(self.config, self.schema, "train")
        batches = self._batches(self.distribution)
        return EpochBatches(batches, self.config, files, count_examples(self.config, files))

    def _validation(self, model: RankingModel) -> Callable[[], dict[str, Any]]:
        """Metrics of the validation split by all replicas of a model."""
        if self.distribution.replicas == 1:
            return lambda: self.score("valid").metrics()
        scorer = ReplicaScorer(model, self.distribution.strategy)
        files = files_of(self.config, self.schema, "valid")

        def validate() -> dict[str, Any]:
            batches = self._batches(self.distribution)
            read = batches.read(files, _EVALUATION_BATCH)
            return scorer(read, lambda: batches.spec).metrics()

        return validate

    def _batches(self, distribution: Distribution) -> Batches:
        return Batches(self.config, self.schema, self.path, distribution, self._repairs)


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


def _silent(line: str) -> None:
    """Takes the lines of all processes but the chief."""


@contextlib.contextmanager
def _lost_workers(distribution: Distribution) -> Iterator[None]:
    """Turns what a process meets when another one is gone into one clear error."""
    try:
        yield
    except tf.errors.OpError as error:
        if distribution.workers == 1:
            raise
        raise TrainingError(
            f"{distribution.name}: another task of the cluster is lost, or failed before this one: "
            f"{error.message.splitlines()[0][:300]}\nstart all tasks again with the same command; "
            "they go on from the last checkpoint"
        ) from None
