"""The warm-up as TensorFlow Serving reads it."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from diffumin_tf.errors import ExportError
from diffumin_tf.export.inputs import recorded_inputs
from diffumin_tf.export.warmup import WARMUP_FILE, read_warmup


@pytest.fixture(scope="module")
def logs(trained):
    file = str(trained.export / WARMUP_FILE)
    return [
        prediction_log_pb2.PredictionLog.FromString(record)
        for record in tf.data.TFRecordDataset(file).as_numpy_iterator()
    ]


@pytest.fixture(scope="module")
def requests(trained):
    one = trained.experiment
    return recorded_inputs(one.config, one.schema, one.model.layout)


def predicted(log):
    request = log.predict_log.request
    return request.model_spec.signature_name, {
        name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()
    }


def test_every_signature_is_asked_in_the_usual_sizes(logs):
    kinds = [log.WhichOneof("log_type") for log in logs]
    assert kinds == ["predict_log", "regress_log"] * 2 + ["predict_log"] * 3
    sizes = [len(inputs["candidate"]) for name, inputs in map(predicted, logs[4:])]
    assert sizes == [1, 100, 500]


def test_tensors_and_samples_are_the_records(logs, requests):
    name, inputs = predicted(logs[2])
    assert name == "serving_default"
    for key, values in requests.tensors(32).items():
        np.testing.assert_array_equal(inputs[key], values)
    asked = logs[3].regress_log.request
    assert asked.model_spec.signature_name == "examples"
    examples = asked.input.example_list.examples
    wanted = [tf.train.Example.FromString(sample) for sample in requests.samples[:32]]
    assert list(examples) == wanted


def test_a_request_holds_the_user_once(logs, requests):
    name, inputs = predicted(logs[5])
    assert name == "request"
    assert {key: value.shape for key, value in inputs.items()} == {
        "user": (1, 1),
        "candidate": (100, 2),
        "context": (100, 1),
        "dense_feature": (100, 1),
        "item_list": (1, inputs["item_list"].shape[1]),
        "category_list": (1, inputs["category_list"].shape[1]),
    }
    raw = requests.of_one_user(100)
    np.testing.assert_array_equal(inputs["candidate"], raw["cat_feature"][:, 1:3])
    assert len(np.unique(raw["cat_feature"][:, 0])) == 1
    assert len(np.unique(raw["cat_feature"][:, 1])) > 20


def test_what_is_written_can_be_read_without_the_protos(trained, logs, requests):
    found = list(read_warmup(str(trained.export)))
    names = ["serving_default", "examples"] * 2 + ["request"] * 3
    assert [name for name, _ in found] == names
    for place in (2, 5):
        name, inputs = predicted(logs[place])
        assert found[place][0] == name and set(found[place][1]) == set(inputs)
        for key, values in inputs.items():
            np.testing.assert_array_equal(found[place][1][key], values)
    parsed = tf.train.Example.FromString
    assert list(map(parsed, found[3][1]["inputs"])) == list(map(parsed, requests.samples[:32]))


@pytest.mark.parametrize("spoil", [lambda log: log[:-3], lambda log: b"\x0f" + log, lambda _: b""])
def test_a_spoilt_warm_up_is_refused(trained, tmp_path, spoil):
    logs = list(tf.data.TFRecordDataset(str(trained.export / WARMUP_FILE)).as_numpy_iterator())
    (tmp_path / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(tmp_path / WARMUP_FILE)) as writer:
        for log in (logs[0], spoil(logs[1])):
            writer.write(log)
    with pytest.raises(ExportError, match="no warm-up"):
        list(read_warmup(str(tmp_path)))
