"""The runs that a study consists of, their folders, and which settings it chooses by validation."""

import dataclasses
import hashlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from diffumin_tf.comparison.study import Study
from diffumin_tf.config import task as config_lib
from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.strict import validate
from diffumin_tf.config.task import REMOVED_KEYS, TaskConfig
from diffumin_tf.devices import with_defaults
from diffumin_tf.errors import ConfigError
from diffumin_tf.evaluation.scoring import Scores
from diffumin_tf.files import read_json, write_json
from diffumin_tf.input.kinds import with_kinds
from diffumin_tf.input.splits import SPLITS, files_of, has_split
from diffumin_tf.run import folder as run_folder
from diffumin_tf.run.find import schema_file, with_stored_once

# What lies in the folder of a cell.
REQUEST, RESULT, SCORES, LOG, RUN = "request.json", "cell.json", "scores.npz", "log.txt", "run"

_LONGEST_SLUG = 120
# With these, a run has no test split: whatever goes wrong, it cannot look at it.
_WITHOUT_TEST = {f"test_data_{what}": None for what in ("path", "start", "end")}

Choice = dict[str, Any]  # settings of an experiment from the grid of a study


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run: an experiment with its settings and a seed.

    Attributes:
        output: the folder of the comparison.
        experiment: its name in the study; `exp` is its folder.
        changes: configuration keys and values laid over those of the folder, the seed among them.
        choice: those of them that the grid gave.
        is_final: whether it is in the table; otherwise it is there to choose by.
        split: what it is judged by, `test` or `valid`; with the latter it has no test split.
    """

    output: str
    experiment: str
    exp: str
    changes: dict[str, Any]
    choice: Choice
    seed: int
    is_final: bool
    split: str

    @property
    def slug(self) -> str:
        """Name of its folder, which says what it is."""
        chosen = ",".join(f"{k}={json.dumps(v)}" for k, v in self.choice.items())
        parts = [self.experiment] + ([] if self.is_final else [f"choose_{chosen}"])
        whole = "__".join([*parts, f"seed{self.seed}"])
        slug = re.sub(r"[^A-Za-z0-9.,=_-]+", "-", whole)
        if len(slug) > _LONGEST_SLUG:
            slug = f"{slug[:_LONGEST_SLUG]}_{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
        return slug

    @property
    def path(self) -> str:
        return os.path.join(self.output, "cells", self.slug)

    def file(self, name: str) -> str:
        return os.path.join(self.path, name)

    @property
    def overrides(self) -> list[str]:
        return [f"{key}={json.dumps(value)}" for key, value in self.changes.items()]

    @property
    def config(self) -> TaskConfig:
        return config_lib.load(self.exp, self.overrides)[0]

    @property
    def is_finished(self) -> bool:
        return os.path.exists(self.file(RESULT))

    @property
    def result(self) -> dict[str, Any]:
        return read_json(self.file(RESULT))

    @property
    def valid_auc(self) -> float | None:
        """Validation AUC; None when it did not finish, or that split has one class alone."""
        return self.result["valid"]["auc"] if self.is_finished else None

    @property
    def scores(self) -> Scores:
        """Labels, predictions and users of the split that was scored for the table."""
        with np.load(self.file(SCORES)) as arrays:
            return Scores(**arrays)

    def prepare(self, report: Callable[[str], None]) -> None:
        """Readies the folder; what a cell with other settings left is put aside."""
        settings = self.config.model_dump(mode="json")
        differing = self._differing()
        if differing:
            # Hours of work are not lost by a slip.
            names = (f"{self.path}.before-{number}" for number in itertools.count(1))
            aside = next(name for name in names if not os.path.exists(name))
            os.rename(self.path, aside)
            kept = f"kept as {os.path.basename(aside)}, run anew"
            report(f"{self.path}: holds a run with other settings ({differing}); {kept}")
        os.makedirs(self.path, exist_ok=True)
        request = {
            "experiment": self.experiment,
            "exp": self.exp,
            "overrides": self.overrides,
            "seed": self.seed,
            "scored": self.split if self.is_final else None,
            "settings": settings,
        }
        write_json(self.file(REQUEST), request)

    def take_run_of(self, other: "Cell") -> None:
        """Copies what a cell trained whose settings differ in the test split alone.

        Nothing is copied if this cell has begun, or the other one has no finished run.
        """
        run, trained = self.file(RUN), other.file(RUN)
        if self.is_finished or os.path.exists(run):
            return
        if other.is_finished and run_folder.finished(trained):
            incomplete = self.file(f"{RUN}.incomplete")
            shutil.rmtree(incomplete, ignore_errors=True)
            shutil.copytree(trained, incomplete)
            run_folder.write_config(incomplete, self.config)
            os.rename(incomplete, run)

    def _differing(self) -> str:
        """In which settings the run that is in the folder differs, in words."""
        settings, as_given = _in_force(self.config), self.config.model_dump(mode="json")
        # Where results go changes nothing of what is learned; what is left to the device is right
        # as it was on the device of then.
        ignored = {"model_path", *(k for k, v in settings.items() if as_given[k] != v)}
        path = self.file(REQUEST)
        if not os.path.exists(path):
            return ""
        before = read_json(path)["settings"]
        before = {k: v for k, v in before.items() if k not in REMOVED_KEYS or v != REMOVED_KEYS[k]}
        try:  # a key that is new since then had its default
            before = _in_force(validate(TaskConfig, before, path))
        except ConfigError:
            pass
        return ", ".join(
            f"{key} {before.get(key)!r}, now {settings.get(key)!r}"
            for key in sorted(before.keys() | settings.keys())
            if key not in ignored and before.get(key) != settings.get(key)
        )


def _in_force(config: TaskConfig) -> dict[str, Any]:
    """All settings, with the defaults of the device: earlier versions wrote them down."""
    return with_defaults(config).model_dump(mode="json")


def grid(study: Study, experiment: str) -> list[Choice]:
    """The combinations an experiment chooses from; what it sets itself is not varied."""
    fixed = study.experiments[experiment].set
    varied = {k: values for k, values in study.choose.items() if k not in fixed}
    return [dict(zip(varied, v, strict=True)) for v in itertools.product(*varied.values())]


def choosing_cells(study: Study, output: str) -> list[Cell]:
    """The runs that settings are chosen by; none for an experiment that has no choice."""
    return [
        _cell(study, output, experiment, choice, seed, is_final=False)
        for seed in study.choose_seeds
        for experiment in study.experiments
        for choice in grid(study, experiment)
        if len(grid(study, experiment)) > 1
    ]


def final_cells(study: Study, output: str, chosen: Mapping[str, Choice]) -> list[Cell]:
    """The runs of the table, seed by seed: a study that is cut leaves whole comparisons."""
    return [
        _cell(study, output, experiment, chosen[experiment], seed, is_final=True)
        for seed in study.seeds
        for experiment in study.experiments
        if experiment in chosen
    ]


def _cell(
    study: Study, output: str, experiment: str, choice: Choice, seed: int, is_final: bool
) -> Cell:
    contender = study.experiments[experiment]
    changes = {**study.set, **choice, **contender.set, "seed": seed}
    split = study.split if is_final else "valid"
    if split == "valid":
        changes |= _WITHOUT_TEST
    return Cell(output, experiment, contender.exp, changes, choice, seed, is_final, split)


def check(study: Study) -> tuple[TaskConfig, DataStruct]:
    """Looks at every configuration and for every file before anything is trained.

    Returns:
        Configuration of the baseline before anything is chosen, and the schema of its records.
    """
    final = final_cells(study, "", {e: grid(study, e)[0] for e in study.experiments})
    by_slug: dict[str, Cell] = {}
    for cell in choosing_cells(study, "") + final:
        other = by_slug.setdefault(cell.slug, cell)
        if other is not cell:
            raise ConfigError(
                f"experiments {other.experiment!r} and {cell.experiment!r} would share the folder "
                f"{cell.slug}; name them differently"
            )
        if not has_split(cell.config, cell.split):
            raise ConfigError(
                f"experiment {cell.experiment!r}: no {cell.split} split in {cell.exp}; set "
                f"{cell.split}_data_start and {cell.split}_data_end"
            )
    of_experiment = {}
    for cell in final[: len(study.experiments)]:
        schema = DataStruct.load(schema_file(cell.exp, cell.config))
        schema = with_stored_once(schema, cell.config)
        for split in SPLITS:
            if has_split(cell.config, split):
                files = files_of(cell.config, schema, split)
                schema = with_kinds(schema, files) if split == "train" else schema
        of_experiment[cell.experiment] = cell.config, schema
    return of_experiment[study.baseline]


def choose(
    study: Study, choosing: Sequence[Cell]
) -> tuple[dict[str, Choice], dict[str, list[dict[str, Any]]]]:
    """Takes for every experiment the combination of the best mean validation AUC.

    Returns:
        By experiment: what was chosen (missing where a run failed), and what it was chosen from, as
        `{"settings": …, "valid_auc": [one a seed]}`. Among equals, the first in the grid wins.
    """
    chosen: dict[str, Choice] = {}
    tried: dict[str, list[dict[str, Any]]] = {}
    for experiment in study.experiments:
        choices = grid(study, experiment)
        if len(choices) == 1:
            chosen[experiment] = choices[0]
            continue
        runs = [cell for cell in choosing if cell.experiment == experiment]
        tried[experiment] = [
            {"settings": c, "valid_auc": [run.valid_auc for run in runs if run.choice == c]}
            for c in choices
        ]
        if all(None not in t["valid_auc"] for t in tried[experiment]):
            best = max(tried[experiment], key=lambda t: sum(t["valid_auc"]))
            chosen[experiment] = best["settings"]
    return chosen, tried
