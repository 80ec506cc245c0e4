"""Where the time of a step goes: the parts of the product, compiled and timed one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any
from unittest import mock

import tensorflow as tf

from benchmarks import clock, contenders
from benchmarks.clock import Spread
from benchmarks.contenders import SCORING, TRAINING
from benchmarks.plan import Plan
from benchmarks.settings import Setting, build_model, random_batch
from benchmarks.tables import spread, table
from diffumin_tf.model import RankingModel, compiled_for_any_batch

WHOLE, REST = "whole step", "rest"

# Each of some ten parts has its turn, so that turns may be shorter.
_SHARE_OF_ROUND = 0.25
_SMALL_GRADIENT = 1e-4
_LOOK_UP = "look up what trains"
_WITHOUT_GRADIENT = ("look up all", "score and choose")


def measure(plan: Plan, say: Callable[[str], None]) -> list[dict]:
    """Milliseconds of every part by L and kind of step, and what the parts leave of the whole."""
    rows = []
    for length in plan.breakdown:
        setting = plan.standard(length)
        for kind in (TRAINING, SCORING):
            say(f"breakdown: {kind}, product at L={length:,}")
            parts = _milliseconds(plan, setting, kind)
            rest = parts[WHOLE].median - sum(
                value.median for name, value in parts.items() if name != WHOLE
            )
            rows.append({"length": length, "kind": kind, "parts": parts, "rest_ms": rest})
    return rows


def tables(result: list[dict]) -> list[str]:
    """One table for each L and kind of step."""
    out = []
    for row in result:
        parts, whole = dict(row["parts"]), row["parts"][WHOLE][0]
        del parts[WHOLE]
        lines = [[name, spread(v, 2), f"{v[0] / whole:.0%}"] for name, v in parts.items()]
        lines.append([REST, f"{row['rest_ms']:.2f}", f"{row['rest_ms'] / whole:.0%}"])
        lines.append([WHOLE, spread(row["parts"][WHOLE], 2), "100%"])
        title = f"parts of a {row['kind']} step at L={row['length']:,}, each compiled by itself"
        out.append(table(title, ["", "ms", "share"], lines))
    return out


def _milliseconds(plan: Plan, setting: Setting, kind: str) -> dict[str, Spread]:
    batch, training = random_batch(setting, 0), kind == TRAINING
    calls = _Calls(contenders.model_of(setting), batch.inputs, training)
    parts, whole = calls.again(), contenders.product(setting)[kind]
    if training:
        # The same update again and again would spoil a model that others use.
        parts["optimisers"] = _optimisers(build_model(setting), calls.looked_up())
    steps = {name: lambda _, run=run: run() for name, run in parts.items()}
    steps[WHOLE] = lambda _: whole(batch)
    timed = clock.in_turn(steps, [None], plan.rounds, plan.round_seconds * _SHARE_OF_ROUND)
    return {x: Spread.of([1000 * s for s in times.seconds]) for x, times in timed.items()}


class _Calls:
    """Calls of some functions of the product, as one pass of the model made them.

    Args:
        model: with one DiffuMIN unit.
        inputs: of a batch.
        training: whether the pass is one of training.
    """

    def __init__(self, model: RankingModel, inputs: dict, training: bool) -> None:
        (unit,) = model.units
        self._functions = {
            "look up all": (model.embedding, "scan"),
            _LOOK_UP: (model.embedding, "call"),
            "score and choose": (unit._extract, "choose"),
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
            model(inputs, training=training)

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

        return call

    def _compiled(self, name: str) -> Callable[[], None]:
        owner, attribute = self._functions[name]
        function, made = getattr(owner, attribute), self._made[name]
        flat = tf.nest.flatten(made)
        places = [place for place, x in enumerate(flat) if tf.is_tensor(x)]

        def forward(tensors: list[tf.Tensor]) -> list:
            filled = list(flat)
            for place, tensor in zip(places, tensors, strict=True):
                filled[place] = tensor
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
        tensors = [tf.convert_to_tensor(flat[place]) for place in places]
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
    """Until the devices have done what they were told."""
    tf.test.experimental.sync_devices()
