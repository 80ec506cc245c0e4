"""Measures the product against the straightforward reference, and takes its steps apart.

Writes the numbers as JSON and, beside it, a plot. The exit code is 1 when a ratio of product to
reference fell short of the baseline.
"""

import dataclasses
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from absl import flags

from benchmarks import (
    breakdown,
    compare,
    machine,
    memory,
    pipeline,
    plot,
    product_alone,
    serving,
    speed,
    stored_once,
)
from benchmarks.settings import QUICK, Plan
from diffumin_tf.devices import with_defaults
from diffumin_tf.files import write_json
from diffumin_tf.terminal import UsageError, exit_code, parse

STAGES = {
    "speed": speed,
    "memory": memory,
    "product_alone": product_alone,
    "pipeline": pipeline,
    "stored_once": stored_once,
    "breakdown": breakdown,
    "serving": serving,
}

_PROGRAM = "python -m benchmarks.run"
_RESULTS, _BASELINE = (
    os.path.join(os.path.dirname(__file__), name) for name in ("results.json", "baseline.json")
)


def main(argv: Sequence[str]) -> int:
    """Runs what the arguments ask for.

    Args:
        argv: arguments, without the program's name.

    Returns:
        Exit code: 0 when everything asked for was done, 1 after an error or when a ratio fell short
        of the baseline, 2 after wrong usage.
    """
    values = flags.FlagValues()
    flags.DEFINE_bool("quick", False, "Measure less, and less often.", values)
    flags.DEFINE_multi_enum("only", list(STAGES), list(STAGES), "Stage to run.", values)
    flags.DEFINE_string("output", _RESULTS, "JSON file to write; the plot lies beside it.", values)
    flags.DEFINE_bool("write_baseline", False, "Make the ratios the new baseline.", values)
    # It takes functions that are made on purpose, each with a graph of its own, for a mistake.
    tf.get_logger().setLevel("ERROR")
    return exit_code(_run)(values, argv)


def measure(plan: Plan, stages: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Results of the stages; prints their tables as they come.

    Args:
        plan: sizes and repetitions.
        stages: some of `STAGES`.
        say: takes a line of progress.

    Returns:
        `machine`, `settings`, `ratios.{training,scoring,peak_memory}."<L>"` (product to
        reference), and the results of each stage by its name.
    """
    results: dict[str, Any] = {
        "machine": machine.describe(),
        "settings": {
            name: with_defaults(setting.config).model_dump(mode="json")
            for name, setting in plan.compared().items()
        },
        "ratios": {},
    }
    for stage in stages:
        found = results[stage] = STAGES[stage].measure(plan, say)
        print("\n".join(STAGES[stage].tables(found)), end="\n\n", flush=True)
        results["ratios"] |= (found or {}).get("ratios", {})
    return results


def _run(values: flags.FlagValues, argv: Sequence[str]) -> int:
    parse(values, _PROGRAM, argv)
    if values.write_baseline and (values.quick or len(values.only) < len(STAGES)):
        raise UsageError("--write_baseline needs a whole run, without --quick and --only")
    os.makedirs(os.path.dirname(os.path.abspath(values.output)), exist_ok=True)
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - started:4.0f} s] {line}", flush=True)

    command = shlex.join([*shlex.split(_PROGRAM), *argv])
    results = {"command": command, **measure(QUICK if values.quick else Plan(), values.only, say)}
    results["seconds"] = time.monotonic() - started
    # Spreads become objects, so that the file says what is what.
    write_json(values.output, json.loads(json.dumps(results, default=dataclasses.asdict)))
    say(f"wrote {values.output}")
    say(plot.draw(results, os.path.splitext(values.output)[0] + ".png"))
    if values.write_baseline:
        compare.write_baseline(_BASELINE, results["ratios"], command)
        say(f"wrote {_BASELINE}")
        return 0
    return 0 if compare.report(results["ratios"], _BASELINE, print) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
