"""The product alone as histories grow: time and memory of a step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks import memory
from benchmarks.clock import Spread
from benchmarks.contenders import PRODUCT, SCORING, TRAINING
from benchmarks.plan import Plan
from benchmarks.tables import spread, table
from benchmarks.timing import product_alone

_SHORT, _LONG = 500, 5000
_MEASURES = {"training_ms": "training", "scoring_ms": "scoring"}


def measure(plan: Plan, say: Callable[[str], None]) -> dict:
    """Milliseconds and bytes of a step by L, the straight lines through them, and two facts."""
    peaks, rows = {}, []
    for length in plan.curve:
        say(f"curve: product at L={length:,}")
        times = product_alone(plan, plan.standard(length))
        rows.append(
            {
                "length": length,
                "training_ms": _milliseconds(times[TRAINING].seconds),
                "scoring_ms": _milliseconds(times[SCORING].seconds),
            }
        )
    if memory.observable():
        say("curve: memory of the product, in a process of its own")
        peaks = memory.peaks_of((PRODUCT, plan.standard(length)) for length in plan.curve)
    for row in rows:
        peak = peaks.get((PRODUCT, plan.standard(row["length"])))
        row["step_bytes"] = peak and peak["step_bytes"]
    return {"rows": rows, "lines": _lines(rows), "facts": facts(rows)}


def facts(rows: list[dict]) -> list[dict]:
    """What is to hold as histories grow, and whether it does."""
    found = []
    by_length = {row["length"]: row for row in rows}
    for key, kind in _MEASURES.items():
        if _SHORT in by_length and _LONG in by_length:
            factor = by_length[_LONG][key][0] / by_length[_SHORT][key][0]
            text = f"a {kind} step at L={_LONG:,} takes {factor:.2f} times one at L={_SHORT}"
            found.append({"text": f"{text} (at most 2)", "holds": factor <= 2.0})
        if len(rows) > 1:
            first, last = rows[0], rows[-1]
            factor, longer = last[key][0] / first[key][0], last["length"] / first["length"]
            text = f"{kind}: {longer:g} times the behaviours take {factor:.1f} times as long"
            found.append({"text": f"{text} (at most {longer:g})", "holds": factor <= longer})
    return found


def tables(result: dict) -> list[str]:
    """The curve, its slopes, and the facts."""
    rows = [
        [
            f"{row['length']:,}",
            spread(row["training_ms"], 1),
            spread(row["scoring_ms"], 1),
            f"{row['step_bytes'] / 1e6:,.0f}" if row["step_bytes"] else "–",
        ]
        for row in result["rows"]
    ]
    header = ["L", "training step, ms", "scoring step, ms", "memory of a training step, MB"]
    lines = [
        f"{kind}: {line['ms_per_1000']:.2f} ms per 1,000 behaviours of every sample, "
        f"and {line['ms_at_0']:.1f} ms whatever L is"
        for kind, line in result["lines"].items()
    ]
    held = [f"{'holds' if f['holds'] else 'DOES NOT HOLD'}: {f['text']}" for f in result["facts"]]
    return [table("product by length of history", header, rows), *lines, *held]


def _lines(rows: list[dict]) -> dict[str, dict[str, float]]:
    lines = {}
    lengths = [row["length"] for row in rows]
    for key, kind in _MEASURES.items():
        if len(rows) > 1:
            slope, start = np.polyfit(lengths, [row[key][0] for row in rows], 1)
            lines[kind] = {"ms_per_1000": 1000 * slope, "ms_at_0": start}
    return lines


def _milliseconds(seconds: list[float]) -> Spread:
    return Spread.of([1000 * value for value in seconds])
