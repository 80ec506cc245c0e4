"""Setting up a run: what is refused before anything is written, and what is written then."""

import json
import pathlib
import re
import shutil

import pytest
import tensorflow as tf

from diffumin_tf import devices
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.devices import with_defaults
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.run import folder as run_folder
from diffumin_tf.run.find import find_experiment
from diffumin_tf.run.open import create_run
from tests.small_log import SCHEMA, write_experiment

PLAIN = ["use_omie=false", "subseq_len=0", "activation=relu"]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """An experiment that tests leave as it is."""
    return write_experiment(tmp_path_factory.mktemp("log"), per_day=8)


@pytest.fixture
def exp(log, tmp_path):
    """A copy that a test may spoil."""
    shutil.copytree(log.parent, tmp_path, dirs_exist_ok=True)
    config = json.loads((log / "task_conf.json").read_text())
    config["train_data_path"] = str(tmp_path / "data")
    (tmp_path / "exp" / "task_conf.json").write_text(json.dumps(config))
    return tmp_path / "exp"


def create(exp, model_dir, *overrides):
    return create_run(str(exp), model_dir and str(model_dir), overrides, lambda line: None)


def refusal(error, exp, folder, *overrides):
    """The message of a refusal before anything is written."""
    with pytest.raises(error) as raised:
        create(exp, folder / "refused", *overrides)
    assert not (folder / "refused").exists()
    return str(raised.value)


def test_a_folder_holds_the_resolved_configuration_the_schema_and_the_vocabulary(trained):
    written = json.loads((trained.model_dir / "config.json").read_text())
    assert with_defaults(TaskConfig.model_validate(written)) == trained.run.config
    # Whoever reads it may have other devices.
    assert all(written[k] is None for k in ("jit_compile", "parallel_parts", "length_buckets"))
    assert (written["seq_len"], written["epoch"], written["deep_layers"]) == (10, 1, [8])
    assert "booster_mode" not in written
    assert json.loads((trained.model_dir / "data_struct.json").read_text()) == SCHEMA
    assert (trained.model_dir / "vocabulary.txt").exists()


def test_a_new_run_tells_what_it_found(trained):
    assert trained.lines[0] == "ignored keys of the original's engine: booster_mode"
    assert trained.lines[1].startswith(("no GPU: ", "1 GPU: "))
    assert [line.partition(":")[0] for line in trained.lines[2:5]] == ["train", "valid", "test"]
    assert "4 files" in trained.lines[2] and "20240102/part-00001" in trained.lines[2]
    assert trained.lines[5].startswith("vocabulary: ") and "2 times or more" in trained.lines[5]


def test_a_run_of_an_earlier_version_goes_on_on_any_device(monkeypatch, tmp_path):
    earlier = {"input_units": ["module:Unit"], "jit_compile": False, "parallel_parts": 2}
    (tmp_path / "config.json").write_text(json.dumps(earlier))
    config = TaskConfig.model_validate({"input_units": ["module:Unit"]})
    monkeypatch.setattr(devices, "gpus", lambda: 0)
    assert run_folder.changes(str(tmp_path), config) == []
    monkeypatch.setattr(devices, "gpus", lambda: 1)
    assert run_folder.changes(str(tmp_path), config) == [
        "parallel_parts was 2, is 1 from here on",
        "jit_compile was False, is True from here on",
    ]


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        (
            "train_data_end=20240103",
            ConfigError,
            "the train and valid splits share 2 files .*set train_data_st",
        ),
        ("valid_data_end=null", ConfigError, "the valid and test splits share 2 files"),
        ("user_column=usr_id", ConfigError, "'usr_id': no such column .*did you mean 'user_id'"),
        ("channel_num=99", ConfigError, "channel_num is 99 but 2 behaviour fields"),
        ("train_data_start=20250101", DataError, "train_data_path: .*20240101 to 20240104"),
        ("test_data_path=/nowhere", DataError, "test_data_path: '/nowhere' is no folder"),
        ("pretrain_model_dir=/nowhere", ConfigError, "'/nowhere': no run .config.json is missing"),
    ],
)
def test_what_would_spoil_a_run_is_refused_before_anything_is_written(
    log, tmp_path, override, error, message
):
    overrides = [override]
    if override.startswith("train_data_start"):
        overrides.append("train_data_end=20250102")
    assert re.search(message, refusal(error, log, tmp_path, *overrides))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dense_feature": {"column": ["price", "age"]}}, "key 'dense_feature' has 1 float_list"),
        ({"cat_feature": {"column": ["user", "item", "category", "hour"]}}, "has 8 int64_list"),
    ],
)
def test_a_schema_that_does_not_fit_the_records_is_refused(exp, tmp_path, change, message):
    (exp / "data_struct.json").write_text(json.dumps({**SCHEMA, **change}))
    said = refusal(DataError, exp, tmp_path)
    assert "part-00000: record 0: " in said and message in said
    assert f"{exp}/data_struct.json wants" in said


