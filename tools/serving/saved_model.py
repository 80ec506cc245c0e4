"""Versions of an export as they lie on the disk, and what they answer; no weight is loaded."""

import dataclasses
import os
import posixpath

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from diffumin_tf.errors import DataError

SIGNATURES = ("serving_default", "examples", "request")

Inputs = dict[str, tf.TensorSpec]


@dataclasses.dataclass(frozen=True)
class Version:
    """One version of an export.

    Attributes:
        number: its number, which is also the name of its folder.
        size: bytes of its files.
        signatures: inputs by name of each signature.
    """

    number: int
    size: int
    signatures: dict[str, Inputs]


def versions(export: str) -> list[int]:
    """Versions in a folder, ascending.

    Raises:
        DataError: there are none.
    """
    try:
        names = [name.rstrip("/") for name in tf.io.gfile.listdir(export)]
    except tf.errors.OpError as error:
        raise DataError(f"{export}: cannot be read: {error.message}") from None
    found = sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)
    if not found:
        hint, below = "", posixpath.join(export, "export")
        if tf.io.gfile.exists(posixpath.join(export, "saved_model.pb")):
            hint = "; this is one version, so give the folder above"
        elif tf.io.gfile.isdir(below):
            hint = f"; did you mean {below}?"
        raise DataError(
            f"{export}: no versions, that is folders named by a number, as `diffumin export` "
            f"writes them{hint}"
        )
    return found


def read_version(export: str, number: int) -> Version:
    """Looks at one version.

    Raises:
        DataError: it is no complete SavedModel, or lacks a signature.
    """
    path = posixpath.join(export, str(number))
    meta_graph = _meta_graph(path)
    _check_files(path, meta_graph)
    found = meta_graph.signature_def
    for name in SIGNATURES:
        if name not in found:
            raise DataError(
                f"{path}: no signature {name!r}, only "
                f"{', '.join(sorted(n for n in found if not n.startswith('__'))) or 'none'}; "
                "export it anew with this version of diffumin_tf"
            )
    signatures = {
        name: {key: _spec(key, info) for key, info in sorted(found[name].inputs.items())}
        for name in SIGNATURES
    }
    return Version(number, _size(path), signatures)


def merges(inputs: Inputs) -> str:
    """Whether a server that batches may merge requests to a signature.

    It joins the inputs of several requests along their first dimension, so that the first
    dimension of every input must be that of the samples, and the others must agree.

    Returns:
        `yes`; `one length`, when they agree only if all clients pad alike; or `no`.
    """
    if any(spec.shape[0] is not None for spec in inputs.values()):
        return "no"
    fixed = all(None not in spec.shape[1:].as_list() for spec in inputs.values())
    return "yes" if fixed else "one length"


def _meta_graph(path: str) -> meta_graph_pb2.MetaGraphDef:
    file = posixpath.join(path, "saved_model.pb")
    try:
        with tf.io.gfile.GFile(file, "rb") as content:
            saved = saved_model_pb2.SavedModel.FromString(content.read())
    except tf.errors.OpError as error:
        raise DataError(f"{path}: no complete SavedModel: {error.message}") from None
    except DecodeError:
        raise DataError(f"{file}: torn or something else; export it anew") from None
    for meta_graph in saved.meta_graphs:
        if "serve" in meta_graph.meta_info_def.tags:
            return meta_graph
    raise DataError(f"{file}: torn or something else: no graph is tagged 'serve'")


def _check_files(path: str, meta_graph: meta_graph_pb2.MetaGraphDef) -> None:
    assets = [posixpath.join(path, "assets", a.filename) for a in meta_graph.asset_file_def]
    missing = [asset for asset in assets if not tf.io.gfile.exists(asset)]
    prefix = posixpath.join(path, "variables", "variables")
    if missing:
        raise DataError(f"{path}: no complete SavedModel: {missing[0]} is missing")
    try:
        weights = tf.train.load_checkpoint(prefix)
        types = weights.get_variable_to_dtype_map()
        shapes = weights.get_variable_to_shape_map()
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: no complete SavedModel: {error}") from None
    wanted = sum(
        types[name].size * tf.TensorShape(shape).num_elements()
        for name, shape in shapes.items()
        if types[name] != tf.string
    )
    there = sum(tf.io.gfile.stat(f).length for f in tf.io.gfile.glob(f"{prefix}.data-*"))
    if there < wanted:
        raise DataError(
            f"{prefix}.data-*: torn: {there:,} bytes, but the weights have {wanted:,}; export it "
            "anew"
        )


def _spec(name: str, info: meta_graph_pb2.TensorInfo) -> tf.TensorSpec:
    return tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype), name)


def _size(path: str) -> int:
    return sum(
        tf.io.gfile.stat(os.path.join(folder, file)).length
        for folder, _, files in tf.io.gfile.walk(path)
        for file in files
    )
