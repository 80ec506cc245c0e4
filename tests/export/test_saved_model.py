"""The SavedModel: loaded without our code, it scores as evaluation did."""

import os
import pathlib
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.errors import ConfigError, ExportError
from diffumin_tf.export import saved_model as export_lib
from tests.export.stub import Loaded

HISTORIES = ("item_list", "category_list")


@pytest.fixture(scope="module")
def served(trained, inputs, tmp_path_factory):
    """Scores by the export alone, moved elsewhere while the run has no vocabulary any more."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(trained.export, folder / "moved")
    (trained.model_dir / "vocabulary.txt").rename(folder / "vocabulary.txt")
    try:
        run = Loaded(str(folder / "moved")).run
    finally:
        (folder / "vocabulary.txt").rename(trained.model_dir / "vocabulary.txt")
    raw = inputs.tensors(160)
    missing = {n: v if n == "dense_feature" else np.zeros_like(v) for n, v in raw.items()}
    asked = {
        "batch": raw,
        "padded": raw | {n: np.pad(raw[n], ((0, 0), (0, 500))) for n in HISTORIES},
        "missing": missing,
        "unseen": missing | {"cat_feature": np.full_like(raw["cat_feature"], 2**62)},
        **{row: {n: v[row : row + 1] for n, v in raw.items()} for row in (0, 3, 77)},
    }
    answers = {name: run("serving_default", tensors)["pctr"] for name, tensors in asked.items()}
    answers["rectified"] = run("serving_default", raw)["rectified_pctr"]
    answers["examples"] = run("examples", inputs.examples(160))["outputs"]
    answers["first example"] = run("examples", inputs.examples(1))["outputs"]
    return answers


def test_signatures_score_as_evaluation_did(served, trained):
    expected = trained.run.score("test").pctr
    assert expected.std() > 1e-3
    assert served["batch"].dtype == np.float32
    for name in ("batch", "examples"):
        np.testing.assert_allclose(served[name], expected, atol=1e-6)
    p = served["batch"].astype(np.float64)
    np.testing.assert_allclose(served["rectified"], p / (p + (1 - p) / 0.25), rtol=1e-5)


def test_a_sample_scores_the_same_alone_and_padded_for_longer(served):
    batch = served["batch"]
    np.testing.assert_allclose(served["padded"], batch, atol=1e-6)
    for row in (0, 3, 77):
        np.testing.assert_allclose(served[row], batch[row : row + 1], atol=1e-6)
    np.testing.assert_allclose(served["first example"], batch[:1], atol=1e-6)


def test_unseen_ids_score_like_missing_ones(served):
    np.testing.assert_array_equal(served["unseen"], served["missing"])
    assert np.abs(served["missing"] - served["batch"]).max() > 1e-4


def test_the_weights_of_the_model_are_saved_and_nothing_of_its_training(trained):
    found = tf.train.list_variables(str(trained.export / "variables" / "variables"))
    others = ("_CHECKPOINTABLE_OBJECT_GRAPH", "path/rows_of/")  # the vocabulary has variables too
    shapes = [tuple(shape) for name, shape in found if not name.startswith(others)]
    expected = {tuple(v.shape) for v in trained.run.model.variables}
    assert len(shapes) <= len(trained.run.model.variables) and set(shapes) <= expected
    names = " ".join(name for name, _ in found).lower()
    assert not any(word in names for word in ("optimizer", "adam", "adagrad", "slot"))
    assert shapes.count((trained.run.model.embedding.rows, 4)) == 1
    vocabulary = (trained.export / "assets" / "vocabulary.txt").read_text()
    assert vocabulary == (trained.model_dir / "vocabulary.txt").read_text()


SCORES = {"pctr": [-1], "rectified_pctr": [-1]}
SIGNATURES = {
    "serving_default": (
        {"cat_feature": [-1, 8], "dense_feature": [-1, 1]} | {n: [-1, -1] for n in HISTORIES},
        SCORES,
    ),
    "request": (
        {"user": [1, 1], "candidate": [-1, 2], "context": [-1, 1], "dense_feature": [-1, 1]}
        | {n: [1, -1] for n in HISTORIES},
        SCORES,
    ),
    "examples": ({"inputs": [-1]}, {"outputs": [-1]}),
}


@pytest.mark.parametrize("signature", SIGNATURES)
def test_what_a_signature_takes_and_gives(loaded, signature):
    found = loaded.signatures[signature]

    def shapes(infos):
        return {n: [d.size for d in info.tensor_shape.dim] for n, info in infos.items()}

    method = "regress" if signature == "examples" else "predict"
    assert found.method_name == f"tensorflow/serving/{method}"
    assert (shapes(found.inputs), shapes(found.outputs)) == SIGNATURES[signature]


@pytest.fixture
def bare(monkeypatch):
    """Exports of an empty SavedModel."""

    def save(module, folder, signatures):
        (pathlib.Path(folder) / "saved_model.pb").touch()

    monkeypatch.setattr(tf.saved_model, "save", save)
    monkeypatch.setattr(export_lib, "_let_regress_answer", lambda folder: None)
    monkeypatch.setattr(export_lib, "signatures", lambda model, schema, path: {})
    model = types.SimpleNamespace(variables=[])
    return lambda folder, **how: export_lib.export(model, None, None, str(folder), **how)


def test_each_export_is_a_new_version_and_removes_what_killed_ones_left(tmp_path, bare):
    for name in (".1700000000.incomplete", ".1600000000.removed"):
        (tmp_path / name / "variables").mkdir(parents=True)
    (tmp_path / ".1700000000.lock").touch()
    numbers = [int(os.path.basename(bare(tmp_path))) for _ in range(2)]
    assert numbers[0] < numbers[1]
    assert sorted(os.listdir(tmp_path)) == [str(number) for number in numbers]


@pytest.mark.parametrize("error", [ExportError("no"), KeyboardInterrupt()])
def test_a_version_that_fails_or_that_its_check_refuses_does_not_appear(tmp_path, bare, error):
    def refuse(version):
        assert os.listdir(version) == ["saved_model.pb"]
        raise error

    with pytest.raises(type(error)):
        bare(tmp_path / "export", check=refuse)
    assert os.listdir(tmp_path) == []


def test_old_versions_go_once_a_new_one_is_there(tmp_path, bare):
    others = ["007", "notes", "²"]
    for name in ("7", "9000000000", *others):  # the second of a clock that was ahead
        (tmp_path / name).mkdir()
    (tmp_path / "8").touch()
    lines = []
    new = os.path.basename(bare(tmp_path, keep=2, report=lines.append))
    assert new == "9000000001" and lines == [f"removed {tmp_path}/7"]
    assert sorted(os.listdir(tmp_path)) == sorted(["8", "9000000000", new, *others])


def test_a_second_export_into_a_folder_is_refused_while_one_is_writing(tmp_path, bare):
    def second(version):
        with pytest.raises(ConfigError, match="another export works here"):
            bare(tmp_path)

    first = bare(tmp_path, check=second)
    assert os.listdir(tmp_path) == [os.path.basename(first)]
    assert bare(tmp_path) != first


def test_a_version_that_cannot_be_removed_is_named(tmp_path, bare, monkeypatch):
    (tmp_path / "7").mkdir()

    def fail(folder):
        raise tf.errors.PermissionDeniedError(None, None, "not yours")

    monkeypatch.setattr(tf.io.gfile, "rmtree", fail)
    lines = []
    bare(tmp_path, keep=1, report=lines.append)
    assert lines == [f"{tmp_path}/7: not removed: not yours"]
