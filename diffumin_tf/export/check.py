"""Checks an export before anybody serves it: does it score as the model, by TensorFlow alone?"""

import os
import pathlib
import pickle
import posixpath
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
# Words in the names of ops that call Python or draw at random.
_REFUSED = ("PyFunc", "Random", "Rng", "Multinomial", "TruncatedNormal")
# Stateful ops that an export needs, to hold and restore its weights and its vocabulary.
_STATEFUL = frozenset(
    "Assert AssignVariableOp Case DisableCopyOnRead HashTableV2 If InitializeTableFromTextFileV2 "
    "LookupTableFindV2 MergeV2Checkpoints PartitionedCall Placeholder ReadVariableOp "
    "ResourceGather ResourceGatherNd RestoreV2 SaveV2 ShardedFilename StatefulPartitionedCall "
    "VarHandleOp VarIsInitializedOp While".split()
)

Tensors = dict[str, np.ndarray]


def check_export(
    export: str, model: RankingModel, path: FeaturePath, inputs: SignatureInputs
) -> int:
    """Scores the warm-up and all samples by the SavedModel alone, and compares with the model.

    Returns:
        The number of scores that were compared.

    Raises:
        ExportError: an op is not TensorFlow's, or draws at random; TensorFlow alone cannot load the
            SavedModel; or a score is not finite, or differs by more than 1e-6.
    """
    if foreign := foreign_ops(export):
        raise ExportError(
            f"{export}: has the ops {', '.join(foreign)}, which call Python, draw at random or are "
            "not TensorFlow's; stock TensorFlow Serving cannot run them"
        )
    every = len(inputs.samples)
    asked = [*read_warmup(export), (SERVING_DEFAULT, inputs.tensors(every))]
    asked.append((EXAMPLES, inputs.examples(every)))
    compared = 0
    for (signature, tensors), (_, answer) in zip(asked, replayed(export, asked), strict=True):
        for name, wanted in _expected(signature, tensors, model, path, inputs).items():
            _compare(f"{export}: {signature}, {len(wanted)} samples: {name}", answer[name], wanted)
            compared += wanted.size
    return compared


def foreign_ops(export: str) -> list[str]:
    """Ops of a SavedModel that are not TensorFlow's, call Python, or draw at random."""
    with tf.io.gfile.GFile(posixpath.join(export, "saved_model.pb"), "rb") as file:
        saved = saved_model_pb2.SavedModel.FromString(file.read())
    found = set()
    for meta_graph in saved.meta_graphs:
        library = meta_graph.graph_def.library.function
        nodes = [*meta_graph.graph_def.node, *(n for f in library for n in f.node_def)]
        found |= {node.op for node in nodes} - {f.signature.name for f in library}
    return sorted(op for op in found if _is_foreign(op))


def _is_foreign(op: str) -> bool:
    definition = op_def_registry.get(op)
    if definition is None or any(word in op for word in _REFUSED):
        return True
    return definition.is_stateful and op not in _STATEFUL


def replayed(export: str, asked: list[tuple[str, Tensors]]) -> list[tuple[str, Tensors]]:
    """Answers of the export in a process that has none of our code."""
    with tempfile.TemporaryDirectory() as folder:
        questions, answers = pathlib.Path(folder, "questions"), pathlib.Path(folder, "answers")
        questions.write_bytes(pickle.dumps(asked))
        command = [sys.executable, "-I", replay.__file__, export, str(questions), str(answers)]
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ExportError(f"{export}: does not score by TensorFlow alone: {why}")
        return pickle.loads(answers.read_bytes())


def _expected(
    signature: str, asked: Tensors, model: RankingModel, path: FeaturePath, inputs: SignatureInputs
) -> Tensors:
    """What the model itself answers, to a request candidate by candidate."""
    if signature == REQUEST:
        raw = inputs.of_one_user(len(asked["candidate"]))
    else:
        raw = inputs.tensors(len(next(iter(asked.values()))))
    with tf.device("CPU"):  # as the replay
        answer = model.predict_click(path({n: tf.constant(values) for n, values in raw.items()}))
    scores = {name: values.numpy() for name, values in answer.items()}
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
