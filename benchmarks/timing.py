"""Product against reference: samples a second in training and scoring, measured in turn."""

from __future__ import annotations

import functools
from collections.abc import Callable

from benchmarks import clock, contenders
from benchmarks.clock import Spread, Timed
from benchmarks.contenders import PRODUCT, REFERENCE, SCORING, TRAINING, Step
from benchmarks.plan import Plan
from benchmarks.settings import Setting, random_batch
from benchmarks.tables import spread, table

# The product with gradients through all sampling steps, as the reference has them.
ALL_STEPS = "product, all steps"

_BATCHES = 4  # different ones, so that no step finds its rows in the cache for having just run
_ALL_STEPS_AT = (5000, "eleme")


def measure(plan: Plan, say: Callable[[str], None]) -> dict:
    """Rows by setting, kind and contender, and the ratios of product to reference."""
    rows, ratios, traced = [], {TRAINING: {}, SCORING: {}}, set()
    for name, setting in plan.compared().items():
        for kind in (TRAINING, SCORING):
            say(f"timing: {kind}, {_words(name)}, product and reference in turn")
            steps = _steps(name, setting, kind)
            timed = _in_turn(plan, setting, steps)
            for contender, times in timed.items():
                row = _row(name, setting, kind, contender, times, timed[REFERENCE])
                if steps[contender] in traced:
                    row["first_seconds"] = None  # one graph serves several lengths
                rows.append(row)
            traced |= set(steps.values())
            ratios[kind][name] = clock.ratios(timed[REFERENCE], timed[PRODUCT]).median
    return {"rows": rows, "ratios": ratios}


def tables(result: dict) -> list[str]:
    """Samples a second, and how many times faster the product is."""
    out = []
    for kind in (TRAINING, SCORING):
        rows = [
            [
                _words(row["setting"]),
                row["contender"],
                spread(row["samples_per_second"]),
                "" if row["first_seconds"] is None else f"{row['first_seconds']:.1f}",
                "" if row["ratio"] is None else spread(row["ratio"], 2),
            ]
            for row in result["rows"]
            if row["kind"] == kind
        ]
        header = ["", "", "samples/s", "first call, s", "times the reference (more is better)"]
        out.append(table(f"{kind}: median (lowest–highest of the rounds)", header, rows))
    return out


@functools.cache
def product_alone(plan: Plan, setting: Setting) -> dict[str, Timed]:
    """Training and scoring of the product; measured once."""
    return _in_turn(plan, setting, contenders.product(setting))


def _steps(name: str, setting: Setting, kind: str) -> dict[str, Step]:
    steps = {c: build(setting)[kind] for c, build in contenders.BY_NAME.items()}
    key = int(name) if name.isdigit() else name
    steps_differ = setting.config.sampler_grad_steps is not None
    if kind == TRAINING and steps_differ and key in _ALL_STEPS_AT:
        steps[ALL_STEPS] = contenders.product(setting.differentiating_all_steps())[kind]
    return steps


def _in_turn(plan: Plan, setting: Setting, steps: dict[str, Step]) -> dict[str, Timed]:
    batches = [random_batch(setting, seed) for seed in range(_BATCHES)]
    return clock.in_turn(steps, batches, plan.rounds, plan.round_seconds)


def _row(
    name: str, setting: Setting, kind: str, contender: str, times: Timed, reference: Timed
) -> dict:
    return {
        "setting": name,
        "kind": kind,
        "contender": contender,
        "samples_per_second": Spread.of(times.seconds).per_second(setting.batch_size),
        "first_seconds": times.first_seconds,
        "ratio": None if contender == REFERENCE else clock.ratios(reference, times),
    }


def _words(name: str) -> str:
    return f"L={int(name):,}" if name.isdigit() else name
