"""What distribution costs: one replica against none, checkpoints, and the parts of a step.

The costs of the parts are those that `docs/scaling.md` reckons with, by `benchmarks.scaling`.
"""

from __future__ import annotations

import functools
import posixpath
import statistics
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from benchmarks import (
    clock,
    contenders,
    costs,
    loopback,
    saving,
    scenarios,
    synthetic,
    timing,
)
from benchmarks.clock import Spread
from benchmarks.plan import Plan
from benchmarks.scaling import Device, Sizes
from benchmarks.settings import Setting, build_model
from benchmarks.tables import spread, table
from diffumin_tf.input import damage
from diffumin_tf.input.features import FeaturePath
from diffumin_tf.input.vocabulary import HashedRows
from diffumin_tf.training import strategy
from diffumin_tf.training.batches import Batches
from diffumin_tf.training.step import Requests, TrainingStep
from diffumin_tf.training.strategy import Distribution

MOST_OVERHEAD = 0.05
ALONE, MIRRORED = "no strategy", "one replica"
_BATCHES = 16  # of an epoch
_IDS = 100_000
_LONG = 5000
_LARGE = 4  # times a batch: a gradient as large as that of so many devices


def measure(plan: Plan, say: Callable[[str], None]) -> dict:
    """The overheads, the costs of the parts, and what follows from them for large tables."""
    compared, trained = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, setting in plan.distributed().items():
            say(f"distribution: {name}, one replica and no strategy in turn")
            files = write_records(posixpath.join(folder, name), setting)
            training = {
                ALONE: Training(setting, files, strategy.one_device()),
                MIRRORED: Training(setting, files, _one_replica()),
            }
            compared[name] = _compare(plan, setting.batch_size, training)
            trained[name] = training[ALONE]
        say("distribution: rows of a table, records, a vocabulary")
        parts = _parts(plan, trained["eleme"])
    found = {
        "one_replica": compared,
        "saving": saving.measure(plan, say),
        "costs": parts,
    }
    eleme = plan.eleme()
    sizes = {"Ele.me": costs.sizes_of(eleme, trained["eleme"].model)}
    if plan.links and loopback.observable():
        found["links"] = {
            "counted": loopback.measure(plan, say),
            "expected": loopback.expected(eleme.batch_size, sizes["Ele.me"]),
        }
    long = plan.standard(_LONG)
    sizes[f"L={_LONG:,}"] = costs.sizes_of(long, contenders.model_of(long))
    start, rate = (found["saving"][key] for key in ("seconds_at_0", "bytes_per_second"))
    devices, server_rows = _this_machine(plan, compared, sizes, parts)
    worked_out = scenarios.measure(sizes, devices, server_rows, lambda size: start + size / rate)
    return found | {"scenarios": worked_out}


def tables(result: dict) -> list[str]:
    """The overheads and whether they are what they should be, the costs, and what follows."""
    rows, held = [], []
    for name, row in result["one_replica"].items():
        rows.append([name, *(spread(row[k]) for k in (ALONE, MIRRORED)), spread(row["ratio"], 3)])
        over = row["ratio"][0] - 1
        held.append(
            f"{'holds' if over <= MOST_OVERHEAD else 'DOES NOT HOLD'}: {name}: one replica takes "
            f"{over:+.1%} of a step more than no strategy (at most {MOST_OVERHEAD:.0%})"
        )
    header = ["samples/s, read from disk", ALONE, MIRRORED, "time of a step, ratio"]
    title = "one replica of MirroredStrategy: median of the steps (quartiles)"
    out = [table(title, header, rows), *held]
    out += saving.tables(result["saving"]) + costs.tables(result["costs"])
    if "links" in result:
        out += loopback.tables(result["links"]["counted"], result["links"]["expected"])
    return out + scenarios.tables(result["scenarios"])


class Training:
    """What the trainer does in a step: takes a batch from the input pipeline, and trains on it.

    Args:
        setting: the model and its batches.
        files: records.
        distribution: where it runs.
    """

    def __init__(self, setting: Setting, files: list[str], distribution: Distribution) -> None:
        config, schema = setting.config, setting.schema
        with distribution.strategy.scope():
            self.model = build_model(setting)
        rows_of = HashedRows(setting.rows)
        path = FeaturePath(schema, setting.layout, config.seq_len, rows_of, config.buckets)
        repairs = damage.Repairs(posixpath.dirname(files[0]), schema, 0, print)
        self.files = files
        self.batches = Batches(config, schema, path, distribution, repairs)
        self._batch_size = setting.batch_size
        self._endless = self._epochs()
        self._step = TrainingStep(self.model, distribution)

    def epoch(self) -> Iterator:
        """The batches once, in the order of the files."""
        # Not shuffled: with so few records, filling the buffer would be all there is to see.
        return self.batches.read(self.files, self._batch_size)

    def step(self, _: object = None) -> None:
        """One step, waited for."""
        batch = next(self._endless)
        losses, *_ = self._step(batch, self.batches.spec, Requests())
        losses["total_loss"].numpy()

    def _epochs(self) -> Iterator:
        while True:
            yield from self.epoch()


def write_records(folder: str, setting: Setting) -> list[str]:
    """Writes full histories for some batches; returns the files."""
    lengths = np.full(_BATCHES * setting.batch_size, setting.length)
    return synthetic.write_records(
        folder, setting.schema, synthetic.vocabulary_ids(_IDS), lengths, seed=0
    )


@functools.cache  # a process can have one, since two would mix up what they reduce
def _one_replica() -> Distribution:
    return Distribution(tf.distribute.MirroredStrategy(["CPU:0"]))


def _compare(plan: Plan, batch_size: int, training: dict[str, Training]) -> dict[str, Spread]:
    steps = {name: of_name.step for name, of_name in training.items()}
    timed = clock.in_turn(steps, [None], plan.overhead_rounds, plan.round_seconds)
    speeds = {
        name: Spread.of(times.seconds).per_second(batch_size) for name, times in timed.items()
    }
    return {**speeds, "ratio": clock.ratios(timed[MIRRORED], timed[ALONE])}


def _parts(plan: Plan, training: Training) -> dict:
    eleme, table_rows = plan.eleme(), max(plan.saved_rows)
    rows = eleme.batch_size * costs.sizes_of(eleme, training.model).trained
    return {
        "table_rows": table_rows,
        "rows_per_second": costs.row_rates(plan, table_rows, (rows, _LARGE * rows)),
        "input": costs.input_rates(plan, training.files, training.epoch, eleme.batch_size),
        "vocabulary": costs.vocabulary(plan),
    }


def _this_machine(
    plan: Plan, compared: dict, sizes: dict[str, Sizes], parts: dict
) -> tuple[dict[str, Device], float]:
    """What it does as a device with each model, and the rows a second that it applies as server."""
    long = timing.product_alone(plan, plan.standard(_LONG))[contenders.TRAINING]
    speeds = [
        compared["eleme"][ALONE].median,
        plan.standard(_LONG).batch_size / statistics.median(long.seconds),
    ]
    assigned, added = (
        list(parts["rows_per_second"][name].values())[-1].median
        for name in (costs.ASSIGNED, costs.ADDED)
    )
    devices = {}
    for (name, of_model), speed in zip(sizes.items(), speeds, strict=True):
        # What is left of a sample's time without its rows in the update.
        rest = max(1 / speed - of_model.trained / assigned, 0.1 / speed)
        devices[name] = Device(1 / rest, assigned, link=0.0, latency=0.0)
    return devices, added
