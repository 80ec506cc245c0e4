"""The SavedModel: served by TensorFlow alone, it scores as evaluation did."""

import os
import pathlib
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from diffumin_tf.errors import ExportError
from diffumin_tf.export import saved_model as export_lib
from diffumin_tf.input import parsing

# Runs where TensorFlow is and none of our code.
SERVE = """
import sys
import numpy as np
import tensorflow as tf
export, examples, requests, answers = sys.argv[1:]
signatures = tf.saved_model.load(export).signatures
serialised = list(tf.data.TFRecordDataset(examples.split(",")).as_numpy_iterator())
found = {f"examples {n}": v for n, v in signatures["examples"](tf.constant(serialised)).items()}
found |= {f"first {n}": v for n, v in signatures["examples"](tf.constant(serialised[:1])).items()}
asked = {}
for key, value in np.load(requests).items():
    request, name = key.split(" ")
    asked.setdefault(request, {})[name] = tf.constant(value)
for request, inputs in asked.items():
    scores = signatures["serving_default"](**inputs)
    found |= {f"{request} {name}": value for name, value in scores.items()}
loaded = [name for name in ("diffumin_tf", "handle_layer", "tensorflow_recommenders")
          if name in sys.modules]
assert not loaded, loaded
np.savez(answers, **{name: value.numpy() for name, value in found.items()})
"""


@pytest.fixture(scope="module")
def raw(trained):
    """The test split as tensors, in the order of its records."""
    files = sorted(str(p) for p in (trained.exp.parent / "data" / "20240104").glob("part-*"))
    (serialised,) = parsing.read_records(files).batch(1000)
    parsed = parsing.parse(trained.experiment.schema, serialised, labelled=False)
    for name in ("item_list", "category_list"):
        parsed[name] = parsed[name].to_tensor()
    return files, {name: value.numpy() for name, value in parsed.items()}


def requests_of(raw):
    def histories(change):
        return {n: change(v) if n in ("item_list", "category_list") else v for n, v in raw.items()}

    padded = histories(lambda ids: np.pad(ids, ((0, 0), (0, 500))))
    missing = {n: v if n == "dense_feature" else np.zeros_like(v) for n, v in raw.items()}
    missing |= {n: v * 0 for n, v in raw.items() if n in ("item_list", "category_list")}
    unseen = {**missing, "cat_feature": np.full_like(raw["cat_feature"], 2**62)}
    alone = {f"alone{row}": {n: v[row : row + 1] for n, v in raw.items()} for row in (0, 3, 77)}
    return {"batch": raw, "padded": padded, "missing": missing, "unseen": unseen, **alone}


@pytest.fixture(scope="module")
def served(trained, raw, tmp_path_factory):
    """Scores from the export, moved elsewhere while the run has no vocabulary any more."""
    files, tensors = raw
    folder = tmp_path_factory.mktemp("served")
    export = shutil.copytree(trained.export, folder / "moved")
    pairs = requests_of(tensors).items()
    np.savez(
        folder / "requests.npz",
        **{f"{request} {n}": v for request, inputs in pairs for n, v in inputs.items()},
    )
    vocabulary = trained.model_dir / "vocabulary.txt"
    vocabulary.rename(folder / "vocabulary.txt")
    try:
        arguments = [export, ",".join(files), folder / "requests.npz", folder / "answers.npz"]
        done = subprocess.run(
            [sys.executable, "-I", "-c", SERVE, *map(str, arguments)],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        (folder / "vocabulary.txt").rename(vocabulary)
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "answers.npz"))


@pytest.fixture(scope="module")
def expected(trained):
    return trained.experiment.score("test").pctr


@pytest.mark.parametrize("scores", ["examples outputs", "batch pctr"])
def test_signatures_score_as_evaluation_did(served, expected, scores):
    assert expected.std() > 1e-3
    np.testing.assert_allclose(served[scores], expected, atol=1e-6)


def test_both_scores_are_given_and_one_is_the_other_rectified(served):
    p = served["batch pctr"].astype(np.float64)
    assert p.shape == (160,) and served["batch pctr"].dtype == np.float32
    np.testing.assert_allclose(served["batch rectified_pctr"], p / (p + (1 - p) / 0.25), rtol=1e-5)


def test_a_history_padded_for_longer_scores_the_same(served):
    np.testing.assert_allclose(served["padded pctr"], served["batch pctr"], atol=1e-6)


def test_a_sample_alone_scores_as_in_a_batch(served):
    for row in (0, 3, 77):
        np.testing.assert_allclose(
            served[f"alone{row} pctr"], served["batch pctr"][row : row + 1], atol=1e-6
        )
    np.testing.assert_allclose(served["first outputs"], served["examples outputs"][:1], atol=1e-6)


def test_unseen_ids_score_like_missing_ones(served):
    np.testing.assert_array_equal(served["unseen pctr"], served["missing pctr"])
    assert np.abs(served["missing pctr"] - served["batch pctr"]).max() > 1e-4


