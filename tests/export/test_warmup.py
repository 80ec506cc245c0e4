"""The warm-up holds recorded samples as every signature takes them."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from diffumin_tf.errors import ExportError
from diffumin_tf.export.warmup import WARMUP_FILE, read_warmup


@pytest.fixture(scope="module")
def records(trained):
    return list(tf.data.TFRecordDataset(str(trained.export / WARMUP_FILE)).as_numpy_iterator())


def test_every_signature_is_asked_in_the_usual_sizes_with_recorded_samples(
    trained, inputs, records
):
    kinds = [PredictionLog.FromString(record).WhichOneof("log_type") for record in records]
    assert kinds == ["predict_log", "regress_log"] * 2 + ["predict_log"] * 3
    expected = []
    for count in (1, 32):
        expected.append(("serving_default", inputs.tensors(count)))
        expected.append(("examples", inputs.examples(count)))
    expected += [("request", inputs.request(count)) for count in (1, 100, 500)]
    for (name, tensors), (signature, wanted) in zip(
        read_warmup(str(trained.export)), expected, strict=True
    ):
        assert name == signature and set(tensors) == set(wanted)
        for key, values in wanted.items():
            if name == "examples":  # features have no order
                parse = tf.train.Example.FromString
                assert [*map(parse, tensors[key])] == [*map(parse, values)]
            else:
                np.testing.assert_array_equal(tensors[key], values)
                assert tensors[key].dtype == values.dtype


def test_a_request_holds_the_user_once(inputs):
    asked, raw = inputs.request(100), inputs.of_one_user(100)
    assert {name: len(values) for name, values in asked.items()} == {
        **dict.fromkeys(("user", "item_list", "category_list"), 1),
        **dict.fromkeys(("candidate", "context", "dense_feature"), 100),
    }
    np.testing.assert_array_equal(asked["candidate"], raw["cat_feature"][:, 1:3])
    assert len(np.unique(raw["cat_feature"][:, 0])) == 1
    assert len(np.unique(raw["cat_feature"][:, 1])) > 20


@pytest.mark.parametrize("spoil", [lambda log: log[:-3], lambda log: b"\x0f" + log, lambda _: b""])
def test_a_spoilt_warm_up_is_refused(records, tmp_path, spoil):
    (tmp_path / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(tmp_path / WARMUP_FILE)) as writer:
        for record in (records[0], spoil(records[1])):
            writer.write(record)
    with pytest.raises(ExportError, match="no warm-up"):
        list(read_warmup(str(tmp_path)))
