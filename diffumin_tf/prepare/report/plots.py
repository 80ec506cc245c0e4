"""The plots of `report.html`: SVG that takes its colours and its font from the page."""

import contextlib
import datetime
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_WIDTH = 4.6  # inches, about a phone's screen: the page may enlarge a plot, and hardly shrinks it
# Colours that nothing else has, and what stands for them in the page.
_TEXT, _RULE, _FIRST, _SECOND = "#010101", "#020202", "#030303", "#040404"
_COLOURS = {
    _TEXT: "currentColor",
    _RULE: "var(--rule)",
    _FIRST: "var(--first)",
    _SECOND: "var(--second)",
}
_MOST_MARKERS = 31
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": _RULE,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    **dict.fromkeys(["text.color", "axes.labelcolor", "xtick.color", "ytick.color"], _TEXT),
}


def draw(facts: Mapping[str, Any]) -> dict[str, str]:
    """Draws what the facts have enough of.

    Returns:
        SVG elements for an HTML page, by the name of the plot: volume, shares, history.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    drawn = {}
    for name, (height, plot) in _PLOTS.items():
        with style.context(["default", {**_STYLE, "svg.hashsalt": name}]):
            figure = Figure(figsize=(_WIDTH, height), layout="constrained")
            plot(figure, facts)
            if figure.axes:
                drawn[name] = _svg(figure)
    return drawn


def _volume(figure: Any, facts: Mapping[str, Any]) -> None:
    """Impressions above clicks, because their scales differ."""
    dates, days = _dated(facts.get("days", {}))
    if len(days) < 2:
        return
    edges = [edge for date in dates for edge in (date - 0.42, date + 0.42)]
    panels = {"impressions": ("examples", _FIRST), "clicks": ("clicks", _SECOND)}
    axes = figure.subplots(2, 1, sharex=True)
    for axis, (title, (key, colour)) in zip(axes, panels.items(), strict=True):
        heights = [height for day in days for height in (day.get(key, 0), 0)]
        axis.stairs(heights[:-1], edges, fill=True, color=colour)
        axis.set_title(title)
        _scale(axis, heights, _whole)
    _label_dates(axes[-1])


def _shares(figure: Any, facts: Mapping[str, Any]) -> None:
    """Click rate above what never occurred before."""
    panels = {
        "click rate": ("days", {"click_rate": _SECOND}),
        "new": ("new", {"candidates": _FIRST, "users": _SECOND}),
    }
    dated = {title: _dated(facts.get(key, {})) for title, (key, _) in panels.items()}
    titles = [title for title, (dates, _) in dated.items() if len(dates) > 1]
    axes = figure.subplots(len(titles), 1, sharex=True, squeeze=False)[:, 0] if titles else []
    for axis, title in zip(axes, titles, strict=True):
        dates, days = dated[title]
        marker = "o" if len(days) <= _MOST_MARKERS else ""
        lines = panels[title][1]
        for name, colour in lines.items():
            shares = [day.get(name, math.nan) for day in days]
            axis.plot(dates, shares, color=colour, marker=marker, markersize=4, label=name)
        axis.set_title(title)
        _scale(axis, [day.get(name, 0) for day in days for name in lines], _percent)
        if len(lines) > 1:
            axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)
        _label_dates(axis)


def _history(figure: Any, facts: Mapping[str, Any]) -> None:
    lengths = facts.get("history_length", {})
    shares = {name: int(name[1:]) / 100 for name in lengths if re.fullmatch(r"p\d+", name)}
    shares |= {"min": 0.0, "max": 1.0}
    known = [name for name in shares if name in lengths]
    if len(known) < 2:
        return
    axis, known = figure.subplots(), sorted(known, key=shares.__getitem__)
    points = [shares[name] for name in known], [lengths[name] for name in known]
    axis.plot(*points, color=_FIRST, marker="o", markersize=4)
    axis.fill_between(*points, color=_FIRST, alpha=0.15, linewidth=0)
    axis.set_title("behaviours")
    axis.set_xlabel("impressions, those with the shortest histories first")
    axis.xaxis.set_major_formatter(_percent)
    _scale(axis, points[1], _whole)


_PLOTS = {"volume": (3.1, _volume), "shares": (3.1, _shares), "history": (2.6, _history)}


def _dated(days: Mapping[str, Any]) -> tuple[list[float], list[Any]]:
    """Numbers of the dates, and what is known of each; what is no date has no place in a plot."""
    from matplotlib.dates import date2num

    dated = {}
    for day, content in days.items():
        with contextlib.suppress(ValueError):
            dated[date2num(datetime.datetime.strptime(day, "%Y%m%d"))] = content
    return sorted(dated), [dated[date] for date in sorted(dated)]


def _label_dates(axis: Any) -> None:
    from matplotlib import dates

    locator = dates.AutoDateLocator(minticks=2, maxticks=6)
    locator.intervald[dates.HOURLY] = [24]  # a day is the least there is
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))


def _scale(axis: Any, values: Iterable[float], write: Callable[[float, int], str]) -> None:
    axis.set_ylim(0, 1.1 * max(values) or 1)
    axis.locator_params(axis="y", nbins=4)
    axis.yaxis.set_major_formatter(write)


def _whole(value: float, _: int) -> str:
    return f"{value:,.0f}" if value == round(value) else ""


def _percent(value: float, _: int) -> str:
    return f"{100 * value:g} %"


def _svg(figure: Any) -> str:
    """An SVG element for an HTML page, without what only a file of its own needs."""
    content = io.StringIO()
    figure.savefig(content, format="svg", transparent=True)
    svg = content.getvalue()
    svg = svg[svg.index("<svg") :]
    for useless in (
        r"<metadata>.*?</metadata>",
        r' xmlns(:xlink)?="[^"]*"',
        r'(?<=<g) id="[^"]*"',  # the same in every plot
        r'(?<=<svg)( \w+="[\d.]+pt")+',  # the page decides on the size
    ):
        svg = re.sub(useless, "", svg, flags=re.DOTALL)
    svg = re.sub(r"'DejaVu Sans'.*?(?=[;\"])", "var(--font)", svg)
    for colour, name in _COLOURS.items():
        svg = svg.replace(colour, name)
    return svg
