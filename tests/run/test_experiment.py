"""A run from creation to export: what it writes, what it refuses, and that it can be repeated."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.files import write_text
from diffumin_tf.input import splits
from diffumin_tf.run.find import find_experiment
from diffumin_tf.run.open import Run, create_run, open_run
from diffumin_tf.run.train import train_run
from tests.small_log import SCHEMA, write_experiment

# Without history, training traces in a second.
PLAIN = ["use_omie=false", "subseq_len=0", "activation=relu", "lazyAdam_learning_rate=0.01"]


def silent(line):
    """Takes a line of progress."""


def create(exp, model_dir, *overrides):
    return create_run(str(exp), str(model_dir), overrides, report=silent)


def test_a_run_trains_and_tells_how_it_went(trained):
    assert trained.result.steps == trained.result.best_step == 10
    assert trained.result.best_auc == trained.metrics["valid"]["auc"]
    assert trained.lines[0] == "ignored keys of the original's engine: booster_mode"
    assert [line.partition(":")[0] for line in trained.lines[1:4]] == ["train", "valid", "test"]
    assert "4 files" in trained.lines[1] and "20240102/part-00001" in trained.lines[1]
    assert trained.lines[4].startswith("vocabulary: ") and "2 times or more" in trained.lines[4]
    assert any("diffusion_loss" in line and "samples/s" in line for line in trained.lines)
    assert any("validation auc" in line for line in trained.lines)


def test_a_run_leaves_what_later_commands_need(trained):
    assert set(os.listdir(trained.model_dir)) == {
        "best",
        "checkpoints",
        "config.json",
        "data_struct.json",
        "export",
        "logs",
        "metrics.json",
        "vocabulary.txt",
        "vocabulary_pending.npy",
    }
    assert trained.export.parent == trained.model_dir / "export" and trained.export.name.isdigit()
    assert json.loads((trained.model_dir / "data_struct.json").read_text()) == SCHEMA


def test_the_configuration_is_written_as_resolved(trained):
    written = json.loads((trained.model_dir / "config.json").read_text())
    assert written == json.loads(trained.run.config.model_dump_json())
    assert (written["seq_len"], written["epoch"], written["deep_layers"]) == (10, 1, [8])
    assert "booster_mode" not in written


def test_metrics_are_those_of_the_scores(trained):
    written = json.loads((trained.model_dir / "metrics.json").read_text())
    assert written == trained.metrics and list(written) == ["valid", "test"]
    for split, entry in written.items():
        assert set(entry) == {"auc", "gauc", "logloss", "calibration", "examples"}
        assert entry["examples"] == 160
        assert entry == trained.run.score(split).metrics()


def test_evaluating_one_split_keeps_the_other_entries(trained, tmp_path):
    shutil.copytree(trained.model_dir, tmp_path / "model")
    metrics = tmp_path / "model" / "metrics.json"
    metrics.write_text(json.dumps({"test": {"auc": 0}, "no_history_auc": 0.5}))
    open_run(str(tmp_path / "model")).evaluate(["test"])
    written = json.loads(metrics.read_text())
    assert written == {"test": trained.metrics["test"], "no_history_auc": 0.5}


def test_an_opened_run_scores_as_it_did_after_training(trained):
    before = trained.run.score("test")
    after = open_run(str(trained.model_dir)).score("test")
    np.testing.assert_array_equal(after.pctr, before.pctr)
    np.testing.assert_array_equal(after.labels, before.labels)
    np.testing.assert_array_equal(after.users, before.users)
    assert before.pctr.std() > 1e-3


def test_an_opened_run_takes_overrides_of_the_data(trained):
    opened = open_run(str(trained.model_dir), ["test_data_start=20240103"])
    assert len(opened.score("test").labels) == 320


def test_products_are_those_of_float32_on_any_device(trained):
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_the_same_seed_gives_the_same_bits(trained, tmp_path):
    again = create(trained.exp, tmp_path / "again")
    train_run(again, silent)
    for weight, other in zip(
        again.model.get_weights(), trained.run.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(weight, other)
    assert again.evaluate(["valid", "test"]) == trained.metrics


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run without history."""
    folder = tmp_path_factory.mktemp("plain")
    exp = write_experiment(folder)
    experiment = create(exp, folder / "model", *PLAIN)
    train_run(experiment, silent)
    return exp, experiment


def test_another_seed_gives_other_scores(plain, tmp_path):
    exp, experiment = plain
    other = create(exp, tmp_path / "other", *PLAIN, "seed=2")
    train_run(other, silent)
    assert other.evaluate(["test"]) != experiment.evaluate(["test"])


def test_the_days_of_a_split_alone_are_scored(plain):
    _, experiment = plain
    valid, test = experiment.score("valid"), experiment.score("test")
    assert len(valid.labels) == len(test.labels) == 160
    assert (valid.users != test.users).any()


