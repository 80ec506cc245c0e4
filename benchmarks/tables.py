"""Plain-text tables and numbers."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.clock import Spread


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with a title; the first column is text, all others are aligned to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join(["", title, lines[0], "-" * len(lines[0]), *lines[1:]])


def spread(values: Sequence[float], digits: int = 0) -> str:
    """A `Spread`, perhaps from JSON, as `median (low–high)`."""
    median, low, high = (f"{value:,.{digits}f}" for value in Spread(*values))
    return f"{median} ({low}–{high})"
