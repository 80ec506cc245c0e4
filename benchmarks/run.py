"""Measures the product and writes what it found: `python -m benchmarks.run [--quick]`."""

from __future__ import annotations

import importlib
import posixpath
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from benchmarks import apart
from diffumin_tf.files import write_json

STAGES = (
    "timing",
    "memory",
    "curve",
    "pipeline",
    "breakdown",
    "floor",
    "one_thread",
    "serving",
)

_PROGRAM = "python -m benchmarks.run"
_USAGE = f"""usage: {_PROGRAM} [--flag=value …]

Compares the product with the straightforward reference, takes its steps apart, and writes the
numbers as JSON and, beside it, as a plot. Exit code 1 when a ratio falls short of the baseline.
"""


def main(argv: Sequence[str]) -> int:
    """Runs the stages, writes the results, and compares them with the baseline.

    Args:
        argv: flags, without the program's name.

    Returns:
        Exit code: 0 when everything asked for was done, 1 after an error or when a ratio fell short
        of the baseline, 2 for wrong usage.
    """
    values = flags.FlagValues()
    _define(values)
    try:
        rest = values([_PROGRAM, *argv])
        stages = _stages(values)
    except flags.Error as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 2
    if values.help:
        print(_USAGE)
        for flag in dict.fromkeys(values[name] for name in values):
            default = f" (default: {flag.default})" if flag.default else ""
            print(f"  --{flag.name}: {' '.join(flag.help.split())}{default}")
        return 0
    if len(rest) > 1:
        print(f"{_PROGRAM}: unexpected argument {rest[1]!r}", file=sys.stderr)
        return 2
    apart.load_tensorflow()
    from diffumin_tf.terminal import exit_code

    return exit_code(lambda: _run(values, stages, f"{_PROGRAM} {shlex.join(argv)}".strip()))


def measure(plan, stages: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Results of the stages; prints their tables as they come.

    Args:
        plan: a `benchmarks.plan.Plan`.
        stages: some of `STAGES`.
        say: takes a line of progress.
    """
    from benchmarks import machine

    modules = {stage: importlib.import_module(f"benchmarks.{stage}") for stage in stages}
    results: dict[str, Any] = {
        "machine": machine.describe(),
        "settings": {name: setting.describe() for name, setting in plan.compared().items()},
        "overrides": list(plan.overrides),
        "ratios": {},
    }
    for stage in stages:
        found = results[stage] = modules[stage].measure(plan, say)
        print("\n".join(modules[stage].tables(found)), end="\n\n", flush=True)
    for stage in {"timing", "memory"} & results.keys():
        results["ratios"] |= (results[stage] or {}).get("ratios", {})
    return results


def _define(values: flags.FlagValues) -> None:
    here = posixpath.dirname(__file__)
    flags.DEFINE_bool("quick", False, "Measure less, and less often.", values)
    flags.DEFINE_list("only", None, f"Stages to run, of {','.join(STAGES)}.", values)
    flags.DEFINE_string(
        "output",
        posixpath.join(here, "results.json"),
        "JSON file to write; the plot lies beside it.",
        values,
    )
    flags.DEFINE_string(
        "baseline", posixpath.join(here, "baseline.json"), "Ratios to compare with.", values
    )
    flags.DEFINE_bool("write_baseline", False, "Make the ratios the new baseline.", values)
    flags.DEFINE_multi_string("set", [], "key=value, overrides a configuration key", values)
    flags.DEFINE_bool("help", False, "Show this help.", values, short_name="h")


def _stages(values: flags.FlagValues) -> tuple[str, ...]:
    asked = values.only or STAGES
    unknown = [stage for stage in asked if stage not in STAGES]
    if unknown:
        raise flags.Error(f"--only: no stage {unknown[0]!r}; there are {', '.join(STAGES)}")
    if values.write_baseline and (values.quick or values.only):
        raise flags.Error("--write_baseline needs a whole run, without --quick and --only")
    return tuple(stage for stage in STAGES if stage in asked)


def _run(values: flags.FlagValues, stages: Sequence[str], command: str) -> int:
    import dataclasses

    from benchmarks import compare, plot
    from benchmarks.plan import QUICK, Plan

    started = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - started:4.0f} s] {line}", flush=True)

    plan = dataclasses.replace(QUICK if values.quick else Plan(), overrides=tuple(values.set))
    results = measure(plan, stages, say)
    results = {"command": command, **results, "seconds": time.monotonic() - started}
    write_json(values.output, _plain(results))
    say(f"wrote {values.output}")
    say(plot.draw(results, posixpath.splitext(values.output)[0] + ".png"))
    if values.write_baseline:
        compare.write_baseline(values.baseline, results["ratios"], command)
        say(f"wrote {values.baseline}")
        return 0
    return compare.report(results["ratios"], values.baseline, print)


def _plain(value: Any) -> Any:
    """Named tuples as objects, so that the file says what is what."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
