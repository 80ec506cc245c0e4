"""AUC by slice as a picture: lines for a few experiments, a map of differences for many."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from diffumin_tf.comparison.markdown import SPLITS, signed
from diffumin_tf.comparison.slices import TITLES

_AS_LINES = 10  # experiments at most; more lines cannot be told apart
_NAME_WIDTH = 36
_MARKERS = "osD^vP*Xp<"

Slices = Mapping[str, Mapping[str, Sequence[dict[str, Any]]]]


def picture(comparison: dict[str, Any]) -> Any:
    """A figure with a panel for each way of slicing; None where nothing was sliced."""
    sliced = {n: e["slices"] for n, e in comparison["experiments"].items() if e["slices"]}
    if not sliced:
        return None
    split = SPLITS[comparison["split"]]
    if len(sliced) <= _AS_LINES:
        return _lines(sliced, split)
    return _map(sliced, comparison["baseline"], split)


def _lines(sliced: Slices, split: str) -> Any:
    """AUC: a line an experiment."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 4.6 + 0.15 * len(sliced)), layout="constrained")
    axes = figure.subplots(1, len(TITLES))
    for axis, (kind, (title, unit)) in zip(axes, TITLES.items(), strict=True):
        for place, (name, slices) in enumerate(sliced.items()):
            offset = 0.5 * ((place + 0.5) / len(sliced) - 0.5)
            _line(axis, slices[kind], offset, name, place)
        _ticks(axis, next(iter(sliced.values()))[kind], unit, split)
        has_spread = any(row["sd"] is not None for s in sliced.values() for row in s[kind])
        over = ", mean ± standard deviation over seeds" if has_spread else ""
        axis.set_title(f"AUC by {title}", fontsize=10)
        axis.set_ylabel(f"{split} AUC{over}", fontsize=9)
        axis.grid(True, axis="y", alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    columns = min(len(labels), 5)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9)
    return figure


def _line(axis: Any, rows: Sequence[dict[str, Any]], offset: float, name: str, place: int) -> None:
    known = [(x + offset, row) for x, row in enumerate(rows) if row["auc"] is not None]
    axis.errorbar(
        [x for x, _ in known],
        [row["auc"] for _, row in known],
        yerr=[row["sd"] or 0.0 for _, row in known],
        label=name,
        color=f"C{place}",
        marker=_MARKERS[place],
        markersize=5,
        capsize=2,
        linewidth=1,
        linestyle=":",
        elinewidth=1.2,
    )


def _map(sliced: Slices, baseline: str, split: str) -> Any:
    """Differences of AUC to the baseline: a row an experiment, a column a slice."""
    from matplotlib.figure import Figure

    others = [name for name in sliced if name != baseline]
    figure = Figure(figsize=(13.5, 1.8 + 0.3 * len(others)), layout="constrained")
    axes = figure.subplots(1, len(TITLES), sharey=True)
    for axis, (kind, (title, unit)) in zip(axes, TITLES.items(), strict=True):
        moved = [_minus(sliced[name][kind], sliced[baseline][kind]) for name in others]
        reach = max((abs(v) for row in moved for v in row if v is not None), default=0.0) or 1.0
        shown = [[float("nan") if v is None else v for v in row] for row in moved]
        axis.imshow(shown, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto")
        for y, row in enumerate(moved):
            for x, value in enumerate(row):
                dark = value is not None and abs(value) > 0.5 * reach
                text = "–" if value is None else signed(value)
                axis.text(
                    x, y, text, ha="center", va="center", fontsize=8, color="w" if dark else "k"
                )
        _ticks(axis, sliced[baseline][kind], unit, split)
        axis.set_title(f"{split} AUC minus that of “{baseline}”, by {title}", fontsize=10)
    axes[0].set_yticks(range(len(others)), [textwrap.fill(n, _NAME_WIDTH) for n in others])
    axes[0].tick_params(axis="y", labelsize=8)
    return figure


def _minus(
    rows: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]
) -> Sequence[float | None]:
    pairs = [(row["auc"], other["auc"]) for row, other in zip(rows, others, strict=True)]
    return [None if None in pair else pair[0] - pair[1] for pair in pairs]


def _ticks(axis: Any, rows: Sequence[dict[str, Any]], unit: str, split: str) -> None:
    """A tick a slice, with its number of samples."""
    ticks = [f"{row['bucket']}\n{row['samples']:,}" for row in rows]
    axis.set_xticks(range(len(rows)), ticks, fontsize=9)
    axis.set_xlim(-0.5, len(rows) - 0.5)
    axis.set_xlabel(f"{unit}; below: {split} samples")
