"""Where the time of a step goes: the parts of the product, timed one by one, and their floor."""

import contextlib
from collections.abc import Callable
from typing import Any
from unittest import mock

import tensorflow as tf

from benchmarks import machine
from benchmarks.contenders import PRODUCT, SCORING, TRAINING, build_model, product_model, steps
from benchmarks.floor import works
from benchmarks.measuring import in_turn, table
from benchmarks.samples import random_batch
from benchmarks.settings import Plan, Setting
from diffumin_tf import history
from diffumin_tf.input.batch import Batch
from diffumin_tf.model import RankingModel, compiled_for_any_batch

# Each of some ten parts has its turn, so that turns may be shorter.
_SHARE_OF_ROUND = 0.25
_SMALL_GRADIENT = 1e-4
_LOOK_UP = "look up what trains"
_WITHOUT_GRADIENT = ("look up all", "score and choose")


def measure(plan: Plan, say: Callable[[str], None]) -> dict:
    """Rates of the machine, and by L and kind of step the parts and the whole."""
    say("breakdown: what memory and processor can do at best")
    rates, rows = machine.rates(plan.standard.rows), []
    for length in plan.breakdown:
        setting = plan.standard.at(length)
        for kind in (TRAINING, SCORING):
            say(f"breakdown: {kind}, product at L={length:,}")
            rows.append({"length": length, "kind": kind, **_row(plan, setting, kind, rates)})
    return {"rates": rates._asdict(), "rows": rows}


def tables(result: dict) -> list[str]:
    """The rates, and one table for each L and kind of step."""
    rates = machine.Rates(**result["rates"])
    out = [
        "\nthis machine at best: "
        f"{rates.streamed / 1e9:.1f} GB/s in order, {rates.gathered / 1e9:.1f} GB/s of table rows, "
        f"{2 * rates.wide / 1e9:.0f} GFLOP/s in products of 1024 × 1024, "
        f"{2 * rates.narrow / 1e9:.0f} GFLOP/s in products of 1024 × 24 × 72"
    ]
    for row in result["rows"]:
        whole = row["whole_ms"]
        lines = [
            [
                name,
                part["ms"].text(2),
                f"{part['ms'].median / whole.median:.0%}",
                f"{part['floor_ms']:.2f}",
                f"{part['bytes'] / 1e6:,.1f}",
                f"{2 * part['multiply_adds'] / 1e6:,.0f}",
            ]
            for name, part in row["parts"].items()
        ]
        measured = sum(part["ms"].median for part in row["parts"].values())
        rest, floor = whole.median - measured, row["floor_ms"]
        lines.append(["rest", f"{rest:.2f}", f"{rest / whole.median:.0%}", "", "", ""])
        lines.append(["whole step", whole.text(2), "100%", f"{floor:.2f}", "", ""])
        title = (
            f"parts of a {row['kind']} step at L={row['length']:,}, each compiled by itself; "
            f"the whole is {whole.median / floor:.1f} times its floor"
        )
        out.append(table(title, ["", "ms", "share", "floor, ms", "MB", "MFLOP"], lines))
    return out


def _row(plan: Plan, setting: Setting, kind: str, rates: machine.Rates) -> dict:
    model, batch, training = product_model(setting), random_batch(setting, 0), kind == TRAINING
    calls = _Calls(model, batch, training)
    whole, runs = steps(PRODUCT, setting)[kind], calls.again()
    if training:
        # The same update again and again would spoil a model that others use.
        runs["optimisers"] = _optimisers(build_model(setting), calls.looked_up())
    contenders = {name: lambda _, run=run: run() for name, run in runs.items()}
    contenders["whole"] = lambda _: whole(batch)
    timed = in_turn(contenders, [None], plan.rounds, plan.round_seconds * _SHARE_OF_ROUND)
    kernels = [v for v in model.tower.trainable_variables if v.shape.rank == 2]
    tower_weights = sum(v.shape.num_elements() for v in kernels)
    least = works(setting, tower_weights, training)
    parts = {
        name: {
            "ms": timed[name].milliseconds(),
            "floor_ms": 1000 * work.seconds(rates),
            "bytes": work.streamed + work.gathered,
            "multiply_adds": work.narrow + work.wide,
        }
        for name, work in least.items()
    }
    floor_ms = sum(part["floor_ms"] for part in parts.values())
    return {"parts": parts, "whole_ms": timed["whole"].milliseconds(), "floor_ms": floor_ms}


