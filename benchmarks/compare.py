"""Comparison of measured ratios with those of `baseline.json`."""

from collections.abc import Callable

from diffumin_tf.errors import ConfigError
from diffumin_tf.files import read_json, write_json

TOLERANCE = 0.2

Ratios = dict[str, dict[str, float]]


def report(ratios: Ratios, path: str, write: Callable[[str], object]) -> bool:
    """Writes one line for each ratio of the baseline.

    Args:
        ratios: `training` and `scoring`: speed of the product as a multiple of the reference's;
            `peak_memory`: memory of its step as a multiple of the reference's; by setting.
        path: the baseline: `ratios` like these and the `tolerance` as a fraction.
        write: takes a line.

    Returns:
        Whether no ratio fell short by more than the tolerance; those not measured do not.

    Raises:
        ConfigError: the file is not a baseline.
    """
    baseline = read_json(path)
    if not baseline.keys() >= {"ratios", "tolerance"}:
        raise ConfigError(f"{path}: a baseline has 'ratios' and 'tolerance'")
    tolerance, all_hold = baseline["tolerance"], True
    for kind, by_setting in baseline["ratios"].items():
        for setting, expected in by_setting.items():
            name, measured = f'{kind}."{setting}"', ratios.get(kind, {}).get(setting)
            if measured is None:
                write(f"skipped: {name} was not measured")
                continue
            if kind == "peak_memory":
                bound, side = expected * (1 + tolerance), "at most"
                holds = measured <= bound
            else:
                bound, side = expected * (1 - tolerance), "at least"
                holds = measured >= bound
            all_hold &= holds
            write(
                f"{'ok' if holds else 'FELL SHORT'}: {name} is {measured:.3g}, "
                f"baseline {expected:.3g}, {side} {bound:.3g} wanted"
            )
    return all_hold


def write_baseline(path: str, ratios: Ratios, command: str) -> None:
    """Makes measured ratios the baseline of later runs."""
    write_json(path, {"ratios": ratios, "command": command, "tolerance": TOLERANCE})
