"""A run that is open: what `train`, `evaluate`, `predict` and `export` have in common."""

import dataclasses
import functools
import itertools
import posixpath
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from diffumin_tf import devices
from diffumin_tf.config.schema import SCHEMA_FILE, DataStruct
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import DataError
from diffumin_tf.evaluation.passthrough import Passthrough
from diffumin_tf.evaluation.report import prediction_table, write_predictions
from diffumin_tf.evaluation.scoring import Scores, predict_function, score, score_batch
from diffumin_tf.export.check import check_export
from diffumin_tf.export.inputs import SignatureInputs, recorded_inputs
from diffumin_tf.export.saved_model import export
from diffumin_tf.input import vocabulary
from diffumin_tf.input.damage import FileCheck
from diffumin_tf.input.dataset import EVALUATION_BATCH, Batches
from diffumin_tf.input.features import FeatureLayout, FeaturePath
from diffumin_tf.input.packed_rows import PackedRows
from diffumin_tf.input.splits import files_of
from diffumin_tf.input.unlabelled import refuse_labels, schema_for_scoring
from diffumin_tf.model import RankingModel, features_of
from diffumin_tf.paths import refuse_wildcards
from diffumin_tf.run import folder as run_folder
from diffumin_tf.run.find import with_stored_once
from diffumin_tf.run.setup import Report, check, prepare_folder
from diffumin_tf.training import checkpoints, strategy
from diffumin_tf.training.strategy import Distribution

_LOOKED_AT = 2 * EVALUATION_BATCH  # samples, for the rows that are missing


def create_run(
    exp: str, model_dir: str | None = None, overrides: Sequence[str] = (), report: Report = print
) -> "Run":
    """Starts a run, or goes on with one: checks everything, prepares its folder, opens it.

    Args:
        model_dir: default `model_path` of the configuration.
        report: takes lines; of several workers, the chief's alone.

    Raises:
        ConfigError, DataError: something is wrong or missing; nothing was started.
    """
    checked = check(exp, model_dir, overrides, report)
    prepare_folder(checked, report)
    return Run(
        checked.config, checked.schema, checked.model_dir, checked.distribution, checked.file_check
    )


def open_run(model_dir: str, overrides: Sequence[str] = ()) -> "Run":
    """Loads a trained run with its best weights, on one device.

    Raises:
        ConfigError, DataError: the folder holds no trained run.
    """
    refuse_wildcards(model_dir, "--model_dir")
    config = run_folder.load_config(model_dir, overrides)
    schema = DataStruct.load(posixpath.join(model_dir, SCHEMA_FILE))
    schema = with_stored_once(schema, config)
    run = Run(config, schema, model_dir)
    checkpoints.restore_weights(model_dir, run.model)
    return run


