"""Records of several impressions give every command what records of one give."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.comparison import slices
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.export.inputs import recorded_inputs
from diffumin_tf.input.records import encode
from diffumin_tf.run import daily
from diffumin_tf.run.open import create_run, open_run
from diffumin_tf.run.train import train_run
from tests.input.expand import expand_all
from tests.input.grouped import GROUPED_SCHEMA as SCHEMA
from tests.input.grouped import grouped_samples
from tests.small_log import CONFIG, write_experiment

SIZES = [(1, 0), (5, 0), (7, 20), (3, 12), (1, 40), (9, 3), (4, 300), (30, 60), (2, 9)] * 2
# What is looked up in a history, and no more than that.
LEAN = {"use_dmig": False, "use_cmic": False, "activation": "relu", "deep_layers": [4]}
FEATURES = CONFIG["features"] | {
    "user": ["user", "city", "tags"],
    "candidate": ["item", "category", "genres"],
    "dense": ["price", "age"],
}


def rewritten(data, folder, change):
    """The days of `data`, each file of them changed."""
    for file in data.glob("*/part-*"):
        records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
        path = folder / file.parent.name / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in change(list(records)):
                writer.write(record)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The experiment, its records of several impressions, and the same as records of one."""
    folder = tmp_path_factory.mktemp("grouped")
    exp = write_experiment(
        folder,
        schema=SCHEMA.to_dict(),
        samples=lambda count, seed: grouped_samples(SIZES, seed),
        features=FEATURES,
        embedding={"kind": "vocabulary", "min_count": 2},
        max_bad_records=0,
        **LEAN,
    )
    one = rewritten(folder / "data", folder / "one", lambda found: expand_all(SCHEMA, found))
    return exp, folder / "data", one


@pytest.fixture(scope="module")
def runs(data, eager, tmp_path_factory):
    """One model, opened with the records of several impressions, and with those of one."""
    exp, grouped, one = data
    model_dir = str(tmp_path_factory.mktemp("model"))
    run = create_run(str(exp), model_dir, [f"train_data_path={one}"], lambda line: None)
    train_run(run, lambda line: None)
    return [open_run(model_dir, [f"train_data_path={path}"]) for path in (grouped, one)]


def test_metrics_scores_and_missing_rows_are_the_same(runs):
    grouped, one = (run.score("test") for run in runs)
    np.testing.assert_array_equal(grouped.labels, one.labels)
    np.testing.assert_array_equal(grouped.users, one.users)
    np.testing.assert_allclose(grouped.pctr, one.pctr, rtol=2e-6)
    assert len(one.labels) == sum(count for count, _ in SIZES)
    assert len({run.rows_missing("test") for run in runs}) == 1


def without_labels(records):
    for record in records:
        example = tf.train.Example.FromString(record)
        del example.features.feature["label"]
        yield example.SerializeToString()


@pytest.mark.parametrize("change", [list, without_labels])
def test_predictions_come_impression_by_impression_with_the_columns_of_each(runs, tmp_path, change):
    keys = ["auxiliary_info", "item_list", "genres", "tags", "dense_feature"]
    lines = []
    for name, run in zip(("grouped", "one"), runs, strict=True):
        path = rewritten_of(run, tmp_path / name, change)
        changed = open_run(run.model_dir, [f"train_data_path={path}"])
        changed.predict("test", str(tmp_path / f"{name}.out"), user=True, passthrough=keys)
        text = (tmp_path / f"{name}.out" / "part-00000").read_text()
        lines.append([line.split("\t") for line in text.splitlines()])
    grouped, one = lines
    assert [line[1:] for line in grouped] == [line[1:] for line in one]
    pctr = [[float(line[0]) for line in part[1:]] for part in lines]
    np.testing.assert_allclose(*pctr, rtol=2e-6)
    assert len(one) == 1 + sum(count for count, _ in SIZES)


def rewritten_of(run, folder, change):
    return rewritten(pathlib.Path(run.config.train_data_path), folder, change)


def test_a_label_in_some_groups_alone_is_an_error_that_names_the_record(runs, tmp_path):
    def some(records):
        return [*without_labels(records[:5]), *records[5:]]

    path = rewritten_of(runs[0], tmp_path / "some", some)
    run = open_run(runs[0].model_dir, [f"train_data_path={path}"])
    with pytest.raises(DataError, match="record 5 of the split: key 'label' is here, but not in"):
        run.predict("test", str(tmp_path / "out"))


