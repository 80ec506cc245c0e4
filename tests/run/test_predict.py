"""Predictions of records without labels, with columns of a person's own."""

import json

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.files import staged_directory
from diffumin_tf.run.open import open_run


@pytest.fixture
def predicted(trained, eager, tmp_path):
    """Rewrites the test records one by one, predicts them, and gives the lines as cells."""
    files = sorted((trained.exp.parent / "data" / "20240104").iterdir())
    day = tmp_path / "20240104"
    day.mkdir()

    def predict(change=lambda number, feature: None, settings=(), **how):
        number = 0
        for file in files:
            with tf.io.TFRecordWriter(str(day / file.name)) as writer:
                for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
                    example = tf.train.Example.FromString(record)
                    change(number, example.features.feature)
                    writer.write(example.SerializeToString())
                    number += 1
        run = open_run(str(trained.model_dir), [f"test_data_path={tmp_path}", *settings])
        assert run.predict("test", str(tmp_path / "out"), **how) == (160, 1)
        text = (tmp_path / "out" / "part-00000").read_bytes().decode()
        return [line.split("\t") for line in text.removesuffix("\n").split("\n")]

    return predict


def without_label(number, feature):
    del feature["label"]


def test_records_without_a_label_are_scored_as_those_with_one(trained, predicted):
    header, *lines = predicted(without_label, header=True, user=True)
    scores = trained.run.score("test")
    assert header == ["prediction", "user"]
    np.testing.assert_allclose([float(pctr) for pctr, _ in lines], scores.pctr, rtol=1e-6)
    np.testing.assert_array_equal([int(user) for _, user in lines], scores.users)


def test_the_columns_for_measuring_may_be_absent_too(predicted):
    def bare(number, feature):
        del feature["label"], feature["auxiliary_info"]

    with pytest.raises(DataError, match="--user: the records have no column user_column"):
        predicted(bare, user=True)
    assert all(len(line) == 1 for line in predicted(bare))


def test_labels_in_some_records_only_are_an_error_that_names_one(predicted, tmp_path):
    def but_one(number, feature):
        if number != 90:
            without_label(number, feature)

    message = "record 90 of the split: key 'label' is here, but not in the first record; .* in none"
    with pytest.raises(DataError, match=message):
        predicted(but_one)
    with pytest.raises(DataError, match="part-00001: record 10: key 'label' is missing"):
        predicted(lambda number, feature: number == 90 and without_label(number, feature))
    assert not (tmp_path / "out").exists()


def test_metrics_of_records_without_a_label_are_refused(trained, predicted, tmp_path):
    predicted(without_label)
    run = open_run(str(trained.model_dir), [f"test_data_path={tmp_path}"])
    message = "part-00000: record 0: key 'label' is missing; training and metrics need a label"
    with pytest.raises(DataError, match=message):
        run.evaluate(["test"])


def test_keys_of_ones_own_become_columns_whatever_they_hold(predicted):
    values = {
        "request_id": (b'"a\tb\n\\ \xe2\x9c\x93 \xff', '\\"a\\tb\\n\\\\ ✓ \\\\xff'),
        "position": ([3, -2], "3,-2"),
        "price": ([0.1, 1e-9], "0.1,1e-09"),
    }

    def with_keys(number, feature):
        for key, (value, _) in values.items() if number else ():
            if isinstance(value, bytes):
                feature[key].bytes_list.value.append(value)
            elif isinstance(value[0], int):
                feature[key].int64_list.value.extend(value)
            else:
                feature[key].float_list.value.extend(value)
        if number == 5:
            del feature["position"]

    header, *lines = predicted(with_keys, passthrough=["request_id", "position", "price"])
    assert header == ["label", "prediction", "request_id", "position", "price"]
    assert lines[0][2:] == ["", "", ""] and lines[5][3] == "" and len(lines) == 160
    assert lines[159][2:] == [text for _, text in values.values()]
    assert json.loads(f'"{lines[7][2]}"') == '"a\tb\n\\ ✓ \\xff'


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["requestid"], "'requestid': no record has this key; did you mean 'request_id'"),
        (
            ["x"],
            "'x': no record has this key; there are auxiliary_info, cat_feature, category_list",
        ),
        (["request_id", "label"], "'label': the output has a column of that name already"),
    ],
)
def test_a_key_that_cannot_be_a_column_is_refused(predicted, tmp_path, keys, message):
    def with_id(number, feature):
        feature["request_id"].bytes_list.value.append(b"1")

    with pytest.raises(DataError, match=f"--passthrough {message}"):
        predicted(with_id, passthrough=keys)
    assert not (tmp_path / "out").exists()


def test_an_output_that_another_process_writes_is_refused(predicted, tmp_path):
    with staged_directory(str(tmp_path / "out")):
        with pytest.raises(ConfigError, match="out: another process works here"):
            predicted()


def test_a_damaged_first_record_does_not_hide_that_there_are_labels(trained, predicted, tmp_path):
    content = bytearray((trained.exp.parent / "data" / "20240104" / "part-00000").read_bytes())
    content[30] ^= 1
    (tmp_path / "20240104" / "part-").write_bytes(content)
    (tmp_path / "20240104" / "part--").touch()
    header, *lines = predicted(header=True, settings=["max_bad_records=200"])
    assert header == ["label", "prediction"] and len(lines) == 160
