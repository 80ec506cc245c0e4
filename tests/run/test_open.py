"""An open run: its scores and metrics."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.input import splits
from diffumin_tf.run.open import Run, create_run, open_run


def test_metrics_are_those_of_the_scores(trained):
    written = json.loads((trained.model_dir / "metrics.json").read_text())
    assert written == trained.metrics and list(written) == ["valid", "test"]
    for split, entry in written.items():
        assert set(entry) == {"auc", "gauc", "logloss", "calibration", "examples"}
        assert entry["examples"] == 160
        assert entry == trained.run.score(split).metrics()


def test_an_opened_run_scores_as_it_did_after_training(trained):
    before, after = trained.run.score("test"), open_run(str(trained.model_dir)).score("test")
    for name in ("pctr", "labels", "users"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert before.pctr.std() > 1e-3
    assert (trained.run.score("valid").users != before.users).any()
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_an_opened_run_takes_overrides_and_keeps_other_entries_of_its_metrics(trained, tmp_path):
    shutil.copytree(trained.model_dir, tmp_path / "model")
    metrics = tmp_path / "model" / "metrics.json"
    metrics.write_text(json.dumps({"test": {"auc": 0}, "no_history_auc": 0.5}))
    run = open_run(str(tmp_path / "model"), ["test_data_start=20240103"])
    run.evaluate(["test"])
    written = json.loads(metrics.read_text())
    assert written["no_history_auc"] == 0.5 and written["test"]["examples"] == 320


def test_without_best_weights_the_latest_serve(trained, tmp_path):
    model_dir = tmp_path / "model"
    shutil.copytree(trained.model_dir, model_dir)
    shutil.rmtree(model_dir / "best")
    auc = open_run(str(model_dir)).evaluate(["test"], write=False)["test"]["auc"]
    assert auc == trained.metrics["test"]["auc"]
    shutil.rmtree(model_dir / "checkpoints")
    with pytest.raises(DataError, match="no checkpoint in best or checkpoints"):
        open_run(str(model_dir))


def test_what_is_no_trained_run_of_this_configuration_cannot_be_opened(trained, tmp_path):
    with pytest.raises(ConfigError, match="no trained run .config.json is missing"):
        open_run(str(tmp_path))
    with pytest.raises(DataError, match="best/ckpt-10: does not fit .*config.json"):
        open_run(str(trained.model_dir), ["deep_layers=[5]"])


def test_best_weights_of_an_earlier_version_are_refused_with_the_remedy(trained, tmp_path):
    model_dir = tmp_path / "model"
    shutil.copytree(trained.model_dir, model_dir)
    numbered = tf.train.Checkpoint(weights=trained.run.model.variables)
    numbered.write(str(model_dir / "best" / "ckpt-10"))
    with pytest.raises(DataError, match="numbered the weights; remove .*model/best to take"):
        open_run(str(model_dir))
    with pytest.raises(DataError, match="numbered the weights"):  # before it goes on to its end
        create_run(str(trained.exp), str(model_dir), report=lambda line: None)


def test_a_split_that_is_not_configured_cannot_be_scored(trained, tmp_path):
    changes = {"valid_data_start": None, "valid_data_end": None}
    config = trained.run.config.model_copy(update=changes)
    run = Run(config, trained.run.schema, str(trained.model_dir))
    with pytest.raises(DataError, match="the valid split is not configured: set valid_data_start"):
        run.score("valid")


def test_a_manifest_tells_how_many_samples_an_epoch_has(trained, tmp_path):
    files = [f"{tmp_path}/2024010{day}/part-0" for day in (1, 2)]
    config = trained.run.config.model_copy(update={"train_data_path": str(tmp_path)})
    assert splits.count_examples(config, files) is None
    days = {f"2024010{day}": {"examples": 10**day} for day in (1, 2, 3)}
    (tmp_path / "manifest.json").write_text(json.dumps({"days": days}))
    assert splits.count_examples(config, files) == 110
