"""Product against reference: samples a second in training and scoring, measured in turn."""

from collections.abc import Callable

from benchmarks.contenders import PRODUCT, REFERENCE, SCORING, TRAINING, Step, steps
from benchmarks.measuring import Timed, in_turn, table
from benchmarks.samples import random_batch
from benchmarks.settings import Plan, Setting

# The product with gradients through all sampling steps, as the reference has them.
ALL_STEPS = "product, all steps"

_ALL_STEPS_AT = ("5000", "eleme")
_BATCHES = 4  # different ones, so that no step finds its rows in the cache for having just run


def measure(plan: Plan, say: Callable[[str], None]) -> dict:
    """Rows by setting, kind and contender, and the ratios of product to reference."""
    rows, ratios = [], {TRAINING: {}, SCORING: {}}
    for name, setting in plan.compared().items():
        for kind in (TRAINING, SCORING):
            say(f"speed: {kind}, {_words(name)}, product and reference in turn")
            timed = time_steps(plan, setting, _contenders(name, setting, kind))
            reference = timed[REFERENCE]
            for contender, times in timed.items():
                rows.append(
                    {
                        "setting": name,
                        "kind": kind,
                        "contender": contender,
                        "samples_per_second": times.per_second(setting.batch_size),
                        "first_seconds": times.first_seconds,
                        "times_reference": times.times_faster_than(reference),
                    }
                )
            ratios[kind][name] = timed[PRODUCT].times_faster_than(reference).median
    return {"rows": rows, "ratios": ratios}


def time_steps(plan: Plan, setting: Setting, contenders: dict[str, Step]) -> dict[str, Timed]:
    """Times of steps on random batches, in turn."""
    batches = [random_batch(setting, seed) for seed in range(_BATCHES)]
    return in_turn(contenders, batches, plan.rounds, plan.round_seconds)


def tables(result: dict) -> list[str]:
    """Samples a second, and how many times faster the product is."""
    header = ["", "", "samples/s", "first call, s", "times the reference (more is better)"]
    out = []
    for kind in (TRAINING, SCORING):
        rows = [
            [
                _words(row["setting"]),
                row["contender"],
                row["samples_per_second"].text(),
                f"{row['first_seconds']:.1f}",
                row["times_reference"].text(2),
            ]
            for row in result["rows"]
            if row["kind"] == kind
        ]
        title = f"{kind}: median (lowest–highest of the rounds); a graph serves several L"
        out.append(table(title, header, rows))
    return out


def _contenders(name: str, setting: Setting, kind: str) -> dict[str, Step]:
    contenders = {c: steps(c, setting)[kind] for c in (PRODUCT, REFERENCE)}
    limited = setting.config.sampler_grad_steps is not None
    if kind == TRAINING and limited and name in _ALL_STEPS_AT:
        all_steps = setting.with_overrides("sampler_grad_steps=null")
        contenders[ALL_STEPS] = steps(PRODUCT, all_steps)[kind]
    return contenders


def _words(name: str) -> str:
    return f"L={int(name):,}" if name.isdigit() else name
