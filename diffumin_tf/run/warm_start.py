"""Starts a run from an earlier one: weights by name, embedding rows by id, state of optimisers."""

import collections
import difflib
import posixpath
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf

from diffumin_tf.config.schema import SCHEMA_FILE, DataStruct
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.input import vocabulary
from diffumin_tf.model import RankingModel
from diffumin_tf.run import folder as run_folder
from diffumin_tf.training import checkpoints, optimizers

TABLE = "embedding/table"
_NOT_CARRIED = "draws"  # position of a random stream: a run begins its own
_ROWS_AT_ONCE = 1_000_000  # written to a table at once
_SUGGESTIONS = 3

# A variable, or its parts in the order of their rows where servers share it.
Parts = list[tf.Variable]


class WarmStart(NamedTuple):
    """What a run took over from an earlier one."""

    copied: list[str]  # names of the variables that have the earlier values
    fresh: list[str]  # those that were not asked for
    rows_kept: int  # of the embedding table, row 0 apart
    rows_new: int
    with_slots: bool  # False where the earlier run left no checkpoint of its optimisers


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
        model: compiled with `optimizers.build`; nothing was trained.
        patterns: regular expressions, looked for anywhere in a variable's name, which is its path
            in the model (`named_variables`); those that one of them matches are taken over.
        vocabulary_path: vocabulary of the new run; None with hashed ids.

    Raises:
        ConfigError: there is no such run, an expression is wrong or matches nothing, or a variable
            to take over has another shape there or is missing.
        DataError: the earlier run has no readable checkpoint.
    """
    ours = named_variables(model)
    chosen = _choose(list(ours), [patterns] if isinstance(patterns, str) else patterns)
    earlier = _EarlierRun(earlier_dir)
    _check_shapes(ours, chosen, earlier)
    rows = None
    kept = new = 0
    if TABLE in chosen:
        rows = _earlier_rows(model.embedding.rows, earlier, vocabulary_path)
        kept = int(np.count_nonzero(rows[1:] >= 0))
        new = len(rows) - 1 - kept
    for name in chosen:
        _assign(ours[name], earlier.weights.value(f"model/{name}"), rows if name == TABLE else None)
    if earlier.state:
        _take_slots(model, chosen, earlier, rows)
    fresh = [name for name in ours if name not in chosen]
    return WarmStart(chosen, fresh, kept, new, with_slots=earlier.state is not None)


def named_variables(model: RankingModel) -> dict[str, Parts]:
    """The variables that a run can take over, by their path in the model.

    The path is that of the attributes, such as `tower/hidden/0/kernel`, breadth first, as in the
    keys of a checkpoint; Keras' own names are not unique.
    """
    found: dict[str, Parts] = {}
    seen: dict[int, object] = {id(o): o for o in _optimizers(model).values()}
    queue = collections.deque([("", model)])
    while queue:
        path, node = queue.popleft()
        for name, child in tf.train.TrackableView.children(node).items():
            if id(child) in seen or isinstance(child, tf.keras.metrics.Metric):
                continue
            seen[id(child)] = child
            child_path = posixpath.join(path, name)
            if parts := _parts(child):
                seen |= {id(part): part for part in parts}
                if name != _NOT_CARRIED:
                    found[child_path] = parts
            else:
                queue.append((child_path, child))
    return found


def slots_of(model: RankingModel) -> dict[str, list[Parts]]:
    """What the optimisers of a compiled model keep of each variable that they train."""
    optimizer_variables = {name: o.variables for name, o in _optimizers(model).items()}
    return {
        name: [_parts(optimizer_variables[optimizer][number]) for number in numbers]
        for name, (optimizer, numbers) in _slot_numbers(model).items()
    }


class _EarlierRun:
    """Values of an earlier run: its best weights, and its latest state, if it left any."""

    def __init__(self, folder: str) -> None:
        if not run_folder.is_run(folder):
            raise ConfigError(
                f"pretrain_model_dir {folder!r}: no trained run ({run_folder.CONFIG} is missing)"
            )
        self.folder = folder
        self.config = run_folder.load_config(folder)
        best, latest = checkpoints.best(folder), checkpoints.latest(folder)
        if best is None:
            raise DataError(
                f"pretrain_model_dir {folder!r}: no checkpoint in {checkpoints.BEST} or "
                f"{checkpoints.LATEST}; did `diffumin train` finish?"
            )
        self.weights = _Values(best)
        self.state = _Values(latest) if latest else None
        self._slots = self._slot_numbers() if latest else {}

    def slots(self, name: str) -> list[np.ndarray]:
        """What its optimiser keeps of a variable, e.g. both moments."""
        optimizer, numbers = self._slots[name]
        keys = [f"{optimizer}/_variables/{number}" for number in numbers]
        if any(self.state.shape(key) != self.state.shape(f"model/{name}") for key in keys):
            raise DataError(f"{self.state.path}: {keys[0]} does not fit the run's config.json")
        return [self.state.value(key) for key in keys]

    def _slot_numbers(self) -> dict[str, tuple[str, range]]:
        """Of its model, built once more with a small table, to learn the order of its slots."""
        schema = DataStruct.load(posixpath.join(self.folder, SCHEMA_FILE))
        model = RankingModel(self.config, schema, rows=2)
        model.create_weights()
        model.compile(*optimizers.build(self.config))
        return _slot_numbers(model)


class _Values:
    """Values in a checkpoint by their key."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._reader = tf.train.load_checkpoint(path)
        except checkpoints.UNREADABLE as error:
            raise self._unreadable(error) from None
        self._shapes = self._reader.get_variable_to_shape_map()

    def shape(self, key: str) -> list[int] | None:
        return self._shapes.get(f"{key}/{checkpoints.VALUE}")

    def value(self, key: str) -> np.ndarray:
        try:
            return self._reader.get_tensor(f"{key}/{checkpoints.VALUE}")
        except checkpoints.UNREADABLE as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(f"{self.path}: cannot be read, nothing can start from it: {error}")


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