class Run:
    """A configuration, its schema, its model and the folder where its results go.

    `config` has the defaults of the devices that were found.
    """

    def __init__(
        self,
        config: TaskConfig,
        schema: DataStruct,
        model_dir: str,
        distribution: Distribution | None = None,
        file_check: FileCheck | None = None,
    ) -> None:
        devices.compute_reproducibly(config.deterministic)
        self.config = devices.with_defaults(config)
        self.schema = schema
        self.model_dir = model_dir
        self.distribution = distribution or strategy.one_device()
        self.file_check = file_check or FileCheck(schema, config.max_bad_records)
        self.path, self._rows = self.new_path()

    @functools.cached_property
    def model(self) -> RankingModel:
        """The ranking model on one device; its weights exist."""
        return self.new_model()

    def score(self, split: str) -> Scores:
        """Scores a split in the order of its records.

        Raises:
            DataError: the split is not configured, empty or damaged.
        """
        return score(self._predict, self.batches(split).epoch())

    def predict(
        self,
        split: str,
        output: str,
        header: bool = False,
        user: bool = False,
        passthrough: Sequence[str] = (),
    ) -> tuple[int, int]:
        """Scores a split batch by batch into a folder that must not exist; needs no labels.

        Args:
            header, user: as for `write_predictions` and `prediction_table`.
            passthrough: record keys that become further columns; they bring the header.

        Returns:
            Numbers of predictions, and of part files.

        Raises:
            ConfigError: another process is writing the folder.
            DataError: it exists, records are damaged, or a key is in none of them.
        """
        batches, keys = self.batches(split), Passthrough(self.schema, passthrough)
        schema = schema_for_scoring(self.schema, batches.files)
        check = FileCheck(schema, self.config.max_bad_records)
        batches = dataclasses.replace(batches, schema=schema, check=check, with_records=True)

        def tables() -> Iterator[pd.DataFrame]:
            first = 0
            for batch, records in batches.epoch():
                if not schema.label:
                    first = refuse_labels(self.schema, records, first)
                scores = score_batch(self._predict, batch)
                yield prediction_table(scores, user, keys.columns(records))
            keys.check()

        return write_predictions(tables(), output, header or bool(passthrough))

    def evaluate(self, splits: Sequence[str], write: bool = True) -> dict[str, dict]:
        """Metrics by split, written to `metrics.json` too, whose other entries stay."""
        results = {split: self.score(split).metrics() for split in splits}
        if write:
            run_folder.write_metrics(self.model_dir, results)
        return results

    def export(
        self, check: bool = False, keep: int | None = None, report: Report = lambda line: None
    ) -> str:
        """Writes `export/<version>` and returns that folder.

        Args:
            check: whether the version has to score as the model does before it appears.
            keep: versions to keep, this one among them; None keeps all.

        Raises:
            ExportError: the version does not.
            ConfigError: another export is writing.
            DataError: there are no records to check it with.
        """
        folder = posixpath.join(self.model_dir, "export")
        model, schema = self.model, self.schema
        requests = recorded_inputs(self.config, schema, model.layout, self.file_check)
        if check and requests is None:
            raise DataError(
                f"{self.model_dir}: --check needs records of one of the splits, and none can be "
                f"read below train_data_path {self.config.train_data_path}"
            )
        requests = requests or SignatureInputs.blank(schema, model.layout)
        report(f"warm-up: {requests.source}")

        def checked(version: str) -> None:
            compared = check_export(version, model, self.path, requests)
            report(f"checked {compared:,} scores of the warm-up and of {requests.source}")

        path, _ = self.new_path(PackedRows)
        return export(
            model, schema, path, folder, requests, checked if check else None, keep, report
        )

    def new_path(
        self, of_vocabulary: Callable[[str], tf.Module] = vocabulary.VocabularyRows
    ) -> tuple[FeaturePath, int]:
        """Raw tensors to model inputs, with a vocabulary of its own, and the rows of its table.

        Args:
            of_vocabulary: makes of a vocabulary file what maps ids to rows, if it is not hashing.
        """
        config = self.config
        if config.embedding.kind == "hash":
            rows_of = vocabulary.HashedRows(config.embedding.rows)
        else:
            path = posixpath.join(self.model_dir, run_folder.VOCABULARY)
            rows_of = of_vocabulary(path)
        layout = FeatureLayout.of(features_of(config), self.schema)
        path = FeaturePath(self.schema, layout, config.seq_len, rows_of, config.length_buckets)
        return path, rows_of.rows

    def new_model(self) -> RankingModel:
        """A model with initial weights, in the scope of the strategy that is in force."""
        tf.keras.utils.set_random_seed(self.config.seed)
        model = RankingModel(self.config, self.schema, self._rows)
        model.create_weights()
        return model

    def batches(self, split: str, distribution: Distribution | None = None, **order) -> Batches:
        """A split for the replicas of this process, on one device if no other is given.

        Args:
            order: of `Batches`; without any, batches for evaluation in the order of the records.
        """
        distribution = distribution or strategy.one_device()
        return Batches(
            files_of(self.config, self.schema, split),
            self.schema,
            self.path,
            user_column=self.config.user_column,
            part=distribution.part,
            check=self.file_check,
            distribute=distribution.distribute,
            **{"batch_size": EVALUATION_BATCH, **order},
        )

    @property
    def loaded(self) -> str:
        """One line: how many ids the vocabulary has, and how long it took to load."""
        rows_of = self.path.rows_of
        return f"vocabulary: {rows_of.rows - 1:,} ids, loaded in {rows_of.seconds:.1f} s"

    def rows_missing(self, split: str) -> str:
        """One line: how many candidates and users of a split have no row in the embedding table."""
        layout, found = FeatureLayout.of(features_of(self.config), self.schema), {}
        batches = itertools.islice(self.batches(split).epoch(), _LOOKED_AT // EVALUATION_BATCH)
        fields = np.concatenate([batch.fields.numpy() for batch in batches])
        for role in ("candidate", "user"):
            names = [name for name in layout.roles[role] if name in layout.fields]
            if names:
                column = fields[:, layout.fields.index(names[0])]
                found[f"{role}s ({names[0]})"] = f"{(column == 0).mean():.1%}"
        shares = " and ".join(f"{share} of the {what}" for what, share in found.items())
        return f"{split}: {shares} have no embedding row ({len(fields):,} samples looked at)"

    @functools.cached_property
    def _predict(self):
        return predict_function(self.model)
