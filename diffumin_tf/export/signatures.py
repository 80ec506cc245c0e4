"""What an export answers: its signatures, from raw ids to click probabilities."""

from collections.abc import Collection

import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import ConfigError
from diffumin_tf.input import parsing
from diffumin_tf.input.features import ROLES, FeatureLayout, FeaturePath
from diffumin_tf.model import RankingModel

SERVING_DEFAULT, EXAMPLES, REQUEST = "serving_default", "examples", "request"

Specs = dict[str, tf.TensorSpec]
Tensors = dict[str, tf.Tensor]


def signatures(model: RankingModel, schema: DataStruct, path: FeaturePath) -> dict:
    """Concrete functions by name of signature.

    * `serving_default`: the schema's tensors: `cat_feature` int64 [B, columns],
      `dense_feature` float32 [B, columns], each variable-length history field int64
      [B, any length], most recent first, padded with 0 at the end, and each field of several
      values int64 [B, any length], padded with 0; to `pctr` and `rectified_pctr`, float32 [B].
    * `examples`: `inputs`, serialised `tf.train.Example` strings [B], of which label and
      auxiliary columns are neither needed nor read; to `outputs`, the `pctr` of each.
    * `request`: one user, N candidates: `user` int64 [1, columns], `candidate` int64
      [N, columns], `context` int64 [1 or N, columns], the columns in the order of
      `FeatureLayout.roles`; `dense_feature` float32 [1 or N, columns], each history field of the
      model int64 [1, any length], and each of its fields of several values int64 [1, any length]
      (user), [N, any length] (candidate) or [1 or N, any length] (context); to `pctr` and
      `rectified_pctr`, float32 [N].

    An input of another shape, or of another number of rows than the rest, is an error that names
    it.

    Raises:
        ConfigError: a field has the name of another input of `request`.
    """
    tensor_specs, request_specs = _tensor_specs(schema), _request_specs(schema, model.layout)
    or_one = {"context", "dense_feature"}
    or_one |= {name for name, role in model.layout.multi.items() if role == "context"}
    example_specs = {"inputs": tf.TensorSpec([None], tf.string, "inputs")}

    def tensors(**raw: tf.Tensor) -> dict[str, tf.Tensor]:
        return model.predict_click(path(_checked(raw, tensor_specs, "cat_feature")))

    def examples(**raw: tf.Tensor) -> dict[str, tf.Tensor]:
        serialised = _checked(raw, example_specs)["inputs"]
        raw = parsing.parse(schema, serialised, labelled=False)
        raw |= {name: raw[name].to_tensor() for name in schema.ragged}
        return {"outputs": model.predict_click(path(raw))["pctr"]}

    def request(**raw: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = _checked(raw, request_specs, "candidate", or_one)
        return model.predict_click(path.request(raw))

    def compiled(function, specs):
        return tf.function(function, autograph=False).get_concrete_function(**specs)

    return {
        SERVING_DEFAULT: compiled(tensors, tensor_specs),
        EXAMPLES: compiled(examples, example_specs),
        REQUEST: compiled(request, request_specs),
    }


def _tensor_specs(schema: DataStruct) -> Specs:
    specs = {"cat_feature": tf.TensorSpec([None, len(schema.cat_feature)], tf.int64, "cat_feature")}
    if schema.dense_feature:
        specs["dense_feature"] = _dense_spec(schema)
    for name in schema.ragged:
        specs[name] = tf.TensorSpec([None, None], tf.int64, name)
    return specs


def _request_specs(schema: DataStruct, layout: FeatureLayout) -> Specs:
    specs = {
        role: tf.TensorSpec([1 if role == "user" else None, len(columns)], tf.int64, role)
        for role, columns in layout.roles.items()
        if columns
    }
    if layout.dense:
        specs["dense_feature"] = _dense_spec(schema)
    for name in (*layout.behaviours, *layout.multi):
        if name in (*ROLES, "dense_feature"):
            raise ConfigError(
                f"{schema.source}: a field cannot be called {name!r}, which is another input of "
                "the signature 'request'"
            )
        is_shared = layout.multi.get(name, "user") == "user"
        specs[name] = tf.TensorSpec([1 if is_shared else None, None], tf.int64, name)
    return specs


def _dense_spec(schema: DataStruct) -> tf.TensorSpec:
    return tf.TensorSpec([None, len(schema.dense_feature)], tf.float32, "dense_feature")


def _checked(
    raw: Tensors, specs: Specs, first: str | None = None, or_one: Collection[str] = ()
) -> Tensors:
    """The inputs, if their shapes fit; servers feed any shape into a graph.

    Args:
        first: an input; all whose number of rows is not fixed must have as many rows as this one.
        or_one: those of them that may have one row instead.
    """
    checked = {}
    for name, spec in specs.items():
        # Hides the static shape, so that the optimiser does not remove the checks.
        values = tf.raw_ops.PlaceholderWithDefault(input=raw[name], shape=None)
        shape = ", ".join("any" if size is None else str(size) for size in spec.shape)
        message = [f"input {name}: must have the shape [{shape}], got", tf.shape(values)]
        values = _require(values, tf.rank(values) == len(spec.shape), message)
        for axis, size in enumerate(spec.shape):
            if size is not None:
                values = _require(values, tf.shape(values)[axis] == size, message)
        checked[name] = values
    for name, spec in specs.items():
        if first and spec.shape[0] is None:
            count, rows = tf.shape(checked[first])[0], tf.shape(checked[name])[0]
            wanted = "must have 1 row or as many rows as"
            fits = (rows == count) | (rows == 1)
            if name not in or_one:
                wanted, fits = "must have as many rows as", rows == count
            message = [f"input {name}: {wanted} {first},", count, "got", rows]
            checked[name] = _require(checked[name], fits, message)
        checked[name].set_shape(spec.shape)
    return checked


def _require(values: tf.Tensor, fits: tf.Tensor, message: list) -> tf.Tensor:
    """The values, whose use fails with the message where they do not fit."""
    with tf.control_dependencies([tf.debugging.Assert(fits, message, summarize=9)]):
        return tf.identity(values)
