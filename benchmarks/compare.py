"""Comparison of measured ratios with those of `baseline.json`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from benchmarks.contenders import SCORING, TRAINING
from diffumin_tf.errors import ConfigError
from diffumin_tf.files import read_json, write_json

PEAK_MEMORY = "peak_memory"
# Of each ratio, whether more is better.
MORE_IS_BETTER = {TRAINING: True, SCORING: True, PEAK_MEMORY: False}
TOLERANCE = 0.2


class Verdict(NamedTuple):
    """One ratio beside its baseline.

    Attributes:
        line: says so in words.
        short: whether it fell short by more than the tolerance.
    """

    line: str
    short: bool


def compare(ratios: dict[str, dict[str, float]], baseline: dict) -> list[Verdict]:
    """One verdict for each ratio of the baseline.

    Args:
        ratios: `training` and `scoring`: speed of the product as a multiple of the reference's;
            `peak_memory`: memory of its step as a multiple of the reference's; by setting.
        baseline: `ratios` like these and the `tolerance` as a fraction.
    """
    verdicts, tolerance = [], baseline["tolerance"]
    for kind, more_is_better in MORE_IS_BETTER.items():
        for setting, expected in baseline["ratios"].get(kind, {}).items():
            name, measured = f'{kind}."{setting}"', ratios.get(kind, {}).get(setting)
            if measured is None:
                verdicts.append(Verdict(f"skipped: {name} was not measured", False))
                continue
            if more_is_better:
                bound, side = expected * (1 - tolerance), "at least"
            else:
                bound, side = expected * (1 + tolerance), "at most"
            short = measured < bound if more_is_better else measured > bound
            line = (
                f"{'FELL SHORT' if short else 'ok'}: {name} is {measured:.3g}, "
                f"baseline {expected:.3g}, {side} {bound:.3g} wanted"
            )
            verdicts.append(Verdict(line, short))
    return verdicts


def report(ratios: dict[str, dict[str, float]], path: str, write: Callable[[str], object]) -> int:
    """Writes one line for each ratio of the baseline in a file.

    Returns:
        Exit code: 1 if a ratio fell short, else 0, also without a file.

    Raises:
        ConfigError: the file is no baseline.
    """
    if not tf.io.gfile.exists(path):
        write(f"nothing to compare with: {path} is not there; --write_baseline makes it")
        return 0
    baseline = read_json(path)
    if not baseline.keys() >= {"ratios", "tolerance"}:
        raise ConfigError(f"{path}: a baseline has 'ratios' and 'tolerance'")
    verdicts = compare(ratios, baseline)
    for verdict in verdicts:
        write(verdict.line)
    short = sum(verdict.short for verdict in verdicts)
    if short:
        write(f"{short} of {len(verdicts)} ratios fell short of {path}")
    return 1 if short else 0


def write_baseline(path: str, ratios: dict[str, dict[str, float]], command: str) -> None:
    """Makes measured ratios the baseline of later runs."""
    content = {"ratios": ratios, "command": command, "tolerance": TOLERANCE}
    write_json(path, content)
