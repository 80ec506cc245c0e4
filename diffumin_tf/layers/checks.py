"""Checks shared by the layers; each raises a ValueError that echoes what it received."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def integer(argument: str, value: Any) -> int:
    """`value` as an int, if it is a whole number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"`{argument}` must be an integer, received {value!r}.")
    return int(value)


def positive_int(argument: str, value: Any) -> int:
    """`value` as an int, if it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"`{argument}` must be an integer of at least 1, received {value!r}.")
    return int(value)


def widths(argument: str, value: Any, at_least: int = 0) -> list[int]:
    """`value` as a list of positive ints, if it holds `at_least` so many."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) < at_least:
        raise ValueError(
            f"`{argument}` must be a list of at least {at_least} integers, received {value!r}."
        )
    return [positive_int(argument, width) for width in value]


def divisor(argument: str, value: int, total: int, meaning: str) -> int:
    """`value`, if it divides `total`, of which `meaning` says what it is."""
    if total % value:
        raise ValueError(f"`{argument}` must divide {meaning} {total}, received {value}.")
    return value


def number(argument: str, value: Any, bounds: str, within: Callable[[float], bool]) -> float:
    """`value` as a float, if it is `within` the bounds, which `bounds` says in words."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not within(value):
        raise ValueError(f"`{argument}` must be a number {bounds}, received {value!r}.")
    return float(value)


def rate(argument: str, value: Any) -> float:
    """`value` as a float, if it is in [0, 1)."""
    return number(argument, value, "in [0, 1)", lambda x: 0 <= x < 1)


def positive_number(argument: str, value: Any) -> float:
    """`value` as a float, if it is above zero."""
    return number(argument, value, "above 0", lambda x: x > 0)


def not_negative(argument: str, value: Any) -> float:
    """`value` as a float, if it is not below zero."""
    return number(argument, value, "of at least 0", lambda x: x >= 0)


def choice(argument: str, value: Any, choices: Sequence[str]) -> str:
    """`value`, if it is one of `choices`."""
    if value not in choices:
        raise ValueError(f"`{argument}` must be one of {list(choices)}, received {value!r}.")
    return value


def static_sizes(argument: str, shape: Any, symbols: str, known: int) -> tuple[int, ...]:
    """The last `known` sizes of `shape`, which must have as many axes as `symbols` ("[B, C, d]").

    A layer creates its weights from these sizes, so they may not be None.
    """
    shape = tf.TensorShape(shape)
    rank = symbols.count(",") + 1
    if shape.rank != rank or None in shape.as_list()[-known:]:
        raise ValueError(
            f"`{argument}` must have shape {symbols}, the last {known} of its {rank} sizes known, "
            f"received shape {shape}."
        )
    return tuple(shape.as_list()[-known:])


def tensor(
    argument: str,
    value: Any,
    symbols: str,
    shape: Sequence[int | None],
    dtype: tf.DType = tf.float32,
) -> tf.Tensor:
    """`value` as a tensor of `dtype`, if its static shape fits `shape` (None fits any size)."""
    value = tf.cast(value, dtype)
    if not tf.TensorShape(shape).is_compatible_with(value.shape):
        raise ValueError(
            f"`{argument}` must have shape {symbols} = {tf.TensorShape(shape)}, "
            f"received shape {value.shape}."
        )
    return value


def history_inputs(
    history: Any, candidate: Any, mask: Any, width: int, candidate_width: int | None = None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The inputs of a layer that looks at a history, if their shapes fit each other.

    Args:
        history: `[B, L, d]`, float32.
        candidate: `[B, d]`, float32, or `[B, h]` with a width of its own.
        mask: `[B, L]`, bool, or None for one that is true everywhere.
        width: d.
        candidate_width: h; None means d.
    """
    history = tensor("history", history, "[B, L, d]", [None, None, width])
    batch, length, _ = history.shape
    if candidate_width is None:
        candidate = tensor("candidate", candidate, "[B, d]", [batch, width])
    else:
        candidate = tensor("candidate", candidate, "[B, h]", [batch, candidate_width])
    if mask is None:
        mask = tf.ones(tf.shape(history)[:2], tf.bool)
    return history, candidate, tensor("mask", mask, "[B, L]", [batch, length], tf.bool)
