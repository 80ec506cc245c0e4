"""What is compared: the study file, or the same from the command line."""

import os
import posixpath
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from diffumin_tf.config.reading import parse_override
from diffumin_tf.config.strict import StrictModel, validate
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError, did_you_mean, did_you_mean_of
from diffumin_tf.files import read_json
from diffumin_tf.run.find import find_experiment

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[list[Seed], Field(min_length=1)]
Name = Annotated[str, Field(min_length=1)]

# Keys that the study itself sets for every run, and what sets them.
_RESERVED = {"seed": "seeds", "model_path": "--output"}


class Contender(StrictModel):
    """One row of the table: an experiment folder, and configuration keys with their values."""

    exp: Name
    set: dict[str, Any] = {}


class Study(StrictModel):
    """Which experiments are trained with which seeds, and what they are compared with.

    Attributes:
        set: configuration keys for all experiments; what one sets itself wins.
        choose: values to choose from, by configuration key. Every combination is trained, and the
            one of the best validation AUC is taken, for each experiment by itself.
        split: what the final runs are scored on. With `valid` no run has a test split at all.
        popularity_feature: candidate column whose sightings in the training split are its
            popularity; None takes the first candidate feature of the baseline.
    """

    experiments: Annotated[dict[Name, Contender], Field(min_length=1)]
    baseline: Name
    seeds: Seeds
    set: dict[str, Any] = {}
    choose: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    choose_seeds: Seeds = [1]
    split: Literal["test", "valid"] = "test"
    popularity_feature: str | None = None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "Study":
        if self.baseline not in self.experiments:
            near = did_you_mean_of(self.baseline, self.experiments)
            raise ValueError(f"baseline {self.baseline!r} is none of the experiments{near}")
        for key, seeds in (("seeds", self.seeds), ("choose_seeds", self.choose_seeds)):
            if len(seeds) != len({*seeds}):
                raise ValueError(f"{key} is {seeds}, but each may occur once")
        _check_keys("set", self.set)
        _check_keys("choose", self.choose)
        for name, contender in self.experiments.items():
            _check_keys(f"experiments.{name}.set", contender.set)
        both = sorted({*self.set} & {*self.choose})
        if both:
            raise ValueError(f"{both[0]!r} stands in set and in choose; keep one of them")
        return self


def read_study(path: str, overrides: Sequence[str] = (), rows: Sequence[str] = ()) -> Study:
    """Reads a study file.

    Args:
        path: the file; experiments are looked for relative to it first, then under `exp/user1`.
        overrides: win over `set` and `choose` of the file, but not over what an experiment sets.
        rows: the experiments to keep, all by default. The first is the baseline where that of the
            file is not kept.
    """
    study, given = validate(Study, read_json(path), path), dict(map(parse_override, overrides))
    experiments = {}
    for name in rows or study.experiments:
        if name not in study.experiments:
            raise ConfigError(f"{path}: no row {name!r}{did_you_mean_of(name, study.experiments)}")
        row = study.experiments[name]
        beside = os.path.normpath(os.path.join(os.path.dirname(path), row.exp))
        exp = find_experiment(row.exp, f"{path}: experiments.{name}.exp", beside)
        experiments[name] = {"exp": exp, "set": row.set}
    content = {
        **study.model_dump(),
        "experiments": experiments,
        "baseline": study.baseline if study.baseline in experiments else rows[0],
        "set": {**study.set, **given},
        "choose": {key: values for key, values in study.choose.items() if key not in given},
    }
    return validate(Study, content, f"{path} with --set {' '.join(overrides)}")


def study_of(
    exps: Sequence[str], seeds: str, baseline: str | None, overrides: Sequence[str] = ()
) -> Study:
    """The study that the short form of the command asks for; rows are named by their folders.

    Args:
        exps: experiment folders, or names under `exp/user1`.
        baseline: one of them, or the name of one; None takes the first.
    """
    names = [posixpath.basename(exp.rstrip("/")) for exp in exps]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--exp: {name!r} occurs twice; a study file can name them apart")
    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {seeds!r}: give whole numbers, as in 1,2,3") from None
    found = [{"exp": find_experiment(exp)} for exp in exps]
    content = {
        "experiments": dict(zip(names, found, strict=True)),
        "baseline": posixpath.basename((baseline or exps[0]).rstrip("/")),
        "seeds": numbers,
        "set": dict(map(parse_override, overrides)),
    }
    return validate(Study, content, "diffumin compare")


def _check_keys(where: str, keys: Iterable[str]) -> None:
    known = TaskConfig.model_fields
    for key in keys:
        first = key.partition(".")[0]
        if first in _RESERVED:
            raise ValueError(f"{where}: {key!r} is not set here; {_RESERVED[first]} does that")
        if first not in known:
            raise ValueError(f"{where}: unknown key {key!r}{did_you_mean(first, known)}")
