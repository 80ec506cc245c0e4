"""Starts a run from an earlier one: weights by name, embedding rows by id, state of optimisers."""

import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.input import vocabulary
from diffumin_tf.model import RankingModel
from diffumin_tf.run.earlier_run import (
    TABLE,
    EarlierRun,
    named_variables,
    slots_of,
    whole_shape,
)

_ROWS_AT_ONCE = 1_000_000  # written to a table at once
_SUGGESTIONS = 3


class WarmStart(NamedTuple):
    """What a run took over from an earlier one.

    Attributes:
        copied: names of the variables that have the earlier values.
        fresh: names of those that were not asked for.
        rows_kept: rows of the embedding table, row 0 apart, that have the earlier values.
        rows_new: rows that are as initialised.
        with_slots: whether the optimisers go on where they were; else the earlier run left no
            checkpoint that holds them.
    """

    copied: list[str]
    fresh: list[str]
    rows_kept: int
    rows_new: int
    with_slots: bool


def warm_start(
    model: RankingModel,
    earlier_dir: str,
    patterns: str | Sequence[str] = ".*",
    vocabulary_path: str | None = None,
) -> WarmStart:
    """Takes over weights and the state of the optimisers from an earlier run.

    The weights are the earlier run's best ones, the state of the optimisers (Adam's moments and
    its number of updates, Adagrad's accumulators) that of its latest checkpoint. A row of the
    embedding table goes where its id has its row now. Moving averages and the fixed noise of
    sampling are weights; metrics and the positions of random streams are left as they are. Call
    it in the scope of the strategy that the model was built in.

    Args:
        model: compiled by `optimizers.compile_model`; nothing was trained.
        earlier_dir: folder of the earlier run.
        patterns: regular expressions, looked for anywhere in a variable's name, which is its path
            in the model (`earlier_run.named_variables`); those that one of them matches are taken
            over.
        vocabulary_path: vocabulary of the new run; None with hashed ids.

    Raises:
        ConfigError: there is no such run, an expression is wrong or matches nothing, or a variable
            to take over has another shape there or is missing.
        DataError: the earlier run has no readable checkpoint.
    """
    ours = named_variables(model)
    chosen = _choose(list(ours), [patterns] if isinstance(patterns, str) else patterns)
    earlier = EarlierRun(earlier_dir)
    _check_shapes(ours, chosen, earlier)
    rows = None
    kept = new = 0
    if TABLE in chosen:
        rows = _earlier_rows(model.embedding.rows, earlier, vocabulary_path)
        kept = int(np.count_nonzero(rows[1:] >= 0))
        new = len(rows) - 1 - kept
    for name in chosen:
        _assign(ours[name], earlier.weight(name), rows if name == TABLE else None)
    with_slots = _take_slots(model, chosen, earlier, rows)
    return WarmStart(chosen, [n for n in ours if n not in chosen], kept, new, with_slots)


def _choose(names: list[str], patterns: Sequence[str]) -> list[str]:
    """The names that a pattern matches, in their order."""
    chosen: set[str] = set()
    for pattern in patterns:
        try:
            matched = [name for name in names if re.search(pattern, name)]
        except re.error as error:
            raise ConfigError(
                f"vars_to_warm_start {pattern!r}: not a regular expression: {error}"
            ) from None
        if not matched:
            near = difflib.get_close_matches(pattern, names, _SUGGESTIONS, cutoff=0.0)
            raise ConfigError(
                f"vars_to_warm_start {pattern!r}: matches none of the {len(names)} variables; the "
                f"nearest are {', '.join(near)}"
            )
        chosen.update(matched)
    return [name for name in names if name in chosen]


def _check_shapes(
    ours: dict[str, list[tf.Variable]], chosen: list[str], earlier: EarlierRun
) -> None:
    """Raises ConfigError when a variable has another shape in the earlier run, or is missing."""
    faults = {}
    for name in chosen:
        here, there = whole_shape(ours[name]), earlier.shape(name)
        from_axis = 1 if name == TABLE else 0  # its rows follow the ids
        if there is None or there[from_axis:] != here[from_axis:]:
            faults[name] = f"{name} has shape {here} here and {there or 'is missing'} there"
    if faults:
        others = f", and {len(faults) - 1} more differ" if len(faults) > 1 else ""
        raise ConfigError(
            f"pretrain_model_dir {earlier.folder!r}: {next(iter(faults.values()))}{others}; to "
            f"train what differs from the beginning, set vars_to_warm_start to "
            f"'^(?!({'|'.join(map(re.escape, faults))})$)'"
        )


def _earlier_rows(rows: int, earlier: EarlierRun, vocabulary_path: str | None) -> np.ndarray:
    """For each row of the table its row in the earlier run's table; −1 for a new id."""
    before = earlier.shape(TABLE)[0]
    kind = "hash" if vocabulary_path is None else "vocabulary"
    if earlier.config.embedding.kind != kind:
        raise ConfigError(
            f"pretrain_model_dir {earlier.folder!r}: embedding.kind is "
            f"{earlier.config.embedding.kind!r} there and {kind!r} here, so that its rows belong "
            f"to other ids; vars_to_warm_start can leave out {TABLE}"
        )
    if kind == "hash":
        if before != rows:
            raise ConfigError(
                f"pretrain_model_dir {earlier.folder!r}: embedding.rows is {before} there and "
                f"{rows} here, so that ids have other rows; set it to {before}, or let "
                f"vars_to_warm_start leave out {TABLE}"
            )
        return np.arange(rows)
    ids = vocabulary.read_ids(vocabulary_path)
    if rows != len(ids) + 1:
        raise DataError(f"{vocabulary_path}: {len(ids)} ids for a table of {rows} rows")
    positions = vocabulary.find_ids(earlier.ids, ids)
    return np.concatenate([[0], np.where(positions >= 0, positions + 1, -1)])


def _assign(parts: Sequence[tf.Variable], value: np.ndarray, rows: np.ndarray | None) -> None:
    """Assigns a value; or, where `rows` are given, the value's row `rows[r]` to row r."""
    first = 0
    for part in parts:
        count = part.shape[0] if part.shape.rank else 1
        if rows is None:
            part.assign(value if len(parts) == 1 else value[first : first + count])
        else:
            for start in range(0, count, _ROWS_AT_ONCE):
                source = rows[first + start : first + min(start + _ROWS_AT_ONCE, count)]
                kept = np.flatnonzero(source >= 0)
                part.scatter_update(tf.IndexedSlices(value[source[kept]], start + kept))
        first += count


def _take_slots(
    model: RankingModel, chosen: list[str], earlier: EarlierRun, rows: np.ndarray | None
) -> bool:
    """Takes over what the optimisers keep of the chosen variables."""
    if not earlier.has_slots:
        return False
    slots = slots_of(model)
    for name in chosen:
        if name in slots:
            for parts, value in zip(slots[name], earlier.slots(name), strict=True):
                _assign(parts, value, rows if name == TABLE else None)
    if any(name in slots for name in chosen if name != TABLE):
        model.optimizer.iterations.assign(earlier.updates("optimizer"))
    if TABLE in chosen:
        model.table_optimizer.iterations.assign(earlier.updates("table_optimizer"))
    return True
