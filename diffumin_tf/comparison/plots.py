"""The figures of a comparison as pictures."""

import os
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from diffumin_tf.comparison.slices import SLICINGS
from diffumin_tf.comparison.table import NOTHING, SPLITS, signed

DIFFERENCES, SLICES = "differences.png", "slices.png"

_DPI = 130
# Of each metric, what its intervals are resampled by.
_PANELS = {"AUC": {"auc": "samples", "auc_by_users": "users"}, "GAUC": {"gauc": "users"}}
# Colour and label of an interval by its source of chance.
_SOURCES = {
    "samples": ("tab:blue", "samples drawn anew"),
    "users": ("tab:orange", "users drawn anew"),
    "seeds": ("0.35", "between seeds (Student's t)"),
}


def draw(comparison: dict[str, Any], folder: str, report: Callable[[str], None]) -> list[str]:
    """Draws differences and slices, where the comparison has them.

    Returns:
        File names of the pictures, without the folder.
    """
    drawn = []
    for name, make in ((DIFFERENCES, differences), (SLICES, slices)):
        figure = make(comparison)
        if figure is not None:
            path = os.path.join(folder, name)
            figure.savefig(path, dpi=_DPI)
            report(f"drew {path}")
            drawn.append(name)
    return drawn


def differences(comparison: dict[str, Any]) -> Any:
    """A forest plot: a row an experiment, a panel a metric, an interval a source of chance."""
    from matplotlib.figure import Figure

    compared = {n: e["difference"] for n, e in comparison["experiments"].items() if e["difference"]}
    panels = [p for p, kinds in _PANELS.items() if any({*kinds} & {*d} for d in compared.values())]
    if not panels:
        return None
    size = 2.4 + 4.4 * len(panels), 1.9 + 0.62 * len(compared)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    handles: dict[str, Any] = {}
    for panel, axis in zip(panels, axes, strict=True):
        for row, difference in enumerate(compared.values()):
            handles |= _draw_intervals(axis, row, difference, _PANELS[panel])
        axis.axvline(0, color="black", linewidth=1)
        title = f"{SPLITS[comparison['split']]} {panel} minus that of “{comparison['baseline']}”"
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(f"difference in {panel}; more is better")
        axis.grid(True, axis="x", alpha=0.3)
        axis.margins(x=0.08)
    axes[0].set_yticks(range(len(compared)), [textwrap.fill(name, 24) for name in compared])
    axes[0].set_ylim(len(compared) - 0.45, -0.55)
    handles = {f"95 % interval: {_SOURCES[k][1]}": handles[k] for k in _SOURCES if k in handles}
    place = {"loc": "outside lower center", "ncols": len(handles), "fontsize": 8}
    figure.legend(handles.values(), handles.keys(), **place)
    return figure


def _draw_intervals(
    axis: Any, row: int, difference: dict[str, Any], kinds: Mapping[str, str]
) -> dict[str, Any]:
    """Draws one experiment's intervals of one metric, one below the other; returns handles."""
    known = {unit: difference[kind] for kind, unit in kinds.items() if kind in difference}
    if not known:
        return {}
    found = next(iter(known.values()))
    mean, spans = found["mean"], {unit: d["resampled"] for unit, d in known.items()}
    if found["between_seeds"]:
        spans["seeds"] = found["between_seeds"]
    handles, top = {}, row - 0.17 * (len(spans) - 1) / 2
    style = {"marker": "o", "markersize": 4, "capsize": 3, "linewidth": 1.6}
    for index, (kind, span) in enumerate(spans.items()):
        reach = [[mean - span["low"]], [span["high"] - mean]]
        y = top + 0.17 * index
        handles[kind] = axis.errorbar(mean, y, xerr=reach, color=_SOURCES[kind][0], **style)
    label = {"textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 8}
    axis.annotate(signed(mean), (mean, top), xytext=(0, 4), **label)
    return handles


def slices(comparison: dict[str, Any]) -> Any:
    """AUC by slice minus that of the baseline: a row an experiment, a column a slice."""
    from matplotlib.figure import Figure

    sliced = {n: e["slices"] for n, e in comparison["experiments"].items() if e["slices"]}
    baseline, split = comparison["baseline"], SPLITS[comparison["split"]]
    if len(sliced) < 2 or baseline not in sliced:
        return None
    figure = Figure(figsize=(13.5, 1.5 + 0.3 * len(sliced)), layout="constrained")
    axes = figure.subplots(1, len(SLICINGS), sharey=True)
    for axis, (kind, (by, unit, _)) in zip(axes, SLICINGS.items(), strict=True):
        auc = pd.DataFrame(
            {name: [s["auc"] for s in found[kind]] for name, found in sliced.items()}, dtype=float
        )
        moved = auc.drop(columns=baseline).sub(auc[baseline], axis="index").T
        reach = np.nanmax(moved.abs(), initial=1e-6)
        axis.imshow(moved, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto")
        for (row, column), value in np.ndenumerate(moved):
            text = NOTHING if np.isnan(value) else signed(value)
            colour = "w" if abs(value) > 0.5 * reach else "k"
            axis.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
        ticks = [f"{s['bucket']}\n{s['samples']:,}" for s in sliced[baseline][kind]]
        axis.set_xticks(range(len(ticks)), ticks, fontsize=9)
        axis.set_xlabel(f"{unit}; below: {split} samples")
        axis.set_title(f"{split} AUC minus that of “{baseline}”, by {by}", fontsize=10)
    names = [textwrap.fill(name, 36) for name in moved.index]
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    return figure
