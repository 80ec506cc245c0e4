"""The figures of a comparison as pictures, if matplotlib is there; differences as a forest."""

import os
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from diffumin_tf.comparison import slice_plots
from diffumin_tf.comparison.markdown import SPLITS, signed

DIFFERENCES, SLICES = "differences.png", "slices.png"

_DPI = 130
_ROW_INCHES, _NAME_WIDTH = 0.62, 24
# Of each metric, what its intervals are resampled by, and how these are drawn.
_PANELS = {"AUC": (("auc", "samples"), ("auc_by_users", "users")), "GAUC": (("gauc", "users"),)}
_COLOURS = {"samples": "tab:blue", "users": "tab:orange", "seeds": "0.35"}
_LABELS = {
    "samples": "samples drawn anew",
    "users": "users drawn anew",
    "seeds": "spread between seeds (Student's t)",
}


def draw(comparison: dict[str, Any], folder: str, report: Callable[[str], None]) -> list[str]:
    """Draws what there is to draw.

    Args:
        comparison: what `comparison.json` holds.
        folder: where the pictures go.
        report: takes a line.

    Returns:
        File names of the pictures, without the folder; none without matplotlib.
    """
    try:
        import matplotlib
    except ImportError:
        report("no plots, because matplotlib is missing: pip install '.[bench]'")
        return []
    matplotlib.use("Agg")
    drawn = []
    for name, picture in ((DIFFERENCES, _differences), (SLICES, slice_plots.picture)):
        figure = picture(comparison)
        if figure is not None:
            path = os.path.join(folder, name)
            figure.savefig(path, dpi=_DPI)
            report(f"drew {path}")
            drawn.append(name)
    return drawn


def _differences(comparison: dict[str, Any]) -> Any:
    """A forest plot: a row an experiment, a panel a metric, an interval a source of chance."""
    from matplotlib.figure import Figure

    compared = {n: e["difference"] for n, e in comparison["experiments"].items() if e["difference"]}
    panels = [p for p, kinds in _PANELS.items() if any(kinds[0][0] in d for d in compared.values())]
    if not panels:
        return None
    split = SPLITS[comparison["split"]]
    height = 1.9 + _ROW_INCHES * len(compared)
    figure = Figure(figsize=(2.4 + 4.4 * len(panels), height), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    labels: dict[str, Any] = {}
    for panel, axis in zip(panels, axes, strict=True):
        for row, difference in enumerate(compared.values()):
            labels |= _forest_row(axis, row, difference, _PANELS[panel])
        axis.axvline(0, color="black", linewidth=1)
        axis.set_title(f"{split} {panel} minus that of “{comparison['baseline']}”", fontsize=10)
        axis.set_xlabel(f"difference in {panel}; more is better")
        axis.grid(True, axis="x", alpha=0.3)
        axis.margins(x=0.08)
        axis.locator_params(axis="x", nbins=6)
    axes[0].set_yticks(range(len(compared)), [textwrap.fill(n, _NAME_WIDTH) for n in compared])
    axes[0].set_ylim(len(compared) - 0.45, -0.55)
    order = [kind for kind in _COLOURS if kind in labels]
    figure.legend(
        [labels[k] for k in order],
        [f"95 % interval: {_LABELS[k]}" for k in order],
        loc="outside lower center",
        ncols=len(order),
        fontsize=8,
    )
    return figure


def _forest_row(
    axis: Any, row: int, difference: dict[str, Any], kinds: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """One experiment's intervals of one metric, one below the other; returns what to label."""
    spans = [(unit, difference[k]["resampled"]) for k, unit in kinds if k in difference]
    if not spans:
        return {}
    found = difference[kinds[0][0]]
    if found["between_seeds"]:
        spans.append(("seeds", found["between_seeds"]))
    drawn = {}
    for place, (unit, span) in enumerate(spans):
        spot = row + 0.17 * (place - (len(spans) - 1) / 2)
        drawn[unit] = axis.errorbar(
            [found["mean"]],
            [spot],
            xerr=[[found["mean"] - span["low"]], [span["high"] - found["mean"]]],
            color=_COLOURS[unit],
            marker="o",
            markersize=4,
            capsize=3,
            linewidth=1.6,
        )
    top = row - 0.17 * (len(spans) - 1) / 2
    axis.annotate(
        signed(found["mean"]),
        (found["mean"], top),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=8,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.5},
    )
    return drawn
