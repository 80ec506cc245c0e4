"""Checkpoints: how long a save takes, what it writes, and what it adds to the steps around it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

import tensorflow as tf

from benchmarks import apart, clock, contenders, memory, scaling
from benchmarks.clock import Spread
from benchmarks.contenders import TRAINING
from benchmarks.plan import Plan
from benchmarks.settings import Setting, build_model, random_batch
from benchmarks.tables import spread, table
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.training.checkpoints import Checkpoints
from diffumin_tf.training.state import TrainingState

INTERVAL = TaskConfig.model_fields["save_checkpoints_secs"].default
MOST_OVERHEAD = 0.03
_KEEP = 2
_PLAIN, _SAVING = "steps alone", "steps and a save"


def measure(plan: Plan, say: Callable[[str], None]) -> dict:
    """Saves by size of the table, and steps of the largest with a save among them and without."""
    sizes = ", ".join(f"{rows:,}" for rows in plan.saved_rows)
    say(f"distribution: checkpoints of tables of {sizes} rows, in a process of their own")
    # With the pool of oneDNN, a save would seem to need no memory.
    arguments, variables = [(plan,)], memory.WITHOUT_POOL
    (found,) = apart.in_fresh_processes(measure_here, arguments, variables=variables)
    rows = found["rows"]
    written, seconds = [row["bytes"] for row in rows], [row["seconds"][0] for row in rows]
    start, rate = scaling.save_line(written, seconds)
    return found | {"seconds_at_0": start, "bytes_per_second": rate}


def tables(result: dict) -> list[str]:
    """One line for each size of the table, and whether the overhead is what it should be."""
    rows = [
        [
            f"{row['rows']:,}",
            f"{row['bytes'] / 1e6:,.0f}",
            spread(row["seconds"], 2),
            f"{row['bytes'] / row['seconds'][0] / 1e6:,.0f}",
            "–" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:,.0f}",
            f"{row['restore_seconds']:.2f}",
        ]
        for row in result["rows"]
    ]
    header = ["rows", "MB", "save, s", "MB/s", "memory above, MB", "restore, s"]
    share = scaling.overhead(result["added_seconds"][0], result["interval"])
    holds = "holds" if share <= MOST_OVERHEAD else "DOES NOT HOLD"
    return [
        table("checkpoints, Ele.me", header, rows),
        f"a save takes {result['seconds_at_0']:.2f} s and 1 s for every "
        f"{result['bytes_per_second'] / 1e6:,.0f} MB",
        f"{holds}: with {rows[-1][0]} rows, a save adds {spread(result['added_seconds'], 2)} s to "
        f"the steps around it, {share:.2%} of them every {result['interval']} s "
        f"(at most {MOST_OVERHEAD:.0%})",
    ]


def measure_here(plan: Plan) -> dict:
    """The costs of saving the Ele.me model with tables of several sizes, in this process."""
    memory.return_freed_memory()
    rows, largest = [], max(plan.saved_rows)
    for count in sorted(plan.saved_rows):
        setting, state = plan.eleme(rows=count), TrainingState()
        model = contenders.model_of(setting) if count == largest else build_model(setting)
        with tempfile.TemporaryDirectory() as folder:
            saved = Checkpoints(folder, model, state, _KEEP)

            def save(_: object = None, state=state, saved=saved) -> str:
                state.step += 1
                return saved.save()

            written = _bytes(save())
            seconds = Spread.of([clock.seconds_of(save) for _ in range(plan.saves)])
            rows.append(
                {
                    "rows": count,
                    "bytes": written,
                    "seconds": seconds,
                    "peak_bytes": memory.peak_above(save) if memory.observable() else None,
                    "restore_seconds": clock.seconds_of(lambda s=saved: s.restore(print)),
                }
            )
            if count == largest:
                added = _added(plan, setting, contenders.product(setting)[TRAINING], save)
    return {"interval": INTERVAL, "rows": rows, "added_seconds": added}


def _added(plan: Plan, setting: Setting, step: Callable, save: Callable) -> Spread:
    """Seconds that a save adds to some steps before it, round by round."""
    batches = [random_batch(setting, seed) for seed in range(plan.steps_a_save)]

    def steps(_: object) -> None:
        for batch in batches:
            step(batch)

    def steps_and_save(_: object) -> None:
        steps(None)
        save()

    # Each has one turn a round, as long as it takes.
    contenders_ = {_PLAIN: steps, _SAVING: steps_and_save}
    timed = clock.in_turn(contenders_, [None], plan.rounds, round_seconds=0.0)
    pairs = zip(timed[_SAVING].seconds, timed[_PLAIN].seconds, strict=True)
    return Spread.of([saving - plain for saving, plain in pairs])


def _bytes(path: str) -> int:
    return sum(os.stat(file).st_size for file in tf.io.gfile.glob(path + ".*"))