def test_a_folder_that_holds_a_run_takes_no_other_one(plain):
    exp, experiment = plain
    with pytest.raises(
        ConfigError, match="model: holds a run with other settings: .*seed 1 .now 2.*"
    ):
        create(exp, experiment.model_dir, *PLAIN, "seed=2")


def test_a_run_that_is_done_is_continued_with_more_epochs_and_says_so(plain, tmp_path):
    exp, experiment = plain
    shutil.copytree(experiment.model_dir, tmp_path / "model")
    lines = []
    arguments = str(exp), str(tmp_path / "model"), [*PLAIN, "epoch=2"]
    again = create_run(*arguments, report=lines.append)
    assert "epoch was 1, is 2 from here on" in lines
    assert train_run(again, lines.append).steps == 20
    assert "going on from step 10, epoch 1" in lines


def test_the_folder_of_a_run_may_stand_in_the_configuration(plain, tmp_path):
    exp, _ = plain
    overrides = [*PLAIN, f"model_path={tmp_path}/m"]
    assert create_run(str(exp), None, overrides, report=silent).model_dir == f"{tmp_path}/m"
    with pytest.raises(ConfigError, match="give --model_dir or set model_path"):
        create_run(str(exp), None, report=silent)


def refused(error, exp, folder, *overrides):
    """The message of a refusal that leaves no run behind, and whether it left a folder."""
    with pytest.raises(error) as raised:
        create(exp, folder / "refused", *overrides)
    assert not (folder / "refused" / "config.json").exists()
    return str(raised.value), (folder / "refused").exists()


def test_a_missing_schema_says_where_it_was_looked_for(tmp_path):
    exp = write_experiment(tmp_path)
    (exp / "data_struct.json").rename(tmp_path / "data" / "data_struct.json")
    create(exp, tmp_path / "beside_the_records")
    (tmp_path / "data" / "data_struct.json").unlink()
    message, exists = refused(ConfigError, exp, tmp_path)
    assert message == (
        f"no schema: neither {exp}/data_struct.json nor {tmp_path}/data/data_struct.json is there"
    )
    assert not exists


def test_a_missing_vocabulary_is_named(plain, tmp_path):
    exp, _ = plain
    changes = ["embedding.kind=vocabulary", f"embedding.path={tmp_path}/gone.txt"]
    message, _ = refused(ConfigError, exp, tmp_path, *changes)
    assert message.startswith(f"embedding.path '{tmp_path}/gone.txt': cannot be read")


def test_a_damaged_vocabulary_is_named(plain, tmp_path):
    exp, _ = plain
    (tmp_path / "v.txt").write_text("12\nabc\n")
    changes = ["embedding.kind=vocabulary", f"embedding.path={tmp_path}/v.txt"]
    with pytest.raises(ConfigError, match="no vocabulary"):
        create(exp, tmp_path / "m", *changes)


def test_a_given_vocabulary_becomes_part_of_the_run(trained, tmp_path):
    vocabulary = tmp_path / "v.txt"
    vocabulary.write_text("105\n110\n")
    run = create(trained.exp, tmp_path / "m", f"embedding.path={vocabulary}", *PLAIN)
    vocabulary.unlink()
    assert (tmp_path / "m" / "vocabulary.txt").read_text() == "105\n110\n"
    assert run.model.embedding.rows == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dense_feature": {"column": ["price", "age"]}}, "key 'dense_feature' has 1 float_list"),
        ({"cat_feature": {"column": ["user", "item", "category", "hour"]}}, "has 8 int64_list"),
    ],
)
def test_a_schema_that_does_not_fit_shows_before_anything_is_written(tmp_path, change, message):
    exp = write_experiment(tmp_path)
    (exp / "data_struct.json").write_text(json.dumps({**SCHEMA, **change}))
    said, exists = refused(DataError, exp, tmp_path)
    assert "part-00000: record 0: " in said and message in said
    assert f"{exp}/data_struct.json wants" in said and not exists


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_days_without_records_show_before_anything_is_written(plain, tmp_path, split):
    exp, _ = plain
    days = [f"{split}_data_start=20250101", f"{split}_data_end=20250102"]
    said, exists = refused(DataError, exp, tmp_path, *days)
    assert said.startswith(f"{split}_data_path: ") and "20240101 to 20240104" in said
    assert not exists


def test_empty_or_damaged_test_records_show_before_anything_is_written(tmp_path):
    exp = write_experiment(tmp_path)
    day = tmp_path / "data" / "20240104"
    for part in day.iterdir():
        part.write_bytes(b"")
    said, exists = refused(DataError, exp, tmp_path)
    assert "no record in 2 files" in said and not exists
    (day / "part-00000").write_bytes(b"x" * 100)
    said, exists = refused(DataError, exp, tmp_path)
    assert "part-00000: torn or damaged after 0 records" in said and not exists


def test_a_record_damaged_later_on_is_named_while_training(tmp_path):
    exp = write_experiment(tmp_path)
    part = tmp_path / "data" / "20240102" / "part-00001"
    os.truncate(part, part.stat().st_size - 10)
    with pytest.raises(DataError, match="20240102/part-00001: torn or damaged after 79 records"):
        train_run(create(exp, tmp_path / "m", *PLAIN), silent)