def test_a_schema_other_than_that_of_the_records_is_refused(exp, tmp_path):
    swapped = json.loads((exp / "data_struct.json").read_text())
    columns = swapped["cat_feature"]["column"]
    columns[0], columns[1] = columns[1], columns[0]
    (tmp_path / "data" / "data_struct.json").write_text(json.dumps(swapped))
    message = refusal(ConfigError, exp, tmp_path)
    assert "cat_feature differs from " in message and "data/data_struct.json" in message


def test_a_missing_schema_says_where_it_was_looked_for(exp, tmp_path):
    (exp / "data_struct.json").rename(tmp_path / "data" / "data_struct.json")
    create(exp, tmp_path / "beside_the_records")
    (tmp_path / "data" / "data_struct.json").unlink()
    message = refusal(ConfigError, exp, tmp_path)
    assert f"{exp}/data_struct.json nor {tmp_path}/data/data_struct.json" in message


def test_empty_or_damaged_test_records_are_refused(exp, tmp_path):
    day = tmp_path / "data" / "20240104"
    for part in day.iterdir():
        part.write_bytes(b"")
    assert "no record in 2 files" in refusal(DataError, exp, tmp_path)
    (day / "part-00000").write_bytes(b"x" * 100)
    assert "part-00000: " in refusal(DataError, exp, tmp_path)


def test_a_vocabulary_that_is_given_becomes_part_of_the_run(log, tmp_path):
    path = tmp_path / "v.txt"
    overrides = [*PLAIN, "embedding.kind=vocabulary", f"embedding.path={path}"]
    with pytest.raises(ConfigError, match=f"embedding.path: {path}: no vocabulary"):
        create(log, tmp_path / "gone", *overrides)
    assert not (tmp_path / "gone" / "config.json").exists()
    path.write_text("12\nabc\n")
    with pytest.raises(ConfigError, match="no vocabulary"):
        create(log, tmp_path / "damaged", *overrides)
    assert not (tmp_path / "damaged").exists()
    path.write_text("105\n110\n")
    run = create(log, tmp_path / "good", *overrides)
    path.unlink()
    assert (tmp_path / "good" / "vocabulary.txt").read_text() == "105\n110\n"
    assert run.model.embedding.rows == 3


def test_the_folder_of_a_run_may_stand_in_the_configuration(log, tmp_path):
    assert create(log, None, *PLAIN, f"model_path={tmp_path}/m").model_dir == f"{tmp_path}/m"
    with pytest.raises(ConfigError, match="give --model_dir or set model_path"):
        create(log, None)


def test_a_folder_of_a_run_that_never_saved_may_be_used_again(log, tmp_path):
    for seed in range(2):
        create(log, tmp_path / "model", *PLAIN, f"seed={seed}")


def test_an_experiment_is_found_by_its_path_or_its_name(exp, tmp_path, monkeypatch):
    assert find_experiment(str(exp)) == str(exp)
    monkeypatch.chdir(tmp_path)
    shipped = pathlib.Path(find_experiment("Eleme_DiffuMIN"))
    assert (shipped / "data_struct.json").exists() and shipped.name == "Eleme_DiffuMIN"
    shutil.copytree(exp, tmp_path / "exp" / "user1" / "mine")
    assert find_experiment("mine") == "./exp/user1/mine"
    with pytest.raises(ConfigError, match="--exp 'Elem': no task_conf.json in Elem, .*user1/Elem"):
        find_experiment("Elem")


def test_a_glob_keeps_the_days_of_each_split_apart(exp, tmp_path):
    lines = []
    data = f"{tmp_path}/data/*/part-*"
    create_run(str(exp), str(tmp_path / "run"), [f"train_data_path={data}"], lines.append)
    days = {"train": (1, 2), "valid": (3, 3), "test": (4, 4)}
    for split, (first, last) in days.items():
        (line,) = (line for line in lines if line.startswith(f"{split}: "))
        assert f"{tmp_path}/data/2024010{first}/part-00000 … " in line
        assert line.endswith(f"{tmp_path}/data/2024010{last}/part-00001")


def test_what_looks_like_a_mistake_in_the_first_records_is_said_of_each_split(exp, tmp_path):
    lines = []
    for day in (tmp_path / "data").iterdir():
        for file in day.glob("part-*"):
            samples = [
                tf.train.Example.FromString(sample)
                for sample in tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
            ]
            with tf.io.TFRecordWriter(str(file)) as writer:
                for sample in samples:
                    sample.features.feature["item_list"].Clear()
                    writer.write(sample.SerializeToString())
    create_run(str(exp), str(tmp_path / "run"), [], lines.append)
    assert [line.split(":")[0] for line in lines if "key 'item_list' is empty in" in line] == [
        "train",
        "valid",
        "test",
    ]
