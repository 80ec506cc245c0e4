"""The runs that a study consists of, and which settings it chooses by validation."""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diffumin_tf.comparison.study import Study
from diffumin_tf.config import task as config_lib
from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError
from diffumin_tf.input.splits import SPLITS, files_of, has_split
from diffumin_tf.run.setup import schema_file

_LONGEST_SLUG = 120
# With these, a run knows of no test split: whatever goes wrong, it cannot look at it.
_WITHOUT_TEST = {f"test_data_{what}": None for what in ("path", "start", "end")}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run: an experiment with its settings and a seed.

    Attributes:
        experiment: its name in the study.
        exp: the experiment's folder.
        changes: configuration keys and values laid over those of the folder, the seed among them.
        choice: what the grid gave it.
        seed: its seed.
        is_final: whether it is in the table; otherwise it is there to choose by.
        split: what it is judged by, `test` or `valid`; with the latter it has no test split.
    """

    experiment: str
    exp: str
    changes: dict[str, Any]
    choice: dict[str, Any]
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
    def overrides(self) -> tuple[str, ...]:
        """`changes` as `key=value` texts."""
        return tuple(f"{key}={json.dumps(value)}" for key, value in self.changes.items())

    def config(self) -> TaskConfig:
        """The resolved configuration.

        Raises:
            ConfigError: names file, key, value and the nearest valid key.
        """
        return config_lib.load(self.exp, self.overrides)[0]


def grid(study: Study, experiment: str) -> list[dict[str, Any]]:
    """The combinations an experiment chooses from; what it sets itself is not varied."""
    own = study.experiments[experiment].set
    varied = {k: values for k, values in study.choose.items() if k not in own}
    return [dict(zip(varied, v, strict=True)) for v in itertools.product(*varied.values())]


def choosing_cells(study: Study) -> list[Cell]:
    """The runs by which is chosen; none for an experiment that has no choice."""
    return [
        _cell(study, experiment, choice, seed, is_final=False)
        for seed in study.choose_seeds
        for experiment in study.experiments
        for choice in grid(study, experiment)
        if len(grid(study, experiment)) > 1
    ]


def final_cells(study: Study, chosen: Mapping[str, dict[str, Any]]) -> list[Cell]:
    """The runs of the table, seed by seed, so that a study that is cut leaves whole comparisons.

    Args:
        study: the study.
        chosen: by experiment, what it runs with; one that is missing has no runs.
    """
    return [
        _cell(study, experiment, chosen[experiment], seed, is_final=True)
        for seed in study.seeds
        for experiment in study.experiments
        if experiment in chosen
    ]


def check(study: Study) -> dict[str, tuple[TaskConfig, DataStruct]]:
    """Looks at every configuration and for every file before anything is trained.

    Returns:
        By experiment, its configuration before anything is chosen, and the schema of its records.

    Raises:
        ConfigError: a configuration is wrong, has no split to be judged by, or two would share a
            folder.
        DataError: there are no records.
    """
    first = {e: grid(study, e)[0] for e in study.experiments}
    final = final_cells(study, first)
    _check_each(choosing_cells(study) + final)
    found = {}
    for cell in final[: len(first)]:
        config = cell.config()
        schema = DataStruct.load(schema_file(cell.exp, config))
        for split in SPLITS:
            if has_split(config, split):
                files_of(config, schema, split)
        found[cell.experiment] = config, schema
    return found


def _check_each(cells: Sequence[Cell]) -> None:
    slugs: dict[str, Cell] = {}
    for cell in cells:
        other = slugs.setdefault(cell.slug, cell)
        if other is not cell:
            raise ConfigError(
                f"experiments {other.experiment!r} and {cell.experiment!r} would share the folder "
                f"{cell.slug}; name them differently"
            )
        if not has_split(cell.config(), cell.split):
            raise ConfigError(
                f"experiment {cell.experiment!r}: no {cell.split} split in {cell.exp}; set "
                f"{cell.split}_data_start and {cell.split}_data_end"
            )


def choose(
    study: Study, valid_auc: Callable[[Cell], float | None]
) -> tuple[dict[str, dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """Takes for every experiment the combination of the best mean validation AUC.

    Args:
        study: the study.
        valid_auc: of a run by which is chosen; None when it failed or has none.

    Returns:
        By experiment: what was chosen (missing where a run failed), and what it was chosen from, as
        `{"settings": …, "valid_auc": [one a seed]}`. Among equals, the first in the grid wins.
    """
    chosen: dict[str, dict[str, Any]] = {}
    tried: dict[str, list[dict[str, Any]]] = {}
    for experiment in study.experiments:
        choices = grid(study, experiment)
        if len(choices) == 1:
            chosen[experiment] = choices[0]
            continue
        tried[experiment] = [
            {"settings": choice, "valid_auc": _of_seeds(study, experiment, choice, valid_auc)}
            for choice in choices
        ]
        if all(None not in t["valid_auc"] for t in tried[experiment]):
            best = max(tried[experiment], key=lambda t: sum(t["valid_auc"]))
            chosen[experiment] = best["settings"]
    return chosen, tried


def _of_seeds(
    study: Study, experiment: str, choice: dict[str, Any], valid_auc: Callable
) -> Sequence[float | None]:
    seeds = study.choose_seeds
    return [valid_auc(_cell(study, experiment, choice, seed, is_final=False)) for seed in seeds]


def _cell(study: Study, experiment: str, choice: dict[str, Any], seed: int, is_final: bool) -> Cell:
    contender = study.experiments[experiment]
    changes = {**study.set, **choice, **contender.set, "seed": seed}
    split = study.split if is_final else "valid"
    if split == "valid":
        changes |= _WITHOUT_TEST
    return Cell(experiment, contender.exp, changes, choice, seed, is_final, split)