def test_a_unit_that_does_not_fit_its_features_leaves_the_folder_free(plain, tmp_path):
    exp, _ = plain
    said, _ = refused(ConfigError, exp, tmp_path, "channel_num=9")
    assert "channel_num is 9" in said
    assert create(exp, tmp_path / "refused", *PLAIN).config.channel_num == 2


def test_a_split_that_is_not_configured_cannot_be_scored(plain, tmp_path):
    _, experiment = plain
    changed = experiment.config.model_copy(
        update={"valid_data_start": None, "valid_data_end": None}
    )
    other = Run(changed, experiment.schema, str(tmp_path))
    with pytest.raises(DataError, match="the valid split is not configured: set valid_data_start"):
        other.score("valid")


def test_a_folder_without_a_trained_run_cannot_be_opened(plain, tmp_path):
    exp, _ = plain
    with pytest.raises(ConfigError, match="no trained run .config.json is missing"):
        open_run(str(tmp_path))
    create(exp, tmp_path / "untrained", *PLAIN)
    with pytest.raises(DataError, match="no checkpoint in best or checkpoints"):
        open_run(str(tmp_path / "untrained"))


def test_weights_of_another_configuration_are_not_loaded(plain):
    _, experiment = plain
    with pytest.raises(DataError, match="best/ckpt-10: does not fit .*config.json"):
        open_run(experiment.model_dir, ["deep_layers=[5]"])


def test_a_manifest_tells_how_many_samples_an_epoch_has(plain, tmp_path):
    exp, experiment = plain
    files = [f"{tmp_path}/2024010{day}/part-0" for day in (1, 2)]
    config = experiment.config.model_copy(update={"train_data_path": str(tmp_path)})
    assert splits.count_examples(config, files) is None
    days = {f"2024010{day}": {"examples": 10**day} for day in (1, 2, 3)}
    write_text(f"{tmp_path}/manifest.json", json.dumps({"days": days}))
    assert splits.count_examples(config, files) == 110


def test_an_experiment_is_found_by_its_path_or_its_name(tmp_path, monkeypatch):
    exp = write_experiment(tmp_path)
    assert find_experiment(str(exp)) == str(exp)
    monkeypatch.chdir(tmp_path)
    shipped = pathlib.Path(find_experiment("Eleme_DiffuMIN"))
    assert (shipped / "data_struct.json").exists() and shipped.name == "Eleme_DiffuMIN"
    shutil.copytree(exp, tmp_path / "exp" / "user1" / "mine")
    assert find_experiment("mine") == "./exp/user1/mine"


def test_an_experiment_that_is_not_there_says_where_it_was_looked_for():
    with pytest.raises(ConfigError, match="--exp 'Elem': no task_conf.json in Elem, .*user1/Elem"):
        find_experiment("Elem")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train_data_end=20240103", "the train and valid splits share 2 files .*set train_data_st"),
        ("valid_data_end=null", "the valid and test splits share 2 files"),
        ("user_column=usr_id", "user_column 'usr_id': no such column .*did you mean 'user_id'"),
        ("channel_num=99", "channel_num is 99 but 2 behaviour fields"),
    ],
)
def test_what_would_spoil_a_run_is_refused_before_anything_is_written(tmp_path, override, message):
    exp = write_experiment(tmp_path, per_day=8)
    with pytest.raises(ConfigError, match=message):
        create_run(str(exp), str(tmp_path / "model"), [override], report=lambda line: None)
    assert not (tmp_path / "model").exists()


def test_a_schema_other_than_that_of_the_records_is_refused(tmp_path):
    exp = write_experiment(tmp_path, per_day=8)
    swapped = json.loads((exp / "data_struct.json").read_text())
    columns = swapped["cat_feature"]["column"]
    columns[0], columns[1] = columns[1], columns[0]
    (tmp_path / "data" / "data_struct.json").write_text(json.dumps(swapped))
    with pytest.raises(ConfigError, match="cat_feature differs from .*data/data_struct.json"):
        create_run(str(exp), str(tmp_path / "model"), report=lambda line: None)


def test_a_run_without_a_best_checkpoint_is_opened_from_its_latest(trained, tmp_path):
    model_dir = tmp_path / "model"
    shutil.copytree(trained.model_dir, model_dir)
    shutil.rmtree(model_dir / "best")
    auc = open_run(str(model_dir)).evaluate(["test"], write=False)["test"]["auc"]
    assert auc is not None and auc > 0.5
    shutil.rmtree(model_dir / "checkpoints")
    with pytest.raises(DataError, match="no checkpoint in best or checkpoints"):
        open_run(str(model_dir))


def test_a_folder_of_a_run_that_never_saved_may_be_used_again(tmp_path):
    exp = write_experiment(tmp_path, per_day=8, use_omie=False, subseq_len=0)
    for _ in range(2):
        create_run(str(exp), str(tmp_path / "model"), report=lambda line: None)