@pytest.fixture(scope="module")
def meta_graph(trained):
    saved = saved_model_pb2.SavedModel.FromString((trained.export / "saved_model.pb").read_bytes())
    (meta_graph,) = saved.meta_graphs
    return meta_graph


def test_the_weights_of_the_model_are_saved_and_nothing_of_its_training(trained):
    found = tf.train.list_variables(str(trained.export / "variables" / "variables"))
    shapes = [tuple(shape) for name, shape in found if name != "_CHECKPOINTABLE_OBJECT_GRAPH"]
    expected = {tuple(v.shape) for v in trained.experiment.model.variables}
    assert len(shapes) <= len(trained.experiment.model.variables) and set(shapes) <= expected
    names = " ".join(name for name, _ in found)
    assert not any(word in names.lower() for word in ("optimizer", "adam", "adagrad", "slot"))
    table = (trained.experiment.model.embedding.rows, 4)
    assert shapes.count(table) == 1


def test_the_vocabulary_lies_inside_the_export(trained):
    asset = trained.export / "assets" / "vocabulary.txt"
    assert asset.read_text() == (trained.model_dir / "vocabulary.txt").read_text()


def test_inputs_are_the_tensors_of_the_schema(meta_graph):
    inputs = meta_graph.signature_def["serving_default"].inputs
    shapes = {n: [d.size for d in spec.tensor_shape.dim] for n, spec in inputs.items()}
    assert shapes == {
        "cat_feature": [-1, 8],
        "dense_feature": [-1, 1],
        "item_list": [-1, -1],
        "category_list": [-1, -1],
    }
    for signature in ("serving_default", "request"):
        described = meta_graph.signature_def[signature]
        assert set(described.outputs) == {"pctr", "rectified_pctr"}
        assert described.method_name == "tensorflow/serving/predict"


def test_samples_are_what_the_regress_api_asks_for(meta_graph):
    examples = meta_graph.signature_def["examples"]
    assert (list(examples.inputs), list(examples.outputs)) == (["inputs"], ["outputs"])
    assert examples.method_name == "tensorflow/serving/regress"
    assert [d.size for d in examples.outputs["outputs"].tensor_shape.dim] == [-1]


@pytest.fixture
def bare(monkeypatch):
    """Exports of an empty SavedModel; the third one is broken off."""
    written = []

    def save(module, folder, signatures):
        written.append(folder)
        if len(written) == 3:
            raise KeyboardInterrupt
        (pathlib.Path(folder) / "saved_model.pb").touch()

    monkeypatch.setattr(tf.saved_model, "save", save)
    monkeypatch.setattr(export_lib, "_let_regress_answer", lambda folder: None)
    monkeypatch.setattr(export_lib, "signatures", lambda model, schema, path: {})
    model = types.SimpleNamespace(variables=[])
    return lambda folder, **how: export_lib.export(model, None, None, str(folder), **how)


def test_each_export_is_a_new_version_and_a_failed_one_is_none(tmp_path, bare):
    numbers = [int(os.path.basename(bare(tmp_path))) for _ in range(2)]
    assert numbers[0] < numbers[1]
    with pytest.raises(KeyboardInterrupt):
        bare(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [str(number) for number in numbers]


def test_a_version_that_its_check_refuses_does_not_appear(tmp_path, bare):
    seen = []

    def refuse(version):
        seen.append(sorted(os.listdir(version)))
        raise ExportError("no")

    with pytest.raises(ExportError):
        bare(tmp_path, check=refuse)
    assert seen == [["saved_model.pb"]] and os.listdir(tmp_path) == []


def test_old_versions_go_once_a_new_one_is_there(tmp_path, bare):
    (tmp_path / "7").mkdir()
    (tmp_path / "9000000000").mkdir()  # of a clock that was ahead
    others = ["007", "notes", "²"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / "8").touch()
    lines = []
    new = os.path.basename(bare(tmp_path, keep=2, report=lines.append))
    assert new == "9000000001" and lines == [f"removed {tmp_path}/7"]
    assert sorted(os.listdir(tmp_path)) == sorted(["8", "9000000000", new, *others])


def test_a_second_export_into_a_folder_is_refused_while_one_is_writing(tmp_path, bare):
    def second(version):
        with pytest.raises(ExportError, match="another export is writing here"):
            bare(tmp_path)

    first = bare(tmp_path, check=second)
    assert os.listdir(tmp_path) == [os.path.basename(first)]
    assert bare(tmp_path) != first


def test_what_a_killed_export_left_goes_with_the_next_one(tmp_path, bare):
    for name in (".1700000000.incomplete", ".1600000000.removed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "variables").touch()
    new = bare(tmp_path)
    assert os.listdir(tmp_path) == [os.path.basename(new)]


def test_a_version_that_cannot_be_removed_is_named(tmp_path, bare, monkeypatch):
    (tmp_path / "7").mkdir()

    def fail(folder):
        raise tf.errors.PermissionDeniedError(None, None, "not yours")

    monkeypatch.setattr(tf.io.gfile, "rmtree", fail)
    lines = []
    bare(tmp_path, keep=1, report=lines.append)
    assert lines == [f"{tmp_path}/7: not removed: not yours"]
