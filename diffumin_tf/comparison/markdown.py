"""Numbers and tables in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

NOTHING = "–"
# Splits in words.
SPLITS = {"test": "test", "valid": "validation"}


def table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table; its first `texts` columns are text, all others are numbers."""
    marks = ["---" if place < texts else "---:" for place in range(len(header))]
    return "\n".join([_line(header), "|" + "|".join(marks) + "|", *map(_line, rows)])


def number(value: float | None, digits: int, per: float = 1) -> str:
    """A number in units of `per`."""
    return NOTHING if value is None else f"{value / per:.{digits}f}"


def spread(stat: Mapping[str, Any] | None, digits: int, per: float = 1) -> str:
    """What `uncertainty.over_seeds` made, in units of `per`: `mean ± standard deviation`."""
    if stat is None:
        return NOTHING
    known = [stat[key] / per for key in ("mean", "sd") if stat[key] is not None]
    return " ± ".join(f"{value:,.{digits}f}" for value in known)


def interval(low: float, high: float, digits: int = 4) -> str:
    """`[low, high]`, with signs."""
    return f"[{signed(low, digits)}, {signed(high, digits)}]"


def signed(value: float, digits: int = 4) -> str:
    """A difference, with its sign."""
    return f"{value:+.{digits}f}".replace("-", "−")


def settings(values: Mapping[str, Any] | None) -> str:
    """`key=value, …`"""
    return ", ".join(f"{k}={_plain(v)}" for k, v in (values or {}).items()) or NOTHING


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
