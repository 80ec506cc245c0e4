"""Figures that a fresh run should reach, kept as data beside experiments and studies."""

import posixpath
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
import tensorflow as tf
from pydantic import Field, FiniteFloat, PositiveInt

from diffumin_tf.config.strict import StrictModel, validate
from diffumin_tf.errors import ConfigError, DiffuminError, did_you_mean_of
from diffumin_tf.files import read_json

# Seeds vary less in a handful of runs than in many.
_DEVIATIONS, _LEAST_TOLERANCE = 3.0, 0.002
_DIGITS = 4

Metric = Literal["auc", "gauc", "logloss", "calibration"]


class NotAsExpected(DiffuminError):
    """A metric lies outside of its tolerance."""


class Expected(StrictModel):
    """Test metrics of an experiment, and how far a run may be from them.

    Attributes:
        test: mean of each metric over runs.
        tolerance: largest allowed distance from it, for the same metrics.
        runs: number of runs with different seeds that the means are of.
        chosen: settings that a study chose for these runs.
    """

    test: Annotated[dict[Metric, FiniteFloat], Field(min_length=1)]
    tolerance: dict[Metric, Annotated[FiniteFloat, Field(gt=0.0)]]
    runs: PositiveInt
    chosen: dict[str, Any] = {}
    command: Annotated[str, Field(min_length=1)]

    @pydantic.model_validator(mode="after")
    def _same_metrics(self) -> "Expected":
        if self.test.keys() != self.tolerance.keys():
            raise ValueError(
                f"tolerance is for {', '.join(self.tolerance) or 'nothing'}, but test has "
                f"{', '.join(self.test)}"
            )
        return self


def read_expected(path: str, row: str | None = None) -> Expected:
    """Reads the expected figures of an experiment, or of one row of a study.

    Args:
        path: without `row`, an `expected.json` or the folder of its experiment; with `row`, a
            study `NAME.json`, whose figures lie beside it in `NAME.expected.json`.
    """
    if row is None:
        path = posixpath.join(path, "expected.json") if tf.io.gfile.isdir(path) else path
        return validate(Expected, read_json(path), path)
    path = path.removesuffix(".json").removesuffix(".expected") + ".expected.json"
    rows = read_json(path)
    if row not in rows:
        raise ConfigError(f"{path}: no row {row!r}{did_you_mean_of(row, rows)}")
    return validate(Expected, rows[row], f"{path}: {row}")


def check(expected: Expected, found: Mapping[str, float | None]) -> list[str]:
    """Compares the test metrics of a run; returns a line for each metric.

    Raises:
        NotAsExpected: a line for each metric that lies outside of its tolerance, or is not known.
    """
    lines, outside = [], []
    for metric, mean in expected.test.items():
        value, tolerance = found.get(metric), expected.tolerance[metric]
        wanted = f"{mean:.{_DIGITS}f} ± {tolerance:.{_DIGITS}f} ({expected.runs} runs)"
        if value is None:
            outside.append(f"test {metric} is not known; expected {wanted}")
        elif abs(value - mean) > tolerance:
            outside.append(f"test {metric} {value:.{_DIGITS}f} is not as expected: {wanted}")
        else:
            lines.append(f"test {metric} {value:.{_DIGITS}f} is as expected: {wanted}")
    if outside:
        raise NotAsExpected("\n".join(outside))
    return lines


def expected_of(entry: Mapping[str, Any], command: str) -> dict[str, Any]:
    """The content of an `expected.json`: tolerances of three standard deviations between seeds.

    Args:
        entry: of one experiment, under `experiments` of a `comparison.json`.
    """
    known = {m: entry["test"][m] for m in ("auc", "gauc") if entry["test"][m]}
    return {
        "test": {m: round(stat["mean"], _DIGITS) for m, stat in known.items()},
        "tolerance": {
            m: round(max(_DEVIATIONS * (stat["sd"] or 0.0), _LEAST_TOLERANCE), _DIGITS)
            for m, stat in known.items()
        },
        "runs": len(entry["seeds"]),
        "chosen": entry["chosen"],
        "command": command,
    }
