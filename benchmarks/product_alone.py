"""The product alone: a step as histories grow, and on one thread."""

import dataclasses
from collections.abc import Callable

import numpy as np

from benchmarks.contenders import PRODUCT, SCORING, TRAINING, steps
from benchmarks.measuring import in_fresh_process, table
from benchmarks.settings import Plan, Setting
from benchmarks.speed import time_steps

_LENGTH = 1000  # on one thread
_ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def measure(plan: Plan, say: Callable[[str], None]) -> dict:
    """Milliseconds of a step by L and the straight lines through them; speeds on one thread."""
    growth = []
    for length in plan.growth:
        say(f"product alone: L={length:,}")
        setting = plan.standard.at(length)
        timed = time_steps(plan, setting, steps(PRODUCT, setting))
        growth.append({"length": length, **{kind: timed[kind].milliseconds() for kind in timed}})
    say(f"product alone: one thread, L={_LENGTH:,}")
    one_thread = in_fresh_process(_speeds, plan, variables=_ONE_THREAD)
    return {"growth": growth, "lines": _lines(growth), "one_thread": one_thread}


def tables(result: dict) -> list[str]:
    """Steps by L and their slopes, then the speeds on one thread."""
    rows = [
        [f"{row['length']:,}", row[TRAINING].text(1), row[SCORING].text(1)]
        for row in result["growth"]
    ]
    lines = [
        f"{kind}: {line['ms_per_1000']:.2f} ms per 1,000 behaviours of every sample, "
        f"and {line['ms_at_0']:.1f} ms whatever L is"
        for kind, line in result["lines"].items()
    ]
    speeds = [
        [
            f"B={row['batch_size']}, S={row['infer_timesteps']}",
            row[TRAINING].text(),
            row[SCORING].text(),
        ]
        for row in result["one_thread"]
    ]
    return [
        table("product by length of history", ["L", "training, ms", "scoring, ms"], rows),
        *lines,
        table(
            f"product on one thread, L={_LENGTH:,}, tower 256-128-64: samples/s",
            ["", TRAINING, SCORING],
            speeds,
        ),
    ]


def _lines(growth: list[dict]) -> dict[str, dict[str, float]]:
    lengths, lines = [row["length"] for row in growth], {}
    for kind in (TRAINING, SCORING):
        if len(growth) > 1:
            slope, start = np.polyfit(lengths, [row[kind].median for row in growth], 1)
            lines[kind] = {"ms_per_1000": 1000 * slope, "ms_at_0": start}
    return lines


def _speeds(plan: Plan) -> list[dict]:
    rows = []
    for size, sampling_steps in plan.one_thread:
        setting: Setting = dataclasses.replace(plan.standard.at(_LENGTH), batch_size=size)
        setting = setting.with_overrides(
            "deep_layers=[256,128,64]", f"infer_timesteps={sampling_steps}"
        )
        timed = time_steps(plan, setting, steps(PRODUCT, setting))
        speeds = {kind: timed[kind].per_second(size) for kind in timed}
        rows.append({"batch_size": size, "infer_timesteps": sampling_steps, **speeds})
    return rows
