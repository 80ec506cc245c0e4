"""What is published scores as its model does, by stock TensorFlow alone."""

import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf import cli
from diffumin_tf.errors import DataError, ExportError
from diffumin_tf.export import check


def checked(trained, inputs, export=None):
    one = trained.run
    return check.check_export(str(export or trained.export), one.model, one.path, inputs)


def test_a_damaged_warm_up_is_refused(trained, inputs, tmp_path):
    spoilt = shutil.copytree(trained.export, tmp_path / "spoilt")
    file = spoilt / "assets.extra" / "tf_serving_warmup_requests"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ExportError, match="no warm-up"):
        checked(trained, inputs, spoilt)


def test_other_scores_are_refused(trained, inputs, loaded, monkeypatch):
    def replayed(export, asked):  # saves a process
        return [(name, loaded.run(name, tensors)) for name, tensors in asked]

    monkeypatch.setattr(check, "replayed", replayed)
    assert checked(trained, inputs) == 1781
    bias = trained.run.model.trainable_variables[-1]
    before = bias.numpy()
    bias.assign_add(tf.ones_like(bias) * 1e-4)
    try:
        with pytest.raises(ExportError, match="serving_default, 1 samples: pctr: sample 0 scores"):
            checked(trained, inputs)
    finally:
        bias.assign(before)


@pytest.mark.parametrize("found", [[0.5, np.nan], [0.5, np.inf], [0.5]])
def test_what_is_no_score_is_refused(found):
    with pytest.raises(ExportError, match="must be .2,. finite scores"):
        check._compare("x", np.array(found), np.array([0.5, 0.5]))


def test_an_export_that_does_not_load_says_why(trained, inputs, tmp_path):
    torn = shutil.copytree(trained.export, tmp_path / "torn")
    for file in (torn / "variables").glob("*.data*"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ExportError, match="does not score by TensorFlow alone: .+"):
        checked(trained, inputs, torn)


def python_op():
    return tf.py_function(lambda: 1.0, [], tf.float32)


def chance():
    return tf.random.normal([2], seed=1)


def chance_by_another_name():
    return tf.raw_ops.NonDeterministicInts(shape=[2])


def a_file():
    with tf.control_dependencies([tf.io.write_file("x", "y")]):
        return tf.constant(0)


@pytest.mark.parametrize(
    ("run", "found"),
    [
        (python_op, "EagerPyFunc"),
        (chance, "RandomStandardNormal"),
        (chance_by_another_name, "NonDeterministicInts"),
        (a_file, "WriteFile"),
    ],
)
def test_ops_that_serving_must_do_without_are_named(tmp_path, run, found):
    module = tf.Module()
    module.run = tf.function(run, input_signature=[])
    tf.saved_model.save(module, str(tmp_path), signatures={"x": module.run.get_concrete_function()})
    with pytest.raises(ExportError, match=found):
        check.check_export(str(tmp_path), None, None, None)


def test_the_command_checks_and_prunes(trained, tmp_path, capsys):
    model_dir = shutil.copytree(trained.model_dir, tmp_path / "model")
    arguments = ["export", f"--model_dir={model_dir}", "--check", "--keep=1"]
    assert cli.main(arguments) == 0
    (version,) = (model_dir / "export").iterdir()
    assert version.name != trained.export.name
    source = "160 samples of the test split"
    # Both scores of serving_default and request, one of examples; of the warm-up, and of all.
    assert 1781 == (1 + 32 + 160) * 3 + (1 + 100 + 500) * 2
    assert capsys.readouterr().out.splitlines() == [
        f"warm-up: {source}",
        f"checked 1,781 scores of the warm-up and of {source}",
        f"removed {model_dir}/export/{trained.export.name}",
        f"exported {version}",
    ]
    assert (version / "assets.extra" / "tf_serving_warmup_requests").exists()


def test_without_records_nothing_is_checked_and_the_warm_up_is_blank(trained, monkeypatch):
    monkeypatch.setattr("diffumin_tf.run.open.recorded_inputs", lambda *_: None)
    with pytest.raises(DataError, match="--check needs records"):
        trained.run.export(check=True)
    lines = []
    blank = pathlib.Path(trained.run.export(report=lines.append))
    assert lines == ["warm-up: a blank sample"]
    assert (blank / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 0
    shutil.rmtree(blank)
