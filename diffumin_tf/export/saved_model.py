"""Export of a model as a versioned SavedModel that stock TensorFlow Serving loads."""

import os
import posixpath
import time
from collections.abc import Callable

import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import ExportError
from diffumin_tf.export.inputs import SignatureInputs
from diffumin_tf.export.signatures import EXAMPLES, signatures
from diffumin_tf.export.warmup import write_warmup
from diffumin_tf.files import staged_directory
from diffumin_tf.input.features import FeaturePath
from diffumin_tf.lock import LOCK, exclusive
from diffumin_tf.model import RankingModel

_REMOVED = ".removed"


def export(
    model: RankingModel,
    schema: DataStruct,
    path: FeaturePath,
    folder: str,
    inputs: SignatureInputs | None = None,
    check: Callable[[str], None] | None = None,
    keep: int | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> str:
    """Writes `<folder>/<version>`, the version being the time in seconds.

    Args:
        folder: folder of all versions.
        inputs: samples with which a server warms up; None writes no warm-up.
        check: is called with the version before it appears, and raises to refuse it.
        keep: number of versions to keep, this one included; older ones are removed. None keeps all.

    Returns:
        The folder of the version; it appears complete, on the disk, or not at all. (On `gs://…` a
        folder is renamed file by file.)

    Raises:
        ConfigError: another export is writing here.
        DataError: the disk is full.
    """
    tf.io.gfile.makedirs(folder)
    # Weights and id mapping only: tracking the model would save its optimisers and training graphs.
    module = tf.Module()
    module.weights, module.path = model.variables, path
    with exclusive(folder, "export", "--model_dir"):
        _remove_leftovers(folder)
        version = max([int(time.time()), *(v + 1 for v in versions(folder))])
        final = posixpath.join(folder, str(version))
        with staged_directory(final) as staging:
            tf.saved_model.save(module, staging, signatures=signatures(model, schema, path))
            _let_regress_answer(staging)
            if inputs is not None:
                write_warmup(staging, inputs)
            if check is not None:
                check(staging)
        for old in versions(folder)[:-keep] if keep else ():
            report(_remove(folder, old))
    return final


def versions(folder: str) -> list[int]:
    """Versions in a folder, ascending: subfolders named by a number, as TensorFlow Serving reads.

    Raises:
        ExportError: the folder cannot be read.
    """
    try:
        names = [name.rstrip("/") for name in tf.io.gfile.listdir(folder)]
    except tf.errors.OpError as error:
        raise ExportError(f"{folder}: cannot be read: {error.message}") from None
    numbers = [name for name in names if name.isdecimal() and str(int(name)) == name]
    return sorted(int(n) for n in numbers if tf.io.gfile.isdir(posixpath.join(folder, n)))


def _remove_leftovers(folder: str) -> None:
    """Removes what killed exports left in a local folder."""
    for name in [] if "://" in folder else os.listdir(folder):
        if name.startswith(".") and name.endswith((".incomplete", _REMOVED)):
            tf.io.gfile.rmtree(posixpath.join(folder, name))
        elif name.startswith(".") and name.endswith(LOCK) and name != LOCK:
            os.unlink(posixpath.join(folder, name))


def _remove(folder: str, version: int) -> str:
    """Removes a version by one rename, so that no server sees half of it; returns what it did."""
    old = posixpath.join(folder, str(version))
    hidden = posixpath.join(folder, f".{version}{_REMOVED}")
    try:
        tf.io.gfile.rename(old, hidden)
        tf.io.gfile.rmtree(hidden)
    except tf.errors.OpError as error:
        return f"{old}: not removed: {error.message}"
    return f"removed {old}"


def _let_regress_answer(export: str) -> None:
    """Lets the Regress API use `examples`; TensorFlow 2 saves every signature as Predict."""
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(export)
    updater.replace_method_name(EXAMPLES, tf.compat.v1.saved_model.REGRESS_METHOD_NAME)
    updater.save()
