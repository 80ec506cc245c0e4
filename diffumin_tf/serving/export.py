"""Export of a model as a versioned SavedModel that stock TensorFlow Serving loads."""

import posixpath
import time
from collections.abc import Callable

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from diffumin_tf.data.features import FeaturePath
from diffumin_tf.data.records import staged_directory
from diffumin_tf.data_struct import DataStruct
from diffumin_tf.model import RankingModel
from diffumin_tf.serving.requests import Requests
from diffumin_tf.serving.signatures import EXAMPLES, signatures
from diffumin_tf.serving.warmup import write_warmup

_SAVED_MODEL = "saved_model.pb"
_REGRESS = "tensorflow/serving/regress"


def export(
    model: RankingModel,
    schema: DataStruct,
    path: FeaturePath,
    folder: str,
    requests: Requests | None = None,
    check: Callable[[str], None] | None = None,
    keep: int | None = None,
) -> str:
    """Writes ``<folder>/<version>``, the version being the time in seconds.

    Args:
      model: a model whose weights exist.
      schema: columns of a record.
      path: the feature path the model was trained with.
      folder: folder of all versions.
      requests: with which a server warms up.
      check: looks at the version before it appears, and raises where it must not.
      keep: versions to keep, this one among them; older ones are removed. None keeps all.

    Returns:
      The folder of the version; it appears complete, on the disk, or not at all.
    """
    tf.io.gfile.makedirs(folder)
    version = max([int(time.time()), *(v + 1 for v in versions(folder))])
    final = posixpath.join(folder, str(version))
    # Weights and id mapping only: tracking the model would save its optimisers and training graphs.
    module = tf.Module()
    module.weights = model.variables
    module.path = path
    with staged_directory(final) as staging:
        tf.saved_model.save(module, staging, signatures=signatures(model, schema, path))
        _make_regress(staging)
        if requests is not None:
            write_warmup(staging, requests)
        if check is not None:
            check(staging)
    for old in versions(folder)[:-keep] if keep else ():
        tf.io.gfile.rmtree(posixpath.join(folder, str(old)))
    return final


def versions(folder: str) -> list[int]:
    """Versions in a folder of exports, ascending."""
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    return sorted(int(name) for name in names if name.isdigit())


def _make_regress(export: str) -> None:
    """Lets the Regress API answer by ``examples``; TensorFlow 2 saves all methods as Predict."""
    path = posixpath.join(export, _SAVED_MODEL)
    with tf.io.gfile.GFile(path, "rb") as file:
        saved = saved_model_pb2.SavedModel.FromString(file.read())
    for meta_graph in saved.meta_graphs:
        meta_graph.signature_def[EXAMPLES].method_name = _REGRESS
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(saved.SerializeToString(deterministic=True))