def _check_shapes(ours: dict[str, Parts], chosen: list[str], earlier: _EarlierRun) -> None:
    """Raises ConfigError when a variable has another shape in the earlier run, or is missing."""
    faults = {}
    for name in chosen:
        shape, before = _whole_shape(ours[name]), earlier.weights.shape(f"model/{name}")
        from_axis = 1 if name == TABLE else 0  # its rows follow the ids
        if before is None or before[from_axis:] != shape[from_axis:]:
            faults[name] = f"{name} has shape {shape} here and {before or 'is missing'} there"
    if faults:
        others = f", and {len(faults) - 1} more differ" if len(faults) > 1 else ""
        raise ConfigError(
            f"pretrain_model_dir {earlier.folder!r}: {next(iter(faults.values()))}{others}; to "
            f"train what differs from the beginning, set vars_to_warm_start to "
            f"'^(?!({'|'.join(map(re.escape, faults))})$)'"
        )


def _whole_shape(parts: Parts) -> list[int]:
    first, *others = (part.shape.as_list() for part in parts)
    return [first[0] + sum(shape[0] for shape in others), *first[1:]] if others else first


def _earlier_rows(rows: int, earlier: _EarlierRun, vocabulary_path: str | None) -> np.ndarray:
    """For each row of the table its row in the earlier run's table; −1 for a new id."""
    before = earlier.weights.shape(f"model/{TABLE}")[0]
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
    earlier_ids = vocabulary.read_ids(posixpath.join(earlier.folder, run_folder.VOCABULARY))
    if rows != len(ids) + 1:
        raise DataError(f"{vocabulary_path}: {len(ids)} ids for a table of {rows} rows")
    positions = pd.Index(earlier_ids).get_indexer(ids)  # -1 where it is new
    return np.concatenate([[0], np.where(positions >= 0, positions + 1, -1)])


def _assign(parts: Parts, value: np.ndarray, rows: np.ndarray | None) -> None:
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
    model: RankingModel, chosen: list[str], earlier: _EarlierRun, rows: np.ndarray | None
) -> None:
    """Takes over what the optimisers keep of the chosen variables."""
    slots = slots_of(model)
    trained = [name for name in chosen if name in slots]
    for name in trained:
        for parts, value in zip(slots[name], earlier.slots(name), strict=True):
            _assign(parts, value, rows if name == TABLE else None)
    if any(name != TABLE for name in trained):
        model.optimizer.iterations.assign(earlier.state.value("optimizer/_iterations"))
    if TABLE in trained:
        model.table_optimizer.iterations.assign(earlier.state.value("table_optimizer/_iterations"))


def _optimizers(model: RankingModel) -> dict[str, tf.keras.optimizers.Optimizer]:
    return {"optimizer": model.optimizer, "table_optimizer": model.table_optimizer}


def _slot_numbers(model: RankingModel) -> dict[str, tuple[str, range]]:
    """For each variable that is trained, its optimiser, and the numbers of its slots there."""
    names = {id(part): name for name, parts in named_variables(model).items() for part in parts}
    table, rest = model.table_and_rest()
    found = {}
    for optimizer, trained in (("optimizer", rest), ("table_optimizer", table)):
        order = list(dict.fromkeys(names[id(variable)] for variable in trained))
        # After the number of updates.
        kinds = (len(getattr(model, optimizer).variables) - 1) // len(order)
        for position, name in enumerate(order):
            found[name] = optimizer, range(1 + position * kinds, 1 + (position + 1) * kinds)
    return found


def _parts(node: object) -> Parts:
    """A variable, or what servers share it as; empty for anything else."""
    if isinstance(node, tf.__internal__.distribute.ShardedVariable):
        return list(node.variables)
    return [node] if isinstance(node, tf.Variable) else []
