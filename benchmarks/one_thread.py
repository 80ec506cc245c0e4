"""The product on one thread, beside what is published of long-sequence models in PyTorch."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import apart
from benchmarks.clock import Spread
from benchmarks.contenders import SCORING, TRAINING
from benchmarks.plan import Plan
from benchmarks.settings import Setting
from benchmarks.tables import spread, table
from benchmarks.timing import product_alone

_LENGTH, _TOWER = 1000, (256, 128, 64)
# Samples a second of public PyTorch models, one thread, L = 1000, embeddings 24 wide.
PYTORCH = {
    TRAINING: {"DIN": 190, "TWIN": 342, "SIM": 700, "ETA": 707, "SDIM": 1479},
    SCORING: {"DIN": 485, "ETA": 981, "TWIN": 1346, "SIM": 2884, "SDIM": 3019},
}


def measure(plan: Plan, say: Callable[[str], None]) -> dict:
    """Samples a second by batch size and sampling steps."""
    say(f"one thread: product at L={_LENGTH:,}")
    settings = [
        plan.standard(_LENGTH, batch_size=size, infer_timesteps=steps, deep_layers=_TOWER)
        for size, steps in plan.one_thread
    ]
    (speeds,) = apart.in_fresh_processes(_speeds, [(plan, settings)], threads=1)
    rows = [
        {"batch_size": size, "infer_timesteps": steps, **found}
        for (size, steps), found in zip(plan.one_thread, speeds, strict=True)
    ]
    return {"length": _LENGTH, "rows": rows, "pytorch": PYTORCH}


def tables(result: dict) -> list[str]:
    """The product, then the public figures."""
    rows = [
        [
            f"product, B={row['batch_size']}, S={row['infer_timesteps']}",
            spread(row[TRAINING]),
            spread(row[SCORING]),
        ]
        for row in result["rows"]
    ]
    public = result["pytorch"]
    rows += [
        [
            f"{name} (PyTorch, published)",
            f"{public[TRAINING][name]:,}",
            f"{public[SCORING][name]:,}",
        ]
        for name in public[TRAINING]
    ]
    title = f"one thread, L={result['length']:,}, tower {'-'.join(map(str, _TOWER))}: samples/s"
    return [table(title, ["", TRAINING, SCORING], rows)]


def _speeds(plan: Plan, settings: list[Setting]) -> list[dict[str, Spread]]:
    found = []
    for setting in settings:
        timed = product_alone(plan, setting)
        found.append(
            {
                kind: Spread.of(timed[kind].seconds).per_second(setting.batch_size)
                for kind in (TRAINING, SCORING)
            }
        )
    return found
