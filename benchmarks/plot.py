"""The results as one picture."""

from typing import Any

from matplotlib.figure import Figure

from benchmarks.contenders import PRODUCT, REFERENCE, SCORING, TRAINING

_COLOURS = {PRODUCT: "tab:blue", REFERENCE: "tab:orange"}


def draw(results: dict[str, Any], path: str) -> str:
    """Draws the stages that ran; returns what became of it, in words."""
    panels = {
        "speed": (_speed_training, _speed_scoring),
        "memory": (_memory,),
        "product_alone": (_growth,),
        "breakdown": (_breakdown,),
    }
    drawn = [draw for stage, draws in panels.items() if results.get(stage) for draw in draws]
    if not drawn:
        return f"{path}: not drawn, because no stage that ran has a picture"
    columns = min(len(drawn), 3)
    lines = -(-len(drawn) // columns)
    figure = Figure(figsize=(5.5 * columns, 4.4 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat[len(drawn) :]:
        axis.set_axis_off()
    for panel, axis in zip(drawn, axes.flat, strict=False):
        panel(results, axis)
        axis.legend(fontsize=8)
    machine = results["machine"]
    figure.suptitle(
        f"{machine['processor']}, {machine['cpus']} CPUs, TensorFlow {machine['tensorflow']}"
    )
    figure.savefig(path, dpi=110)
    return f"drew {path}"


def _speed_training(results: dict, axis: Any) -> None:
    _speed(results, axis, TRAINING)


def _speed_scoring(results: dict, axis: Any) -> None:
    _speed(results, axis, SCORING)


def _speed(results: dict, axis: Any, kind: str) -> None:
    lengths: list[int] = []
    for contender, colour in _COLOURS.items():
        rows = {
            int(row["setting"]): row["samples_per_second"]
            for row in results["speed"]["rows"]
            if row["kind"] == kind and row["contender"] == contender and row["setting"].isdigit()
        }
        lengths, speeds = list(rows), list(rows.values())
        medians = [speed.median for speed in speeds]
        below = [speed.median - speed.low for speed in speeds]
        above = [speed.high - speed.median for speed in speeds]
        axis.errorbar(
            lengths, medians, [below, above], label=contender, color=colour, marker="o", capsize=3
        )
        for length, median in zip(lengths, medians, strict=True):
            axis.annotate(
                f"{median:,.0f}", (length, median), xytext=(0, 8), textcoords="offset points"
            )
    axis.set(xscale="log", title=f"{kind} by history length", xlabel="behaviours L")
    axis.set_ylabel("samples/s (more is better)")
    axis.set_ylim(bottom=0)
    axis.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axis.xaxis.minorticks_off()
    axis.grid(True, alpha=0.25)


def _memory(results: dict, axis: Any) -> None:
    rows = results["memory"]["rows"]
    for offset, (contender, colour) in zip((-0.19, 0.19), _COLOURS.items(), strict=True):
        megabytes = [row[contender] / 1e6 for row in rows]
        at = [i + offset for i in range(len(rows))]
        bars = axis.bar(at, megabytes, 0.36, label=contender, color=colour)
        axis.bar_label(bars, [f"{value:,.0f}" for value in megabytes], fontsize=8)
    axis.set_xticks(range(len(rows)), [f"{row['length']:,}" for row in rows])
    axis.set(title="memory of a training step", xlabel="behaviours L")
    axis.set_ylabel("MB (less is better)")
    axis.grid(True, axis="y", alpha=0.25)


def _growth(results: dict, axis: Any) -> None:
    rows, lines = (results["product_alone"][key] for key in ("growth", "lines"))
    lengths = [row["length"] for row in rows]
    for kind, colour in ((TRAINING, "tab:blue"), (SCORING, "tab:green")):
        medians = [row[kind].median for row in rows]
        axis.plot(lengths, medians, "o", color=colour, label=f"{kind} step")
        if kind in lines:
            slope, start = lines[kind]["ms_per_1000"], lines[kind]["ms_at_0"]
            fitted = [start + slope * length / 1000 for length in (0, lengths[-1])]
            label = f"{start:.0f} ms + {slope:.1f} ms per 1,000"
            axis.plot((0, lengths[-1]), fitted, "--", color=colour, alpha=0.6, label=label)
    axis.set(title="product: a step by history length", xlabel="behaviours L", ylabel="ms")
    axis.set_ylim(bottom=0)
    axis.grid(True, alpha=0.25)


def _breakdown(results: dict, axis: Any) -> None:
    rows = results["breakdown"]["rows"]
    starts = [0.0] * len(rows)
    # Training has a part that scoring lacks.
    for name in dict.fromkeys(name for row in rows for name in row["parts"]):
        values = [row["parts"][name]["ms"].median if name in row["parts"] else 0 for row in rows]
        axis.barh(range(len(rows)), values, left=starts, label=name)
        starts = [start + value for start, value in zip(starts, values, strict=True)]
    wholes = [row["whole_ms"].median for row in rows]
    axis.plot(wholes, range(len(rows)), "k|", markersize=20, label="whole step")
    axis.set_yticks(range(len(rows)), [f"{row['kind']}\nL={row['length']:,}" for row in rows])
    axis.invert_yaxis()
    axis.set(title="product: where a step's time goes", xlabel="ms")
