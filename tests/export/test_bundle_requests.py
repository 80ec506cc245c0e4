"""The requests of a bundle and of the documentation, answered by a server."""

import json
import pathlib
import re
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.export.clients import client


def post(stub, call, body):
    url = f"http://{stub.server('rest')}/v1/models/diffumin/labels/stable:{call}"
    with urllib.request.urlopen(urllib.request.Request(url, data=body)) as answer:
        return json.load(answer)


def test_the_examples_are_bodies_that_a_server_answers(bundle, stub):
    def answer(file, call):
        return post(stub, call, (bundle / "examples" / f"{file}.json").read_bytes())

    rows = answer("serving_default.rows", "predict")["predictions"]
    for scores in (
        [row["pctr"] for row in rows],
        answer("serving_default.columns", "predict")["outputs"]["pctr"],
        answer("request.columns", "predict")["outputs"]["rectified_pctr"],
        answer("examples.regress", "regress")["results"],
    ):
        assert len(scores) == 2 and all(0 < score < 1 for score in scores)


def test_rows_columns_and_examples_ask_the_same(bundle, stub, tmp_path):
    found = {}
    for signature, file in (("serving_default", "jsonl"), ("examples", "tfrecord")):
        argv = [f"--server={stub.server('rest')}", "--model=diffumin", f"--signature={signature}"]
        argv += [f"--input={bundle / 'examples' / signature}.{file}", "--batch=2"]
        assert client.main([*argv, f"--output={tmp_path / signature}"]) == 0
        found[signature] = json.loads((tmp_path / signature).read_text())["scores"]
    assert found["examples"]["outputs"] == pytest.approx(found["serving_default"]["pctr"], abs=1e-6)
    rows = json.loads((bundle / "examples" / "serving_default.rows.json").read_text())
    columns = json.loads((bundle / "examples" / "serving_default.columns.json").read_text())
    regress = json.loads((bundle / "examples" / "examples.regress.json").read_text())
    assert regress["examples"] == rows["instances"]
    assert columns["inputs"] == {
        name: [row[name] for row in rows["instances"]] for name in rows["instances"][0]
    }


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_request_to_try_goes_through_the_client(bundle, stub, protocol):
    argv = [f"--server={stub.server(protocol)}", f"--protocol={protocol}", "--model=diffumin"]
    argv += ["--signature=request", f"--input={bundle / 'examples' / 'request.jsonl'}"]
    assert client.main(argv) == 0


def test_the_request_to_try_has_one_context_for_all_candidates(bundle):
    inputs = json.loads((bundle / "examples" / "request.jsonl").read_text())
    assert {name: len(values) for name, values in inputs.items()} == {
        "user": 1,
        "candidate": 2,
        "context": 1,
        "dense_feature": 2,
        "item_list": 1,
        "category_list": 1,
    }


def test_no_candidates_have_no_scores_by_grpc_and_cannot_be_sent_by_rest(bundle, stub):
    inputs = json.loads((bundle / "examples" / "request.jsonl").read_text())
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "diffumin", "request"
    for name, values in inputs.items():
        dtype = np.float32 if name == "dense_feature" else np.int64
        array = np.array(values, dtype)
        array = array[:0] if name in ("candidate", "dense_feature") else array
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    with grpc.insecure_channel(stub.server("grpc")) as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request)
    assert set(answer.outputs) == {"pctr", "rectified_pctr"}
    for output in answer.outputs.values():
        assert tf.make_ndarray(output).shape == (0,)
    body = {"signature_name": "request", "inputs": inputs | {"candidate": [], "dense_feature": []}}
    with pytest.raises(urllib.error.HTTPError) as error:
        post(stub, "predict", json.dumps(body).encode())
    assert error.value.code == 400 and "input candidate: must have" in error.value.read().decode()


def test_the_documentation_shows_the_files_that_are_written(bundle):
    text = (pathlib.Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    for path in bundle.rglob("*"):
        assert path.is_dir() or path.name in text, path.name


def blocks(language):
    """What stands in the documentation in a language."""
    text = (pathlib.Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_documented_bodies_are_answered(stub):
    rows, columns, request, examples = (
        post(stub, "regress" if '"examples": [' in body else "predict", body.encode())
        for body in blocks("json")
    )
    scores = [row["pctr"] for row in rows["predictions"]]
    assert scores == columns["outputs"]["pctr"]
    assert examples["results"][0] == pytest.approx(scores[0], abs=1e-6)
    assert len(request["outputs"]["pctr"]) == 3 and len(examples["results"]) == 2


def test_the_documented_python_runs(stub, tmp_path, monkeypatch):
    call, make_ids = blocks("python")
    assert call.count("localhost:8500") == 1 and call.count("timeout=0.2") == 2
    names = {}
    call = call.replace("localhost:8500", stub.server("grpc")).replace("timeout=0.2", "timeout=20")
    exec(call, names)
    by_rest = post(stub, "predict", blocks("json")[2].encode())
    assert by_rest["outputs"]["pctr"] == pytest.approx(names["pctr"])
    assert names["pctr"].shape == (3,) and len(names["outputs"]) == 1
    schema = {
        "label": {"column": ["click"]},
        "cat_feature": {"column": ["uid", "sku", "brand", "hour"]},
        "sequence_feature": {"column": ["sku_list"], "max_len": 5},
    }
    (tmp_path / "data" / "mine").mkdir(parents=True)
    (tmp_path / "data" / "mine" / "data_struct.json").write_text(json.dumps(schema))
    monkeypatch.chdir(tmp_path)
    exec(make_ids, names)
    ids = names["cat_feature"]
    assert [bool(value) for value in ids] == [True, True, True, False]
    assert names["sku_list"][0] == ids[1] and len(set(names["sku_list"])) == 3
