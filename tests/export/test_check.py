"""What is published scores as its model does, by stock TensorFlow alone."""

import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf import cli
from diffumin_tf.errors import DataError, ExportError
from diffumin_tf.export import check
from diffumin_tf.export.inputs import recorded_inputs
from diffumin_tf.input.damage import FileCheck
from diffumin_tf.input.splits import files_of


def test_other_scores_are_refused(trained, inputs, loaded, monkeypatch):
    def replayed(export, asked):  # saves a process
        return [(name, loaded.run(name, tensors)) for name, tensors in asked]

    monkeypatch.setattr(check, "replayed", replayed)
    run = trained.run
    bias = run.model.trainable_variables[-1]
    before = bias.numpy()
    bias.assign_add(tf.ones_like(bias) * 1e-4)
    try:
        with pytest.raises(ExportError, match="serving_default, 1 samples: pctr: sample 0 scores"):
            check.check_export(str(trained.export), run.model, run.path, inputs)
    finally:
        bias.assign(before)


@pytest.mark.parametrize("found", [[0.5, np.nan], [0.5, np.inf], [0.5]])
def test_what_is_no_score_is_refused(found):
    with pytest.raises(ExportError, match="must be .2,. finite scores"):
        check._compare("x", np.array(found), np.array([0.5, 0.5]))


def test_an_export_that_does_not_load_says_why(tmp_path, monkeypatch):
    fails = tmp_path / "fails.py"
    fails.write_text("import sys\nsys.exit('a notice\\ntorn ' + sys.argv[1])\n")
    monkeypatch.setattr(check.replay, "__file__", str(fails))
    with pytest.raises(ExportError, match="x: does not score by TensorFlow alone: torn x"):
        check.replayed("x", [])


def python_op():
    return tf.py_function(lambda: 1.0, [], tf.float32)


def random_op():
    return tf.raw_ops.NonDeterministicInts(shape=[2])


def file_op():
    with tf.control_dependencies([tf.io.write_file("x", "y")]):
        return tf.random.normal([2], seed=1)


@pytest.mark.parametrize(
    ("run", "found"),
    [
        (python_op, "EagerPyFunc"),
        (random_op, "NonDeterministicInts"),
        (file_op, "RandomStandardNormal, WriteFile"),
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


def test_damage_behind_the_first_records_does_not_matter(trained, tmp_path):
    config, schema, layout = trained.run.config, trained.run.schema, trained.run.model.layout
    files = files_of(config, schema, "test")
    for number in range(7):
        shutil.copy(files[0], tmp_path / f"part-{number}")
    (tmp_path / "part-9").write_bytes(b"x" * 100)
    config = config.model_copy(
        update={
            "test_data_path": f"{tmp_path}/part-*",
            "test_data_start": None,
            "test_data_end": None,
        }
    )
    check = FileCheck(schema, report=lambda line: None)
    recorded = recorded_inputs(config, schema, layout, check)
    assert recorded.source == "200 samples of the test split"
