"""The results as one picture."""

from __future__ import annotations

from typing import Any

from benchmarks.clock import Spread
from benchmarks.contenders import PRODUCT, REFERENCE, SCORING, TRAINING

_COLOURS = {PRODUCT: "tab:blue", REFERENCE: "tab:orange"}
_PARTS_COLOURS = "tab20"


def draw(results: dict[str, Any], path: str) -> str:
    """Draws the stages that ran; returns what became of it, in words."""
    try:
        import matplotlib
    except ImportError:
        return f"{path}: not drawn, because matplotlib is missing; pip install '.[bench]'"
    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {
        "timing": (_speed_training, _speed_scoring),
        "memory": (_memory,),
        "curve": (_curve,),
        "breakdown": (_breakdown,),
    }
    drawn = [draw for stage, draws in panels.items() if results.get(stage) for draw in draws]
    if not drawn:
        return f"{path}: not drawn, because no stage that ran has a picture"
    columns = min(len(drawn), 3)
    lines = -(-len(drawn) // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(5.5 * columns, 4.4 * lines), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(drawn) :]:
        axis.set_axis_off()
    for panel, axis in zip(drawn, axes.flat, strict=False):
        panel(results, axis)
    machine = results["machine"]
    figure.suptitle(
        f"{machine['processor']}, {machine['cpus']} CPUs, TensorFlow {machine['tensorflow']}"
    )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return f"drew {path}"


def _speed_training(results: dict, axis) -> None:
    _speed(results, axis, TRAINING)


def _speed_scoring(results: dict, axis) -> None:
    _speed(results, axis, SCORING)


def _speed(results: dict, axis, kind: str) -> None:
    for contender, colour in _COLOURS.items():
        rows = [
            (int(row["setting"]), Spread(*row["samples_per_second"]))
            for row in results["timing"]["rows"]
            if row["kind"] == kind and row["contender"] == contender and row["setting"].isdigit()
        ]
        lengths, medians = [r[0] for r in rows], [r[1].median for r in rows]
        low = [r[1].median - r[1].low for r in rows]
        high = [r[1].high - r[1].median for r in rows]
        axis.errorbar(
            lengths, medians, [low, high], label=contender, color=colour, marker="o", capsize=3
        )
        for place, (length, speed) in enumerate(zip(lengths, medians, strict=True)):
            above = contender == PRODUCT
            axis.annotate(
                f"{speed:,.0f}",
                (length, speed),
                xytext=(0, 10 if above else -20),
                textcoords="offset points",
                ha="left" if place == 0 else "center",
                fontsize=8,
            )
    axis.set(xscale="log", yscale="log", title=f"{kind} by history length")
    axis.set(xlabel="behaviours L", ylabel="samples/s (more is better)")
    low, high = axis.get_ylim()
    axis.set_ylim(low / 1.4, high * 1.4)
    axis.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axis.xaxis.minorticks_off()
    axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.yaxis.set_minor_formatter("{x:,.0f}")
    axis.tick_params(axis="y", which="minor", labelsize=7)
    axis.grid(True, which="both", alpha=0.25)
    axis.legend()


def _memory(results: dict, axis) -> None:
    rows = results["memory"]["rows"]
    lengths = sorted({row["length"] for row in rows})
    for place, (contender, colour) in enumerate(_COLOURS.items()):
        megabytes = [
            row["step_bytes"] / 1e6
            for length in lengths
            for row in rows
            if row["length"] == length and row["contender"] == contender
        ]
        spots = [x + (place - 0.5) * 0.38 for x in range(len(lengths))]
        bars = axis.bar(spots, megabytes, 0.36, label=contender, color=colour)
        axis.bar_label(bars, [f"{value:,.0f}" for value in megabytes], fontsize=8)
    axis.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
    axis.set(title="memory of a training step", xlabel="behaviours L")
    axis.set_ylabel("MB (less is better)")
    axis.grid(True, axis="y", alpha=0.25)
    axis.legend()


def _curve(results: dict, axis) -> None:
    rows, lines = results["curve"]["rows"], results["curve"]["lines"]
    lengths = [row["length"] for row in rows]
    for kind, colour in ((TRAINING, "tab:blue"), (SCORING, "tab:green")):
        medians = [row[f"{kind}_ms"][0] for row in rows]
        axis.plot(lengths, medians, "o", color=colour, label=f"{kind} step")
        if kind in lines:
            slope, start = lines[kind]["ms_per_1000"], lines[kind]["ms_at_0"]
            fitted = [start + slope * length / 1000 for length in (0, lengths[-1])]
            label = f"{start:.0f} ms + {slope:.1f} ms per 1,000"
            axis.plot((0, lengths[-1]), fitted, "--", color=colour, alpha=0.6, label=label)
    axis.set(title="product: a step by history length", xlabel="behaviours L", ylabel="ms")
    axis.set_ylim(bottom=0)
    axis.locator_params(axis="x", nbins=5)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.grid(True, alpha=0.25)
    axis.legend()


def _breakdown(results: dict, axis) -> None:
    from matplotlib import colormaps

    colours, seen, names = colormaps[_PARTS_COLOURS].colors, {}, []
    for place, row in enumerate(results["breakdown"]):
        parts = {name: value[0] for name, value in row["parts"].items() if name != "whole step"}
        start = 0.0
        for name, value in {**parts, "rest": max(row["rest_ms"], 0.0)}.items():
            colour = colours[seen.setdefault(name, len(seen)) % len(colours)]
            axis.barh(place, value, left=start, color=colour, label=name)
            start += value
        names.append(f"{row['kind']}\nL={row['length']:,}")
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set(title="product: where a step's time goes", xlabel="ms")
    handles, labels = axis.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axis.legend(
        unique.values(),
        unique.keys(),
        fontsize=8,
        ncols=3,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.13),
    )
