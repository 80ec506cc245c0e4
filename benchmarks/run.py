"""Measures the product against the straightforward reference, and takes its steps apart.

Writes the numbers as JSON and, beside it, a plot. The exit code is 1 when a ratio of product to
reference fell short of the baseline.
"""

from __future__ import annotations

import argparse
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
)
from benchmarks.settings import QUICK, Plan
from diffumin_tf.files import write_json
from diffumin_tf.terminal import exit_code

STAGES = {
    "speed": speed,
    "memory": memory,
    "product_alone": product_alone,
    "pipeline": pipeline,
    "breakdown": breakdown,
    "serving": serving,
}

_PROGRAM = "python -m benchmarks.run"
_HERE = os.path.dirname(os.path.abspath(__file__))


def main(argv: Sequence[str]) -> int:
    """Runs what the arguments ask for.

    Args:
        argv: arguments, without the program's name.

    Returns:
        Exit code: 0 when everything asked for was done, 1 after an error or when a ratio fell short
        of the baseline.
    """
    parser = argparse.ArgumentParser(_PROGRAM, description=__doc__)
    parser.add_argument("--quick", action="store_true", help="measure less, and less often")
    parser.add_argument(
        "--only", nargs="+", choices=STAGES, default=list(STAGES), help="stages to run"
    )
    parser.add_argument(
        "--output", default=f"{_HERE}/results.json", help="JSON file to write (%(default)s)"
    )
    parser.add_argument(
        "--baseline", default=f"{_HERE}/baseline.json", help="to compare with (%(default)s)"
    )
    parser.add_argument(
        "--write_baseline", action="store_true", help="make the ratios the new baseline"
    )
    args = parser.parse_args(argv)
    if args.write_baseline and (args.quick or len(args.only) < len(STAGES)):
        parser.error("--write_baseline needs a whole run, without --quick and --only")
    # It takes functions that are made on purpose, each with a graph of its own, for a mistake.
    tf.get_logger().setLevel("ERROR")
    return exit_code(lambda: _run(args, shlex.join([*shlex.split(_PROGRAM), *argv])))


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
            name: setting.config.model_dump(mode="json")
            for name, setting in plan.compared().items()
        },
        "ratios": {},
    }
    for stage in stages:
        found = results[stage] = STAGES[stage].measure(plan, say)
        print("\n".join(STAGES[stage].tables(found)), end="\n\n", flush=True)
        results["ratios"] |= (found or {}).get("ratios", {})
    return results


def _run(args: argparse.Namespace, command: str) -> int:
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - started:4.0f} s] {line}", flush=True)

    results = {"command": command, **measure(QUICK if args.quick else Plan(), args.only, say)}
    results["seconds"] = time.monotonic() - started
    # Spreads become objects, so that the file says what is what.
    write_json(args.output, json.loads(json.dumps(results, default=dataclasses.asdict)))
    say(f"wrote {args.output}")
    say(plot.draw(results, os.path.splitext(args.output)[0] + ".png"))
    if args.write_baseline:
        compare.write_baseline(args.baseline, results["ratios"], command)
        say(f"wrote {args.baseline}")
        return 0
    return 0 if compare.report(results["ratios"], args.baseline, print) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
