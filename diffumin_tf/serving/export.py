"""Export of a model as a versioned SavedModel that stock TensorFlow Serving loads."""

import posixpath
import time

import tensorflow as tf

from diffumin_tf.data import dataset
from diffumin_tf.data.features import FeaturePath
from diffumin_tf.data.records import staged_directory
from diffumin_tf.data_struct import DataStruct
from diffumin_tf.model import RankingModel


def raw_specs(schema: DataStruct) -> dict[str, tf.TensorSpec]:
    """Inputs of ``serving_default`` by name."""
    specs = {"cat_feature": tf.TensorSpec([None, len(schema.cat_feature)], tf.int64, "cat_feature")}
    if schema.dense_feature:
        specs["dense_feature"] = tf.TensorSpec(
            [None, len(schema.dense_feature)], tf.float32, "dense_feature"
        )
    for name in schema.variable_sequences:
        specs[name] = tf.TensorSpec([None, None], tf.int64, name)
    return specs


def signatures(model: RankingModel, schema: DataStruct, path: FeaturePath) -> dict:
    """Concrete functions from raw ids to ``pctr`` and ``rectified_pctr``, float32 [B] each.

    * ``serving_default``: the schema's tensors: ``cat_feature`` int64 [B, columns],
      ``dense_feature`` float32 [B, columns], each variable-length history field int64
      [B, any length], most recent first, padded with 0 at the end.
    * ``examples``: ``inputs``, serialised ``tf.train.Example`` strings [B]; label and auxiliary
      columns are neither needed nor read.

    Args:
      model: a model whose weights exist.
      schema: columns of a record.
      path: the feature path the model was trained with.
    """

    def score(raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return model.predict_click(path(raw))

    def tensors(**raw: tf.Tensor) -> dict[str, tf.Tensor]:
        return score(raw)

    def examples(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = dataset.parse(schema, inputs, labelled=False)
        return score(raw | {n: raw[n].to_tensor() for n in schema.variable_sequences})

    return {
        "serving_default": tf.function(tensors, autograph=False).get_concrete_function(
            **raw_specs(schema)
        ),
        "examples": tf.function(examples, autograph=False).get_concrete_function(
            tf.TensorSpec([None], tf.string, name="inputs")
        ),
    }


def export(model: RankingModel, schema: DataStruct, path: FeaturePath, folder: str) -> str:
    """Writes ``<folder>/<version>``, the version being the time in seconds.

    Args:
      model: a model whose weights exist.
      schema: columns of a record.
      path: the feature path the model was trained with.
      folder: folder of all versions.

    Returns:
      The folder of the version; it appears complete or not at all.
    """
    tf.io.gfile.makedirs(folder)
    version = int(time.time())
    while tf.io.gfile.exists(posixpath.join(folder, str(version))):
        version += 1
    final = posixpath.join(folder, str(version))
    # Weights and id mapping only: tracking the model would save its optimisers and training graphs.
    module = tf.Module()
    module.weights = model.variables
    module.path = path
    with staged_directory(final) as staging:
        tf.saved_model.save(module, staging, signatures=signatures(model, schema, path))
    return final
