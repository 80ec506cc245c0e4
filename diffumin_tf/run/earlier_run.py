"""An earlier run as another one reads it: the values of its variables, by name."""

import collections
import posixpath
import re
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import SCHEMA_FILE, DataStruct
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.input import vocabulary
from diffumin_tf.model import RankingModel
from diffumin_tf.run import folder as run_folder
from diffumin_tf.training import checkpoints, optimizers

TABLE = "embedding/table"

_NOT_CARRIED = "draws"  # position of a random stream: a run begins its own
# What TensorFlow raises on reading a file that is cut short, damaged or gone.
_UNREADABLE = (tf.errors.OpError, RuntimeError, ValueError, LookupError)
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def named_variables(model: RankingModel) -> dict[str, list[tf.Variable]]:
    """The variables a run can take over, by their path in the model.

    Keras' own names are not unique. The path is that of the attributes, such as
    `tower/hidden/0/kernel`, as in the keys of a checkpoint. A variable is a list of one, or of
    its parts in the order of their rows where servers share it.
    """
    metrics = {id(v) for metric in model.metrics for v in metric.variables}
    return {
        name: parts
        for name, parts in by_path(model, model.variables).items()
        if id(parts[0]) not in metrics and name.rpartition("/")[2] != _NOT_CARRIED
    }


def by_path(model: RankingModel, variables: Iterable[tf.Variable]) -> dict[str, list[tf.Variable]]:
    """Variables of a model by their path in it, in their order; the parts of one are together."""
    paths = _paths(model)
    found: dict[str, list[tf.Variable]] = {}
    for variable in variables:
        found.setdefault(paths[id(variable)], []).append(variable)
    return found


def whole_shape(parts: Sequence[tf.Variable]) -> list[int]:
    """Shape of a variable that is cut into parts by its rows, or is not cut."""
    shapes = [part.shape.as_list() for part in parts]
    return _together(shapes)


def slots_of(model: RankingModel) -> dict[str, list[list[tf.Variable]]]:
    """What the optimisers of a compiled model keep of each variable they train.

    Returns:
        By the variable's name, and for each kind of slot, the slot or its parts.
    """
    found = {}
    for optimizer, trained in _trained(model).items():
        slots = getattr(model, optimizer).variables[1:]  # after the number of updates
        names = list(by_path(model, trained))
        kinds = len(slots) // len(names)
        for number, name in enumerate(names):
            some = slots[number * kinds : (number + 1) * kinds]
            found[name] = [_parts(slot) or [slot] for slot in some]
    return found


class EarlierRun:
    """Weights and slots of an earlier run, read when they are asked for.

    Its model is built once more, with a table of two rows, to learn in which order it was saved.

    Attributes:
        folder: where it lies.
        config: its configuration.
        ids: its vocabulary in the order of rows 1 and up; None with hashed ids.

    Raises:
        ConfigError: there is no such run.
        DataError: it has no readable checkpoint.
    """

    def __init__(self, folder: str) -> None:
        if not run_folder.is_run(folder):
            raise ConfigError(
                f"pretrain_model_dir {folder!r}: no trained run ({run_folder.CONFIG} is missing)"
            )
        self.folder = folder
        self.config = run_folder.load_config(folder)
        self.ids = None
        self._rows = self.config.embedding.rows
        if self.config.embedding.kind == "vocabulary":
            self.ids = vocabulary.read_ids(posixpath.join(folder, run_folder.VOCABULARY))
            self._rows = len(self.ids) + 1
        latest = checkpoints.complete(posixpath.join(folder, checkpoints.LATEST))
        best = checkpoints.complete(checkpoints.best_folder(folder)) or latest
        if not best:
            raise DataError(
                f"pretrain_model_dir {folder!r}: no checkpoint in {checkpoints.BEST} or "
                f"{checkpoints.LATEST}; did `diffumin train` finish?"
            )
        schema = DataStruct.load(posixpath.join(folder, SCHEMA_FILE))
        model = RankingModel(self.config, schema, 2)
        model.create_weights()
        optimizers.compile_model(model, self.config)
        self._weights = _Checkpoint(best[-1])
        self._keys = self._keys_of_weights(model)
        self._state = _Checkpoint(latest[-1]) if latest else None
        self._slots = self._keys_of_slots(model) if latest else {}

    @property
    def has_slots(self) -> bool:
        """Whether there is a checkpoint that holds the optimisers."""
        return self._state is not None

    def shape(self, name: str) -> list[int] | None:
        """Shape of a variable; None where there is no such variable."""
        return self._weights.shape(self._keys[name]) if name in self._keys else None

    def weight(self, name: str) -> np.ndarray:
        """Value of a variable."""
        return self._weights.value(self._keys[name])

    def slots(self, name: str) -> list[np.ndarray]:
        """What its optimiser keeps of a variable, e.g. both moments."""
        return [self._state.value(keys) for keys in self._slots[name]]

    def updates(self, optimizer: str) -> np.ndarray:
        """How many updates an optimiser made."""
        return self._state.value([f"{optimizer}/_iterations"])

    def _keys_of_weights(self, model: RankingModel) -> dict[str, list[str]]:
        names = named_variables(model)
        if f"model/{TABLE}" in self._weights.shapes:
            keys = {name: f"model/{name}" for name in names}
            return {n: [key] for n, key in keys.items() if key in self._weights.shapes}
        order = by_path(model, model.variables)
        found = self._weights.numbered("weights", self._shapes(order).values())
        return {name: keys for name, keys in zip(order, found, strict=True) if name in names}

    def _keys_of_slots(self, model: RankingModel) -> dict[str, list[list[str]]]:
        slots, found = slots_of(model), {}
        for optimizer, trained in _trained(model).items():
            order = by_path(model, trained)
            shapes = [s for n, s in self._shapes(order).items() for _ in slots[n]]
            keys = iter(self._state.numbered(f"{optimizer}/_variables", shapes))
            found |= {name: [next(keys) for _ in slots[name]] for name in order}
        return found

    def _shapes(self, variables: dict[str, list[tf.Variable]]) -> dict[str, list[int]]:
        """Shapes in the earlier run, of whose model this one has all but the rows of the table."""
        shapes = {name: whole_shape(parts) for name, parts in variables.items()}
        if TABLE in shapes:
            shapes[TABLE][0] = self._rows
        return shapes


