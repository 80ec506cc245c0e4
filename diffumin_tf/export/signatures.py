"""What an export answers: its signatures, from raw ids to click probabilities."""

import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import ConfigError
from diffumin_tf.input import dataset
from diffumin_tf.input.features import ROLES, FeatureLayout, FeaturePath
from diffumin_tf.model import RankingModel

SERVING_DEFAULT, EXAMPLES, REQUEST = "serving_default", "examples", "request"


def raw_specs(schema: DataStruct) -> dict[str, tf.TensorSpec]:
    """Inputs of `serving_default` by name."""
    specs = {"cat_feature": tf.TensorSpec([None, len(schema.cat_feature)], tf.int64, "cat_feature")}
    if schema.dense_feature:
        specs["dense_feature"] = tf.TensorSpec(
            [None, len(schema.dense_feature)], tf.float32, "dense_feature"
        )
    for name in schema.variable_sequences:
        specs[name] = tf.TensorSpec([None, None], tf.int64, name)
    return specs


def request_specs(schema: DataStruct, layout: FeatureLayout) -> dict[str, tf.TensorSpec]:
    """Inputs of `request` by name; a role without columns is none.

    Raises:
        ConfigError: two inputs have the same name.
    """

    def ids(name: str, rows: int | None, columns: int | None) -> tf.TensorSpec:
        return tf.TensorSpec([rows, columns], tf.int64, name)

    specs = {
        role: ids(role, 1 if role == "user" else None, len(columns))
        for role, columns in layout.roles.items()
        if columns
    }
    if layout.dense:
        columns = len(schema.dense_feature)
        specs["dense_feature"] = tf.TensorSpec([None, columns], tf.float32, "dense_feature")
    for name in layout.behaviours:
        if name in specs or name in (*ROLES, "dense_feature"):
            raise ConfigError(
                f"{schema.source}: a history field cannot be called {name!r}, which is another "
                "input of the signature 'request'"
            )
        specs[name] = ids(name, 1, None)
    return specs


def signatures(model: RankingModel, schema: DataStruct, path: FeaturePath) -> dict:
    """Concrete functions by name of signature.

    * `serving_default`: the schema's tensors: `cat_feature` int64 [B, columns],
      `dense_feature` float32 [B, columns], each variable-length history field int64
      [B, any length], most recent first, padded with 0 at the end; to `pctr` and
      `rectified_pctr`, float32 [B].
    * `examples`: `inputs`, serialised `tf.train.Example` strings [B], of which label and
      auxiliary columns are neither needed nor read; to `outputs`, the `pctr` of each.
    * `request`: one user, N candidates: `user` int64 [1, columns], `candidate` int64
      [N, columns], `context` int64 [1 or N, columns], the columns in the order of
      `FeatureLayout.roles`; `dense_feature` float32 [1 or N, columns], and each history field of
      the model int64 [1, any length]; to `pctr` and `rectified_pctr`, float32 [N].

    An input of another width, or of another number of rows than the rest, is an error that names
    it.

    Args:
        model: a model whose weights exist.
        schema: columns of a record.
        path: the feature path the model was trained with.
    """
    tensor_specs, specs = raw_specs(schema), request_specs(schema, model.layout)
    example_spec = tf.TensorSpec([None], tf.string, "inputs")

    def tensors(**raw: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = _same_rows(_checked(raw, tensor_specs), tensor_specs, "cat_feature")
        return model.predict_click(path(raw))

    def examples(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = _checked({"inputs": inputs}, {"inputs": example_spec})["inputs"]
        raw = dataset.parse(schema, inputs, labelled=False)
        raw |= {name: raw[name].to_tensor() for name in schema.variable_sequences}
        return {"outputs": model.predict_click(path(raw))["pctr"]}

    def request(**raw: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = _same_rows(_checked(raw, specs), specs, "candidate", or_one=True)
        return model.predict_click(path.request(raw))

    def compiled(function, *args, **kwargs):
        return tf.function(function, autograph=False).get_concrete_function(*args, **kwargs)

    return {
        SERVING_DEFAULT: compiled(tensors, **tensor_specs),
        EXAMPLES: compiled(examples, example_spec),
        REQUEST: compiled(request, **specs),
    }


def _checked(raw: dict[str, tf.Tensor], specs: dict[str, tf.TensorSpec]) -> dict[str, tf.Tensor]:
    """The inputs, once they have the shapes of their specs: who feeds a graph may feed any."""
    checked = {}
    for name, spec in specs.items():
        # Hides the static shape, so that the optimiser does not remove the check.
        seen = tf.raw_ops.PlaceholderWithDefault(input=raw[name], shape=None)
        shape = tf.shape(seen)
        wanted = tf.constant([-1 if size is None else size for size in spec.shape])
        fits = (wanted < 0) | (wanted == tf.concat([shape, wanted], axis=0)[: len(spec.shape)])
        fits = tf.reduce_all(fits) & (tf.size(shape) == len(spec.shape))
        words = ", ".join("any" if size is None else str(size) for size in spec.shape)
        refused = [f"input {name}: must have the shape [{words}], got", shape]
        with tf.control_dependencies([tf.debugging.Assert(fits, refused, summarize=9)]):
            checked[name] = tf.identity(seen)
        checked[name].set_shape(spec.shape)
    return checked


def _same_rows(
    raw: dict[str, tf.Tensor], specs: dict[str, tf.TensorSpec], of: str, or_one: bool = False
) -> dict[str, tf.Tensor]:
    """Inputs with as many rows as one of them; those that have a single one by their spec stay."""
    count = tf.shape(raw[of])[0]
    checked = {}
    for name, values in raw.items():
        rows = tf.shape(values)[0]
        fits = (rows == count) | (or_one & (rows == 1))
        refused = [
            f"input {name}: must have {'1 row or ' if or_one else ''}as many rows as {of},",
            count,
            "got",
            rows,
        ]
        checks = [] if specs[name].shape[0] == 1 else [tf.debugging.Assert(fits, refused)]
        with tf.control_dependencies(checks):
            checked[name] = tf.identity(values)
    return checked
