"""What is compared: the study file, or the same from the command line."""

import json
import os
import posixpath
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from diffumin_tf.config.strict import StrictModel, validate
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError, did_you_mean
from diffumin_tf.files import read_json
from diffumin_tf.run.experiment import find_experiment

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[list[Seed], Field(min_length=1)]
Name = Annotated[str, Field(min_length=1)]

# The study itself says these for every cell.
_TAKEN = {"seed": "seeds", "model_path": "--output"}


class Contender(StrictModel):
    """One row of the table.

    Attributes:
        exp: experiment folder, relative to the study file, or its name under `exp/user1`.
        set: configuration keys and their values, which win over those of the study.
    """

    exp: Name
    set: dict[str, Any] = {}


class Study(StrictModel):
    """Which experiments are trained with which seeds, and what they are compared with.

    Attributes:
        experiments: rows of the table by their names, in their order.
        baseline: the row from which differences are taken.
        seeds: one run of every experiment for each.
        set: configuration keys for all experiments.
        choose: values to choose from, by configuration key. Every combination is trained, and the
            one of the best validation AUC is taken, for each experiment by itself.
        choose_seeds: seeds of the runs by which is chosen.
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
            near = did_you_mean(self.baseline, self.experiments)
            raise ValueError(
                f"baseline {self.baseline!r} is none of the experiments"
                f"{near or '; they are: ' + ', '.join(self.experiments)}"
            )
        for key, seeds in (("seeds", self.seeds), ("choose_seeds", self.choose_seeds)):
            if len(seeds) != len({*seeds}):
                raise ValueError(f"{key} is {seeds}, but each may stand there once")
        for where, keys in self._settings():
            _check_keys(where, keys)
        both = sorted({*self.set} & {*self.choose})
        if both:
            raise ValueError(f"{both[0]!r} stands in set and in choose; keep one of them")
        return self

    def _settings(self) -> Iterable[tuple[str, Iterable[str]]]:
        yield "set", self.set
        yield "choose", self.choose
        for name, contender in self.experiments.items():
            yield f"experiments.{name}.set", contender.set


def read_study(path: str, overrides: Sequence[str] = ()) -> Study:
    """Reads a study file.

    Args:
        path: the file; experiments are looked for relative to it first.
        overrides: `key=value` texts for all experiments, which win over `set` and `choose` of
            the file, but not over what an experiment sets for itself.

    Raises:
        ConfigError: names file, key, value and the nearest valid key.
    """
    study = validate(Study, read_json(path), path)
    found = {
        name: contender.model_copy(update={"exp": _find(path, name, contender.exp)})
        for name, contender in study.experiments.items()
    }
    given = _parsed(overrides)
    return study.model_copy(
        update={
            "experiments": found,
            "set": {**study.set, **given},
            "choose": {k: v for k, v in study.choose.items() if k not in given},
        }
    )


def study_of(
    exps: Sequence[str], seeds: str, baseline: str | None, overrides: Sequence[str] = ()
) -> Study:
    """The study that the short form of the command asks for.

    Args:
        exps: experiment folders, or names under `exp/user1`; rows are named by the folders.
        seeds: numbers with commas between them.
        baseline: one of them, or of the names; None takes the first.
        overrides: `key=value` texts for all.

    Raises:
        ConfigError: says what is wrong.
    """
    names = [posixpath.basename(exp.rstrip("/")) for exp in exps]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--exp: {name!r} is there twice; a study file can name them apart")
    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {seeds!r}: give whole numbers, as in 1,2,3") from None
    baseline = names[0] if baseline is None else posixpath.basename(baseline.rstrip("/"))
    content = {
        "experiments": {
            name: {"exp": find_experiment(exp)} for name, exp in zip(names, exps, strict=True)
        },
        "baseline": baseline,
        "seeds": numbers,
        "set": _parsed(overrides),
    }
    return validate(Study, content, "diffumin compare")


def as_overrides(settings: dict[str, Any]) -> tuple[str, ...]:
    """Settings as `key=value` texts."""
    return tuple(f"{key}={json.dumps(value)}" for key, value in settings.items())


def _find(path: str, name: str, exp: str) -> str:
    beside = os.path.normpath(os.path.join(os.path.dirname(path), exp))
    return find_experiment(exp, f"{path}: experiments.{name}.exp", beside)


def _parsed(overrides: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts as settings, read as `config.load` reads them."""
    settings = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {override!r}: must read key=value")
        try:
            settings[key.strip()] = json.loads(text)
        except json.JSONDecodeError:
            settings[key.strip()] = text
    try:
        _check_keys("--set", settings)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return settings


def _check_keys(where: str, keys: Iterable[str]) -> None:
    known = TaskConfig.model_fields
    for key in keys:
        first = key.partition(".")[0]
        if first in _TAKEN:
            raise ValueError(f"{where}: {key!r} is not set here; {_TAKEN[first]} does that")
        if first not in known:
            raise ValueError(f"{where}: unknown key {key!r}{did_you_mean(first, known)}")
