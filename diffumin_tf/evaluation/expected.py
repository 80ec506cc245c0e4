"""`expected.json`: what a fresh run of an experiment should reach, kept as data and checked."""

import posixpath
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
import tensorflow as tf
from pydantic import Field, PositiveInt

from diffumin_tf.config.strict import StrictModel, validate
from diffumin_tf.errors import DiffuminError
from diffumin_tf.files import read_json

EXPECTED_FILE = "expected.json"

# Seeds vary less in a handful of runs than in many.
_DEVIATIONS, _LEAST_TOLERANCE = 3.0, 0.002
_DIGITS = 4

Metric = Literal["auc", "gauc", "logloss", "calibration"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Tolerance = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class NotAsExpected(DiffuminError):
    """A metric lies outside of its tolerance."""


class Expected(StrictModel):
    """Test metrics of an experiment, and how far a run may be from them.

    Attributes:
        test: mean of each metric over runs.
        tolerance: largest allowed distance from it, for the same metrics.
        runs: how many runs it was taken from, with different seeds.
        command: what made them.
    """

    test: Annotated[dict[Metric, Finite], Field(min_length=1)]
    tolerance: dict[Metric, Tolerance]
    runs: PositiveInt
    command: Annotated[str, Field(min_length=1)]

    @pydantic.model_validator(mode="after")
    def _same_metrics(self) -> "Expected":
        if self.test.keys() != self.tolerance.keys():
            raise ValueError(
                f"tolerance is for {', '.join(self.tolerance) or 'nothing'}, but test has "
                f"{', '.join(self.test)}"
            )
        return self


def read_expected(path: str) -> Expected:
    """Reads an `expected.json`, or that of an experiment's folder.

    Raises:
        ConfigError: names file, key, value and what would be right.
    """
    if tf.io.gfile.isdir(path):
        path = posixpath.join(path, EXPECTED_FILE)
    return validate(Expected, read_json(path), path)


def check(expected: Expected, found: Mapping[str, float | None]) -> list[str]:
    """Compares the test metrics of a run.

    Returns:
        A line for each metric, as expected.

    Raises:
        NotAsExpected: a line for each metric that lies outside of its tolerance, or is not known.
    """
    lines, outside = [], []
    for metric, value in expected.test.items():
        own, tolerance = found.get(metric), expected.tolerance[metric]
        wanted = f"{value:.{_DIGITS}f} ± {tolerance:.{_DIGITS}f} ({expected.runs} runs)"
        if own is None:
            outside.append(f"test {metric} is not known; expected {wanted}")
        elif abs(own - value) > tolerance:
            outside.append(f"test {metric} {own:.{_DIGITS}f} is not as expected: {wanted}")
        else:
            lines.append(f"test {metric} {own:.{_DIGITS}f} is as expected: {wanted}")
    if outside:
        raise NotAsExpected("\n".join(outside))
    return lines


def expected_of(entry: Mapping[str, Any], command: str) -> dict[str, Any]:
    """The content of an `expected.json` from an experiment of a `comparison.json`.

    The tolerance is three standard deviations between seeds, and 0.002 at least.

    Args:
        entry: of one experiment, under `experiments`.
        command: what made the runs.
    """
    known = {m: entry["test"][m] for m in ("auc", "gauc") if entry["test"][m]}
    return {
        "test": {m: round(stat["mean"], _DIGITS) for m, stat in known.items()},
        "tolerance": {
            m: round(max(_DEVIATIONS * (stat["sd"] or 0.0), _LEAST_TOLERANCE), _DIGITS)
            for m, stat in known.items()
        },
        "runs": len(entry["seeds"]),
        "command": command,
    }
