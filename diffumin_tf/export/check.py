"""A look at an export before anybody serves it: does it score as the model does, by itself?"""

import math
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from diffumin_tf.errors import ExportError
from diffumin_tf.export import replay
from diffumin_tf.export.inputs import SignatureInputs
from diffumin_tf.export.signatures import EXAMPLES, REQUEST, SERVING_DEFAULT
from diffumin_tf.export.warmup import read_warmup
from diffumin_tf.input.features import FeaturePath
from diffumin_tf.model import RankingModel

TOLERANCE = 1e-6
# Samples that the model scores together: as many as a request asks for, because products of other
# shapes round otherwise, which may decide between two behaviours at the edge of the best k.
_AT_ONCE = 512
# Words in the names of ops that call Python or draw at random.
_REFUSED = ("PyFunc", "Random", "Rng", "Multinomial", "TruncatedNormal")
# Ops with a state that an export needs, to hold and restore its weights and its vocabulary.
_STATEFUL = frozenset(
    "Assert AssignVariableOp Case DisableCopyOnRead HashTableV2 If InitializeTableFromTextFileV2 "
    "LookupTableFindV2 MergeV2Checkpoints PartitionedCall Placeholder ReadVariableOp "
    "ResourceGather ResourceGatherNd RestoreV2 SaveV2 ShardedFilename StatefulPartitionedCall "
    "VarHandleOp VarIsInitializedOp While".split()
)


def check_export(
    export: str, model: RankingModel, path: FeaturePath, requests: SignatureInputs
) -> int:
    """Replays the warm-up and samples by the SavedModel alone, and compares with the model.

    Args:
        export: folder of a SavedModel.
        model: the model it was made of.
        path: its feature path.
        requests: real samples.

    Returns:
        The number of scores that were compared.

    Raises:
        ExportError: an op is not TensorFlow's own, or draws at random; the SavedModel does not load
            where there is TensorFlow alone; or a score is not finite, or differs by more than 1e-6.
    """
    refuse_foreign_ops(export)
    asked = _asked(export, requests)
    with tempfile.TemporaryDirectory() as folder:
        scored = _replayed(export, asked, pathlib.Path(folder))
    compared = 0
    for (signature, inputs), (_, answer) in zip(asked, scored, strict=True):
        expected = _expected(signature, inputs, model, path, requests)
        for name, wanted in expected.items():
            _compare(f"{export}: {signature}, {len(wanted)} samples: {name}", answer[name], wanted)
            compared += wanted.size
    return compared


def foreign_ops(export: str) -> list[str]:
    """Ops of a SavedModel that are not TensorFlow's own, call Python, or draw at random."""
    with tf.io.gfile.GFile(f"{export}/saved_model.pb", "rb") as file:
        saved = saved_model_pb2.SavedModel.FromString(file.read())
    found = set()
    for meta_graph in saved.meta_graphs:
        library = meta_graph.graph_def.library.function
        own = {function.signature.name for function in library}
        nodes = [*meta_graph.graph_def.node, *(n for f in library for n in f.node_def)]
        found |= {node.op for node in nodes} - own
    return sorted(op for op in found if _is_foreign(op))


def refuse_foreign_ops(export: str) -> None:
    """Raises ExportError where `foreign_ops` finds any."""
    if foreign := foreign_ops(export):
        raise ExportError(
            f"{export}: has the ops {', '.join(foreign)}, which call Python, draw at random or are "
            "none of TensorFlow's own; stock TensorFlow Serving must get by without them"
        )


def _is_foreign(op: str) -> bool:
    definition = op_def_registry.get(op)
    if definition is None or any(word in op for word in _REFUSED):
        return True
    return definition.is_stateful and op not in _STATEFUL


def _asked(export: str, requests: SignatureInputs) -> list[tuple[str, dict[str, np.ndarray]]]:
    """The warm-up as it lies in the export, and all samples by both signatures that take them."""
    every = len(requests.samples)
    return [
        *read_warmup(export),
        (SERVING_DEFAULT, requests.tensors(every)),
        (EXAMPLES, requests.examples(every)),
    ]


def _replayed(export: str, asked: list, folder: pathlib.Path) -> list:
    questions, answers = str(folder / "questions"), str(folder / "answers")
    replay.write(questions, asked)
    done = subprocess.run(
        [sys.executable, "-I", replay.__file__, export, questions, answers],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ExportError(f"{export}: does not score where there is TensorFlow alone: {why}")
    return list(replay.read(answers))


def _expected(
    signature: str,
    inputs: dict[str, np.ndarray],
    model: RankingModel,
    path: FeaturePath,
    requests: SignatureInputs,
) -> dict[str, np.ndarray]:
    """What the model itself makes of the samples, each with a history of its own."""
    if signature == REQUEST:
        raw = requests.of_one_user(len(inputs["candidate"]))
    else:
        raw = requests.tensors(len(next(iter(inputs.values()))))
    count = len(raw["cat_feature"])
    parts = []
    for rows in np.array_split(np.arange(count), math.ceil(count / _AT_ONCE)):
        some = {name: tf.constant(values[rows]) for name, values in raw.items()}
        with tf.device("CPU"):  # as the replay
            parts.append(model.predict_click(path(some)))
    scores = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {"outputs": scores["pctr"]} if signature == EXAMPLES else scores


def _compare(what: str, found: np.ndarray, wanted: np.ndarray) -> None:
    if found.shape != wanted.shape or not np.isfinite(found).all():
        raise ExportError(f"{what}: must be {wanted.shape} finite scores, got {found}")
    apart = np.abs(found - wanted)
    if apart.max(initial=0.0) > TOLERANCE:
        worst = int(apart.argmax())
        raise ExportError(
            f"{what}: sample {worst} scores {found[worst]} here and {wanted[worst]} by the model, "
            f"more than {TOLERANCE} apart"
        )