class _Checkpoint:
    """Values in a checkpoint by their key; several keys are the parts of one value.

    Attributes:
        path: its path.
        shapes: shapes by key.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._reader = tf.train.load_checkpoint(path)
        except _UNREADABLE as error:
            raise self._unreadable(error) from None
        shapes = self._reader.get_variable_to_shape_map()
        self.shapes = {k.removesuffix(_VALUE): s for k, s in shapes.items() if k.endswith(_VALUE)}

    def shape(self, keys: Sequence[str]) -> list[int]:
        return _together([self.shapes[key] for key in keys])

    def value(self, keys: Sequence[str]) -> np.ndarray:
        try:
            values = [self._reader.get_tensor(key + _VALUE) for key in keys]
        except _UNREADABLE as error:
            raise self._unreadable(error) from None
        return values[0] if len(values) == 1 else np.concatenate(values)

    def numbered(self, prefix: str, shapes: Iterable[list[int]]) -> list[list[str]]:
        """Keys of the form prefix/number, assigned to what was saved in this order.

        Args:
            prefix: what stands before the numbers.
            shapes: whole shapes, in the order of the numbers; each was saved whole or in parts.

        Returns:
            For each shape the key, or the keys of the parts.

        Raises:
            DataError: what was saved has other shapes.
        """
        found = (re.fullmatch(rf"{prefix}/(\d+)", key) for key in self.shapes)
        numbers = collections.deque(sorted(int(match[1]) for match in found if match))
        taken = []
        for shape in shapes:
            keys: list[str] = []
            while numbers and (not keys or self.shape(keys) != shape):
                keys.append(f"{prefix}/{numbers.popleft()}")
            if not keys or self.shape(keys) != shape:
                raise DataError(
                    f"{self.path}: does not fit the run's config.json: number {len(taken)} of "
                    f"{prefix} should have shape {shape}"
                )
            taken.append(keys)
        return taken

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(f"{self.path}: cannot be read, nothing can start from it: {error}")


def _parts(node: object) -> list[tf.Variable]:
    """The variables that servers share a variable as; none if it is anything else."""
    sharded = isinstance(node, tf.__internal__.distribute.ShardedVariable)
    return list(node.variables) if sharded else []


def _trained(model: RankingModel) -> dict[str, list[tf.Variable]]:
    """What each optimiser trains, in the order in which it keeps its slots."""
    table = model.embedding.trainable_variables
    rest = [v for v in model.trainable_variables if all(v is not t for t in table)]
    return {"optimizer": rest, "table_optimizer": list(table)}


def _together(shapes: Sequence[list[int]]) -> list[int]:
    return list(shapes[0]) if len(shapes) == 1 else [sum(s[0] for s in shapes), *shapes[0][1:]]


def _paths(model: RankingModel) -> dict[int, str]:
    """Path of everything in a model by its id, breadth first, as TensorFlow names what it saves."""
    paths = {id(model): ""}
    queue: collections.deque[object] = collections.deque([model])
    while queue:
        node = queue.popleft()
        for name, child in tf.train.TrackableView.children(node).items():
            if id(child) in paths:
                continue
            paths[id(child)] = f"{paths[id(node)]}/{name}".removeprefix("/")
            queue.append(child)
            paths |= {id(part): paths[id(child)] for part in _parts(child)}
    return paths
