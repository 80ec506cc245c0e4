"""A training step whose middle XLA compiles as one: forward, backward, Adam and the metrics."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from diffumin_tf.history import Embedded
from diffumin_tf.input.batch import Batch
from diffumin_tf.layers import xla
from diffumin_tf.model import RankingModel
from handle_layer.handle_lib.handle_base import Found, HistoryUnit, Queries


class OneCluster:
    """`RankingModel.update` for batches of one size on one device, most of it compiled once.

    Left to TensorFlow's own kernels is what has other shapes in every batch, or touches a large
    table: looking up fields, finding behaviours, looking these up, random numbers, and the update
    of the rows. What comes in between depends on embeddings of a fixed shape alone; their gradients
    go on to the table outside. A loss that is not finite changes no weight, and raises after it.

    Args:
        model: compiled; `fits` holds for it.
        size: B, samples of a batch.
    """

    def __init__(self, model: RankingModel, size: int) -> None:
        self._model = model
        self._size = size
        self._queries = tf.function(self._queries_of, jit_compile=True, autograph=False)
        self._learn = tf.function(self._learn_from, jit_compile=True, autograph=False)

    def update(self, batch: Batch) -> dict[str, tf.Tensor]:
        """One update, as `RankingModel.update` makes it, on a batch of B samples."""
        model = self._model
        of_samples = {name: getattr(batch, name) for name in ("fields", "dense", "user", "label")}
        with tf.GradientTape() as tape:
            inputs = model.embed(batch._replace(**self._sized(of_samples)))
            with tape.stop_recording():
                queries = self._queries(inputs._replace(history=None))
                found = self._sized(_find(model, queries, inputs))
            found = [each.embedded(inputs.history) for each in found]
        losses, gradients = self._learn(inputs._replace(history=None), found)
        checked = tf.debugging.check_numerics(losses["total_loss"], "training loss")
        reached = [
            (vectors, gradient)
            for vectors, gradient in zip(_looked_up(inputs, found), gradients, strict=True)
            if gradient is not None
        ]
        vectors, gradients = map(list, zip(*reached, strict=True))
        table, _ = model.table_and_rest()
        of_table = tape.gradient(vectors, table, output_gradients=gradients)
        with tf.control_dependencies([checked]):
            model.table_optimizer.apply_gradients(zip(of_table, table, strict=True))
        return {**losses, "total_loss": checked}

    def _queries_of(self, inputs: Embedded) -> list[Queries]:
        return [unit.queries(inputs) for unit in self._model.units]

    def _learn_from(
        self, inputs: Embedded, found: Sequence[Found]
    ) -> tuple[dict[str, tf.Tensor], list[tf.Tensor | None]]:
        """Losses, and their gradients with respect to what was looked up; updates all but a table.

        Args:
            inputs: without a history.
            found: of each unit, its behaviours embedded.
        """
        model, looked_up = self._model, _looked_up(inputs, found)
        with xla.not_by_parts(), tf.GradientTape() as tape:
            tape.watch(looked_up)
            vectors = [
                unit(inputs, training=True, found=each)
                for unit, each in zip(model.units, found, strict=True)
            ]
            logit = model.logit(vectors, training=True)
            loss, total = model.training_losses(inputs.label, logit)
        _, rest = model.table_and_rest()
        gradients = tape.gradient(total, looked_up + rest)
        finite = tf.math.is_finite(total)
        model.auc.update_state(inputs.label, logit, tf.cast(finite, tf.float32))
        of_rest = zip(gradients[len(looked_up) :], rest, strict=True)
        model.optimizer.apply_if(finite, [(g, v) for g, v in of_rest if g is not None])
        return {"loss": loss, "total_loss": total}, gradients[: len(looked_up)]

    def _sized(self, nest: Any) -> Any:
        """Tensors [B, ...] with B known."""
        for tensor in tf.nest.flatten(nest):
            # `ensure_shape` would have a GPU send masks to the host and back.
            tensor.set_shape([self._size, *tensor.shape[1:]])
        return nest


def fits(model: RankingModel, spec: Batch) -> bool:
    """Whether units embed as many behaviours of every history, whatever its length.

    A unit with a `call` of its own may do anything there, and never take the three steps.
    """
    if not all(type(unit).call is HistoryUnit.call for unit in model.units):
        return False

    def found(batch: Batch) -> list[Found]:
        inputs = model.embed(batch)
        return _find(model, [unit.queries(inputs) for unit in model.units], inputs)

    graph = tf.function(found, input_signature=[spec], autograph=False).get_concrete_function()
    shapes = tf.nest.flatten(graph.output_shapes)
    return all(shape[1:].is_fully_defined() for shape in shapes)


def _find(model: RankingModel, queries: Sequence[Queries], inputs: Embedded) -> list[Found]:
    return [
        unit.find(each, inputs, training=True)
        for unit, each in zip(model.units, queries, strict=True)
    ]


def _looked_up(inputs: Embedded, found: Sequence[Found]) -> list[tf.Tensor]:
    """All embeddings that train."""
    # In the order of names, since a graph need not keep that of a dict.
    pairs = [each.behaviours[name] for each in found for name in sorted(each.behaviours)]
    return [inputs.fields, *(vectors for vectors, _ in pairs)]
