"""A run and its folder: what `train`, `evaluate`, `predict` and `export` have in common."""

import functools
import json
import posixpath
import sys
from collections.abc import Callable, Sequence

import tensorflow as tf

from diffumin_tf import registry
from diffumin_tf.config import task as config_lib
from diffumin_tf.config.schema import SCHEMA_FILE, DataStruct
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.evaluation.scoring import Scores, predict_function, score
from diffumin_tf.export.check import check_export
from diffumin_tf.export.inputs import SignatureInputs, recorded_inputs
from diffumin_tf.export.saved_model import export
from diffumin_tf.files import write_text
from diffumin_tf.input.damage import FileCheck
from diffumin_tf.input.dataset import EVALUATION_BATCH, Batches
from diffumin_tf.input.features import FeatureLayout, FeaturePath
from diffumin_tf.input.splits import files_of
from diffumin_tf.model import RankingModel, features_of
from diffumin_tf.run import folder as run_folder
from diffumin_tf.run import setup as run_setup
from diffumin_tf.run.training import RunTraining
from diffumin_tf.training import checkpoints, strategy
from diffumin_tf.training.loop import TrainingResult
from diffumin_tf.training.strategy import Distribution


class Experiment:
    """A configuration, its schema, its model and the folder where its results go.

    Build one with `create` (a run, new or to be continued) or `open` (a trained one).

    Attributes:
        config: the resolved configuration.
        schema: columns of a record.
        model_dir: folder of the run.
        distribution: devices and machines that train it.
        path: raw tensors to model inputs.
        check: what is known of damaged record files.
    """

    def __init__(
        self,
        config: TaskConfig,
        schema: DataStruct,
        model_dir: str,
        distribution: Distribution | None = None,
        check: FileCheck | None = None,
    ) -> None:
        self.config = config
        self.schema = schema
        self.model_dir = model_dir
        self.distribution = distribution or strategy.one_device()
        run_setup.compute_reproducibly(config.deterministic)
        self._rows_of = run_setup.row_mapping(config, model_dir)
        self.path = self.new_path(self._rows_of)
        self.check = check or FileCheck(schema, config.max_bad_records)

    @functools.cached_property
    def model(self) -> RankingModel:
        """The ranking model on one device; its weights exist."""
        return self.new_model()

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
            exp: experiment folder with `task_conf.json` and `data_struct.json`; the schema may
                lie beside the training records instead.
            model_dir: folder of the run, default `model_path` of the configuration.
            overrides: `key=value` texts.
            report: takes a line of progress; of several workers, the chief's alone.

        Raises:
            ConfigError, DataError: something is wrong or missing; nothing was started.
        """
        config, ignored = config_lib.load(exp, overrides)
        distribution = strategy.from_config(config, report)
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
        check = FileCheck(schema, config.max_bad_records, report)
        files = run_setup.checked_splits(config, schema, distribution, check, report)
        begun = run_folder.is_run(model_dir) and checkpoints.has_any(model_dir)
        if not begun:
            run_setup.check_earlier_run(config)
        if distribution.is_chief and begun:
            run_folder.check_continues(model_dir, config, report)
        elif distribution.is_chief:
            tf.io.gfile.makedirs(model_dir)
            run_folder.mark_unfinished(model_dir)
            run_setup.settle_vocabulary(config, schema, layout, files, check, model_dir, report)
            schema_text = json.dumps(schema.to_dict(), indent=2)
            write_text(posixpath.join(model_dir, SCHEMA_FILE), schema_text + "\n")
        distribution.wait_for_all()
        experiment = cls(config, schema, model_dir, distribution, check)
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
        """Trains from the last checkpoint, if any, to the end; the chief loads the best weights.

        Raises:
            TrainingError: the loss is not finite, the disk is full, or a worker is lost.
            Preempted: the process was told to end; everything is saved.
        """
        report = report if self.distribution.is_chief else _silent
        result = RunTraining(self, report).to_the_end()
        if self.distribution.is_chief:
            checkpoints.restore_weights(self.model_dir, self.model)
        return result

    def score(self, split: str) -> Scores:
        """Scores a split in the order of its records.

        Raises:
            DataError: the split is not configured, empty or damaged.
        """
        return score(self._predict, self.batches(split).epoch())

    def evaluate(self, splits: Sequence[str], write: bool = True) -> dict[str, dict]:
        """Metrics by split, written to `metrics.json` too, whose other entries stay."""
        results = {split: self.score(split).metrics() for split in splits}
        if write:
            run_folder.write_metrics(self.model_dir, results)
        return results

    def export(
        self,
        check: bool = False,
        keep: int | None = None,
        report: Callable[[str], None] = lambda line: None,
    ) -> str:
        """Writes `export/<version>` and returns that folder.

        Args:
            check: whether the version has to score as the model does before it appears.
            keep: versions to keep, this one among them; None keeps all.
            report: takes a line of progress.

        Raises:
            ExportError: the version does not, or another export is writing.
            DataError: there are no records to check it with.
        """
        folder = posixpath.join(self.model_dir, "export")
        requests = recorded_inputs(self.config, self.schema, self.model.layout)
        if check and requests is None:
            raise DataError(
                f"{self.model_dir}: --check needs records of one of the splits, and none can be "
                f"read below train_data_path {self.config.train_data_path}"
            )

        requests = requests or SignatureInputs.blank(self.schema, self.model.layout)
        report(f"warm-up: {requests.source}")

        def checked(version: str) -> None:
            compared = check_export(version, self.model, self.path, requests)
            report(f"checked {compared:,} scores of the warm-up and of {requests.source}")

        return export(
            self.model,
            self.schema,
            self.path,
            folder,
            requests,
            checked if check else None,
            keep,
            report,
        )

    def new_path(self, rows_of: Callable[[tf.Tensor], tf.Tensor]) -> FeaturePath:
        """Raw tensors to model inputs, with a mapping of ids to rows."""
        layout = FeatureLayout.of(features_of(self.config), self.schema)
        return FeaturePath(self.schema, layout, self.config.seq_len, rows_of, self.config.buckets)

    def new_model(self) -> RankingModel:
        """A model with initial weights, in the scope of the strategy that is in force."""
        tf.keras.utils.set_random_seed(self.config.seed)
        model = RankingModel(self.config, self.schema, self._rows_of.rows)
        model.create_weights()
        return model

    def batches(
        self,
        split: str,
        batch_size: int = EVALUATION_BATCH,
        distribution: Distribution | None = None,
    ) -> Batches:
        """A split in the order of its records; on one device if no other is given."""
        distribution = distribution or strategy.one_device()
        return Batches(
            files_of(self.config, self.schema, split),
            self.schema,
            self.path,
            batch_size,
            self.config.user_column,
            part=distribution.part,
            check=self.check,
            distribute=distribution.distribute,
        )

    @functools.cached_property
    def _predict(self):
        return predict_function(self.model)


def find_experiment(exp: str, asked: str = "--exp", first: str | None = None) -> str:
    """The folder of an experiment, given as a path or by its name under `exp/user1`.

    Args:
        exp: path or name.
        asked: where it was given, for the message.
        first: a folder to try before all others.

    Raises:
        ConfigError: there is none; says where it was looked for.
    """
    root = posixpath.dirname(posixpath.dirname(posixpath.dirname(__file__)))
    tried = [exp] if first is None else [first, exp]
    tried += [
        posixpath.join(base, "exp", "user1", exp)
        for base in (".", root, posixpath.join(sys.prefix, "share", "diffumin_tf"))
    ]
    for folder in tried:
        if tf.io.gfile.exists(posixpath.join(folder, "task_conf.json")):
            return folder
    tried = list(dict.fromkeys(tried))
    raise ConfigError(f"{asked} {exp!r}: no task_conf.json in {', '.join(tried)}")


def find_expected(path: str) -> str:
    """An `expected.json`, given by its path, or by its experiment as `find_experiment` takes it.

    Raises:
        ConfigError: there is no such experiment.
    """
    return path if path.endswith(".json") else find_experiment(path)


def _silent(line: str) -> None:
    """Takes the lines of all processes but the chief."""