class _Calls:
    """Calls of some functions of the product, as one pass of the model made them.

    Args:
        model: with one DiffuMIN unit.
        batch: what it passes.
        training: whether the pass is one of training.
    """

    def __init__(self, model: RankingModel, batch: Batch, training: bool) -> None:
        (unit,) = model.units
        self._functions = {
            "look up all": (model.embedding, "scan"),
            "score and choose": (history, "best_of"),
            _LOOK_UP: (model.embedding, "call"),
            "aggregate the kept": (unit._extract, "aggregate"),
            "denoise": (unit, "_generate"),
            "short-term encoder": (unit, "_encode"),
            "tower": (model, "_run_tower"),
        }
        self._made: dict[str, list[tuple]] = {name: [] for name in self._functions}
        self._training = training
        with contextlib.ExitStack() as stack:
            for name, (owner, attribute) in self._functions.items():
                spy = self._spy(name, getattr(owner, attribute))
                # Not setattr, by which Keras would forget a layer that hides behind the name.
                stack.enter_context(mock.patch.dict(vars(owner), {attribute: spy}))
            model(batch, training=training)
        unused = [name for name, calls in self._made.items() if not calls]
        if unused:
            raise RuntimeError(f"the model makes no call of: {', '.join(unused)}")

    def looked_up(self) -> tf.Tensor:
        """Rows [n] of the table that gradients reach, with repetitions."""
        return tf.concat([tf.reshape(args[0], [-1]) for args, _ in self._made[_LOOK_UP]], axis=0)

    def again(self) -> dict[str, Callable[[], None]]:
        """The calls by name, compiled; in training with gradients for arguments and weights.

        What chooses has no gradients.
        """
        return {name: self._compiled(name) for name in self._functions}

    def _spy(self, name: str, function: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._made[name].append((args, kwargs))
            return function(*args, **kwargs)

        call.draw = getattr(function, "draw", None)  # a unit draws numbers before it calls DMIG
        return call

    def _compiled(self, name: str) -> Callable[[], None]:
        owner, attribute = self._functions[name]
        function, made = getattr(owner, attribute), self._made[name]
        flat = tf.nest.flatten(made)
        indices = [i for i, x in enumerate(flat) if tf.is_tensor(x)]

        def forward(tensors: list[tf.Tensor]) -> list:
            filled = list(flat)
            for i, tensor in zip(indices, tensors, strict=True):
                filled[i] = tensor
            calls = tf.nest.pack_sequence_as(made, filled)
            outputs = [function(*args, **kwargs) for args, kwargs in calls]
            return outputs + list(getattr(function, "losses", []))

        def with_gradients(tensors: list[tf.Tensor]) -> list:
            numbers = [x for x in tensors if x.dtype.is_floating]
            with tf.GradientTape() as tape:
                tape.watch(numbers)
                outputs = tf.nest.flatten(forward(tensors))
            outputs = [x for x in outputs if x.dtype.is_floating]
            return [outputs, tape.gradient(outputs, [*numbers, *tape.watched_variables()])]

        differentiated = self._training and name not in _WITHOUT_GRADIENT
        run = compiled_for_any_batch(with_gradients if differentiated else forward)
        tensors = [tf.convert_to_tensor(flat[i]) for i in indices]
        return lambda: _wait(run(tensors))


def _optimisers(model: RankingModel, rows: tf.Tensor) -> Callable[[], None]:
    """Both updates, by random gradients of the sizes and rows of the true ones."""
    table = model.embedding.table
    values = tf.random.normal([len(rows), table.shape[1]], stddev=_SMALL_GRADIENT)
    sparse = tf.IndexedSlices(values, rows, tf.constant(table.shape))
    rest = [v for v in model.trainable_variables if v is not table]
    dense = [tf.random.normal(v.shape, stddev=_SMALL_GRADIENT) for v in rest]

    @tf.function
    def update(sparse: tf.IndexedSlices, dense: list[tf.Tensor]) -> None:
        model.table_optimizer.apply_gradients([(sparse, table)])
        model.optimizer.apply_gradients(zip(dense, rest, strict=True))

    return lambda: _wait(update(sparse, dense))


def _wait(_: Any) -> None:
    """Until the devices have done what they were asked to."""
    tf.test.experimental.sync_devices()