def test_slices_are_the_same(runs):
    found = [slices.read_facts(run.config, SCHEMA, "test", "item") for run in runs]
    for kind in ("history", "popularity"):
        np.testing.assert_array_equal(found[0][kind], found[1][kind])
    assert {0, 12} < {*found[0]["history"]}


def test_an_export_is_warmed_up_and_checked_with_impressions(runs):
    grouped, one = (
        recorded_inputs(run.config, run.schema, run.model.layout, run.file_check) for run in runs
    )
    parse = tf.train.Example.FromString
    assert [*map(parse, grouped.samples)] == [*map(parse, one.samples)]
    assert len(one.samples) > 100 and grouped.source == one.source
    lines = []
    export = runs[0].export(check=True, report=lines.append)
    assert any(line.startswith("checked") for line in lines)

    score = tf.saved_model.load(export).signatures["examples"]
    of_one, of_two = encode(SCHEMA, grouped_samples([(1, 9), (2, 9)]))
    asked = [tf.constant([record]) for record in (of_one, *expand_all(SCHEMA, [of_one]))]
    grouped, one = (score(inputs=records)["outputs"].numpy() for records in asked)
    np.testing.assert_array_equal(grouped, one)
    with pytest.raises(tf.errors.InvalidArgumentError, match="newer"):
        score(inputs=tf.constant([of_two]))


@pytest.fixture
def bare(data, tmp_path):
    """An experiment without `stored_once`, which the schema beside the records has; its start."""
    exp = pathlib.Path(shutil.copytree(data[0], tmp_path / "exp"))
    path = pathlib.Path(shutil.copytree(data[1], tmp_path / "data"))
    content = SCHEMA.to_dict()
    (path / "data_struct.json").write_text(json.dumps(content))
    del content["stored_once"]
    (exp / "data_struct.json").write_text(json.dumps(content))

    def create(report=lambda line: None):
        overrides = [f"train_data_path={path}"]
        return create_run(str(exp), str(tmp_path / "model"), overrides, report)

    return exp, path, create


def test_what_is_stored_once_is_taken_from_beside_the_records(bare, runs, tmp_path):
    (exp, path, create), lines = bare, []
    run = create(lines.append)
    said = f"{exp}/data_struct.json: stored_once is that of {path}/data_struct.json: "
    assert said + ", ".join(SCHEMA.stored_once) in lines
    assert run.schema.stored_once == SCHEMA.stored_once
    assert not [line for line in lines if "record " in line]  # nothing looks like a mistake
    vocabularies = [pathlib.Path(r.model_dir, "vocabulary.txt") for r in (run, runs[0])]
    assert len({file.read_bytes() for file in vocabularies}) == 1
    older = shutil.copytree(runs[0].model_dir, tmp_path / "older")
    shutil.copy(exp / "data_struct.json", older)
    score = open_run(str(older), [f"train_data_path={path}"]).score("test")
    np.testing.assert_array_equal(score.pctr, runs[0].score("test").pctr)


def test_schemas_that_differ_are_refused_and_one_that_is_missing_is_missed(bare):
    (exp, path, create), lines = bare, []
    other = SCHEMA.to_dict() | {"dense_feature": {"column": ["age"]}}
    (path / "data_struct.json").write_text(json.dumps(other))
    with pytest.raises(ConfigError, match="dense_feature differs from .*/data_struct.json"):
        create()
    (path / "data_struct.json").unlink()
    message = "record 1: key 'auxiliary_info' has .*; are the columns .* in \"stored_once\", as"
    with pytest.raises(DataError, match=message):
        create()
    (exp / "data_struct.json").write_text(json.dumps(SCHEMA.to_dict()))
    create(lines.append)
    believed = [line for line in lines if "believed to be the stored_once of" in line]
    assert [line.partition(":")[0] for line in believed] == ["train", "valid", "test"]


def test_days_are_scored_and_learned_from(data, eager, tmp_path):
    """What the model of the day before makes of a day is what it makes of it one by one."""
    exp, grouped, one = data
    folder, lines = str(tmp_path / "days"), []
    settings = ["use_omie=false", "subseq_len=0"]
    while daily.next_day(str(exp), folder, 20240101, 20240102, settings, lines.append):
        pass
    noted = json.loads((tmp_path / "days" / "daily.json").read_text())["20240102"]
    days = ["test_data_start=20240102", "test_data_end=20240102", f"train_data_path={one}"]
    score = open_run(noted["model_before"], days).score("test").metrics()
    assert noted["metrics_before"] == pytest.approx(score, rel=1e-5)
    assert score["examples"] == sum(count for count, _ in SIZES)
