"""Export of a model as a versioned SavedModel that stock TensorFlow Serving loads."""

import contextlib
import fcntl
import os
import posixpath
import time
from collections.abc import Callable, Iterator

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import ExportError
from diffumin_tf.export.inputs import SignatureInputs
from diffumin_tf.export.signatures import EXAMPLES, signatures
from diffumin_tf.export.warmup import write_warmup
from diffumin_tf.files import staged_directory
from diffumin_tf.input.features import FeaturePath
from diffumin_tf.model import RankingModel

_SAVED_MODEL = "saved_model.pb"
_REMOVED = ".removed"
_REGRESS = "tensorflow/serving/regress"


def export(
    model: RankingModel,
    schema: DataStruct,
    path: FeaturePath,
    folder: str,
    requests: SignatureInputs | None = None,
    check: Callable[[str], None] | None = None,
    keep: int | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> str:
    """Writes `<folder>/<version>`, the version being the time in seconds.

    Args:
        model: a model whose weights exist.
        schema: columns of a record.
        path: the feature path the model was trained with.
        folder: folder of all versions.
        requests: with which a server warms up.
        check: looks at the version before it appears, and raises where it must not.
        keep: versions to keep, this one among them; older ones are removed. None keeps all.
        report: takes a line for each that is removed.

    Returns:
        The folder of the version; it appears complete, on the disk, or not at all. (On `gs://…` a
        folder is renamed file by file.)

    Raises:
        ExportError: another export is writing here.
        DataError: the disk is full.
    """
    tf.io.gfile.makedirs(folder)
    with _alone(folder):
        version = max([int(time.time()), *(v + 1 for v in versions(folder))])
        final = posixpath.join(folder, str(version))
        _write(model, schema, path, final, requests, check)
        for old in versions(folder)[:-keep] if keep else ():
            report(_removed(folder, old))
    return final


def versions(folder: str) -> list[int]:
    """Versions in a folder of exports, ascending: folders named by a number, as servers see it."""
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    return sorted(
        int(name)
        for name in names
        if name.isdecimal()
        and str(int(name)) == name
        and tf.io.gfile.isdir(posixpath.join(folder, name))
    )


def _write(
    model: RankingModel,
    schema: DataStruct,
    path: FeaturePath,
    final: str,
    requests: SignatureInputs | None,
    check: Callable[[str], None] | None,
) -> None:
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


@contextlib.contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Lets one export at a time into a local folder, and removes what killed ones left there.

    The system lets go of the folder in any case.
    """
    if "://" in folder:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExportError(f"{folder}: another export is writing here; wait for it") from None
        for name in os.listdir(folder):
            if name.startswith(".") and name.endswith((".incomplete", _REMOVED)):
                tf.io.gfile.rmtree(posixpath.join(folder, name))
        yield
    finally:
        os.close(handle)


def _removed(folder: str, version: int) -> str:
    """Removes a version, at once for who looks for it; says so, or why not."""
    old = posixpath.join(folder, str(version))
    hidden = posixpath.join(folder, f".{version}{_REMOVED}")
    try:
        tf.io.gfile.rename(old, hidden)
        tf.io.gfile.rmtree(hidden)
    except tf.errors.OpError as error:
        return f"{old}: not removed: {error.message}"
    return f"removed {old}"


def _make_regress(export: str) -> None:
    """Lets the Regress API answer by `examples`; TensorFlow 2 saves all methods as Predict."""
    path = posixpath.join(export, _SAVED_MODEL)
    with tf.io.gfile.GFile(path, "rb") as file:
        saved = saved_model_pb2.SavedModel.FromString(file.read())
    for meta_graph in saved.meta_graphs:
        meta_graph.signature_def[EXAMPLES].method_name = _REGRESS
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(saved.SerializeToString(deterministic=True))
