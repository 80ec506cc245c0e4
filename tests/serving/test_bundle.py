"""The bundle for an unmodified TensorFlow Serving, made of a real export."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import urllib.request

import pytest
import tensorflow as tf
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.config import model_server_config_pb2

from tests.serving.stub_server import Stub
from tests.tools import tool
from tools.serving.saved_model import merges, read_version, versions

make_bundle, client = tool("serving/make_bundle"), tool("score_client")

# Flags of tensorflow_model_server, from its model_servers/main.cc.
FLAGS = {
    "port",
    "rest_api_port",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "allow_version_labels_for_unavailable_models",
    "monitoring_config_file",
    "enable_batching",
    "batching_parameters_file",
    "enable_model_warmup",
}
# Two messages that the package tensorflow-serving-api leaves out, by their .proto files.
MESSAGES = {
    "BatchingParameters": {
        "max_batch_size": ".google.protobuf.Int64Value",
        "batch_timeout_micros": ".google.protobuf.Int64Value",
        "max_enqueued_batches": ".google.protobuf.Int64Value",
        "num_batch_threads": ".google.protobuf.Int64Value",
        "max_execution_batch_size": ".google.protobuf.Int64Value",
        "enable_large_batch_splitting": ".google.protobuf.BoolValue",
        "pad_variable_length_inputs": bool,
    },
    "PrometheusConfig": {"enable": bool, "path": str},
    "MonitoringConfig": {"prometheus_config": ".served.PrometheusConfig"},
}
PLAIN = {
    bool: descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    str: descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
}


def message(name):
    """The class of a message of TensorFlow Serving."""
    file = descriptor_pb2.FileDescriptorProto(name="served.proto", package="served")
    file.syntax = "proto3"
    file.dependency.append("google/protobuf/wrappers.proto")
    for message_name, fields in MESSAGES.items():
        described = file.message_type.add(name=message_name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            added = described.field.add(name=field, number=number, label=1)
            if kind in PLAIN:
                added.type = PLAIN[kind]
            else:
                added.type, added.type_name = added.TYPE_MESSAGE, kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"served.{name}"))


def yaml(text):
    """Reads the YAML of a bundle: blocks by indentation, and in them values as in JSON."""
    lines = [line for line in text.splitlines() if line.strip() and line.lstrip()[0] != "#"]

    def block(depth):
        inner = None
        while lines and len(lines[0]) - len(lines[0].lstrip()) == depth:
            line = lines.pop(0).strip()
            if line.startswith("- "):
                inner = [] if inner is None else inner
                entry = line[2:]
                if re.match(r"\w+: ", entry):
                    lines.insert(0, " " * (depth + 2) + entry)
                    inner.append(block(depth + 2))
                else:
                    inner.append(json.loads(entry))
                continue
            inner = {} if inner is None else inner
            key, value = re.fullmatch(r"(\w+):(.*)", line).groups()
            assert key not in inner
            below = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
            inner[key] = json.loads(value) if value.strip() else block(max(below, depth + 2))
        return inner

    found = block(0)
    assert not lines
    return found


@pytest.fixture(scope="module")
def export(trained, tmp_path_factory):
    """An export of three versions, and what else may lie there."""
    folder = tmp_path_factory.mktemp("somewhere") / "export"
    for number in (5, 20, 100):
        shutil.copytree(trained.export, folder / str(number))
    (folder / ".200.incomplete").mkdir()
    (folder / "007").mkdir()
    return folder


def make(export, output, *more):
    return make_bundle.main([f"--export={export}", f"--output={output}", *more])


@pytest.fixture(scope="module")
def bundle(export, tmp_path_factory):
    output = tmp_path_factory.mktemp("bundles") / "bundle"
    assert make(export, output, "--stable=20", "--canary=100", "--keep=5", "--name=clicks") == 0
    return output


def read(bundle):
    return {p.name: p.read_text() for p in bundle.iterdir() if p.is_file()}


def test_what_is_told_is_what_to_do_next(export, tmp_path, capsys):
    assert make(export, tmp_path / "b", "--canary=20", "--keep=5") == 0
    assert capsys.readouterr().out == (
        f"{tmp_path}/b: diffumin: stable 100, canary 20, 5 without a label\n"
        f"start it: cd {tmp_path}/b && MODELS={export} docker compose up -d\n"
    )


def test_the_versions_asked_for_are_served_under_their_labels(bundle):
    config = text_format.Parse(
        read(bundle)["models.config"], model_server_config_pb2.ModelServerConfig()
    )
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("clicks", "/models/clicks")
    assert model.model_platform == "tensorflow"
    assert list(model.model_version_policy.specific.versions) == [5, 20, 100]
    assert dict(model.version_labels) == {"stable": 20, "canary": 100}


def test_by_default_the_newest_version_is_stable_and_alone(export, tmp_path):
    assert make(export, tmp_path / "b") == 0
    config = text_format.Parse(
        read(tmp_path / "b")["models.config"], model_server_config_pb2.ModelServerConfig()
    )
    (model,) = config.model_config_list.config
    assert model.name == "diffumin"
    assert list(model.model_version_policy.specific.versions) == [100]
    assert dict(model.version_labels) == {"stable": 100}


def test_batching_never_pads(bundle):
    found = text_format.Parse(read(bundle)["batching.config"], message("BatchingParameters")())
    assert not found.pad_variable_length_inputs
    assert found.enable_large_batch_splitting.value
    assert 1 < found.max_execution_batch_size.value <= found.max_batch_size.value
    assert 0 < found.batch_timeout_micros.value < 10_000
    assert found.num_batch_threads.value > 0 and found.max_enqueued_batches.value > 0


def test_prometheus_finds_the_metrics_where_the_servers_have_them(bundle):
    texts = read(bundle)
    monitoring = text_format.Parse(texts["monitoring.config"], message("MonitoringConfig")())
    assert monitoring.prometheus_config.enable
    prometheus, services = yaml(texts["prometheus.yml"]), yaml(texts["compose.yaml"])["services"]
    first, second = prometheus["scrape_configs"]
    for job in (first, second):
        assert job["metrics_path"] == monitoring.prometheus_config.path
        assert job["metrics_path"] == "/monitoring/prometheus/metrics"
    assert first["static_configs"] == [{"targets": ["serving:8501"]}]
    assert second["dns_sd_configs"] == [{"names": ["batching"], "type": "A", "port": 8501}]
    assert set(services) == {"serving", "batching", "prometheus"}
    assert services["prometheus"]["volumes"] == [
        "./prometheus.yml:/etc/prometheus/prometheus.yml:ro"
    ]


def flags_of(service):
    return dict(flag.removeprefix("--").split("=") for flag in service["command"])


def test_flags_are_those_of_tensorflow_serving_and_name_files_of_the_bundle(bundle):
    services = yaml(read(bundle)["compose.yaml"])["services"]
    for name in ("serving", "batching"):
        flags, service = flags_of(services[name]), services[name]
        assert set(flags) <= FLAGS
        assert service["image"] == "tensorflow/serving:2.21.0"
        assert service["entrypoint"] == ["/usr/bin/tensorflow_model_server"]
        assert service["volumes"][0].endswith("}:/models/clicks:ro")
        assert service["volumes"][0].startswith("${MODELS:?")
        assert service["volumes"][1] == ".:/bundle:ro"
        files = [value for value in flags.values() if "/" in value]
        assert len(files) >= 2
        assert all((bundle / file.removeprefix("/bundle/")).is_file() for file in files)
        assert [port.split(":")[1] for port in service["ports"]] == [
            flags["port"],
            flags["rest_api_port"],
        ]
        assert flags["allow_version_labels_for_unavailable_models"] == "true"


def test_only_the_server_that_has_to_be_asked_for_batches(bundle):
    services = yaml(read(bundle)["compose.yaml"])["services"]
    assert "profiles" not in services["serving"]
    assert services["batching"]["profiles"] == ["batching"]
    plain, batching = flags_of(services["serving"]), flags_of(services["batching"])
    assert not {"enable_batching", "batching_parameters_file"} & set(plain)
    assert set(batching.items()) - set(plain.items()) == {
        ("enable_batching", "true"),
        ("batching_parameters_file", "/bundle/batching.config"),
        ("enable_model_warmup", "false"),
    }


def test_the_warm_up_would_fail_where_requests_are_batched(export):
    """Why the batching server does without it: the inputs of one request differ in their rows."""
    inputs = read_version(str(export), 20).signatures["request"]
    assert {inputs[name].shape[0] for name in ("user", "candidate")} == {1, None}
    assert (export / "20" / "assets.extra" / "tf_serving_warmup_requests").is_file()


def test_the_health_check_asks_for_the_model(bundle, trained):
    services = yaml(read(bundle)["compose.yaml"])["services"]
    _, *command = services["serving"]["healthcheck"]["test"]
    assert services["serving"]["healthcheck"] == services["batching"]["healthcheck"]
    for name, code in (("clicks", 0), ("others", 1)):
        with Stub({1: trained.export}, name=name) as stub:
            port = stub.server("rest").split(":")[1]
            asked = [part.replace("8501", port) for part in command]
            assert subprocess.run(asked, timeout=20, check=False).returncode == code
    assert subprocess.run(asked, timeout=20, check=False, stderr=-1).returncode == 1  # gone


def test_nothing_tells_where_it_was_made(bundle, export):
    for path in bundle.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(export).encode() not in content and b"/tmp" not in content
            assert os.path.expanduser("~").encode() not in content


def test_the_same_again_is_the_same(export, bundle, tmp_path):
    again = tmp_path / "again"
    assert (
        make(export, f"{again}/", "--stable=20", "--canary=100", "--keep=5", "--name=clicks") == 0
    )
    found = {p.relative_to(again): p.read_bytes() for p in again.rglob("*") if p.is_file()}
    before = {p.relative_to(bundle): p.read_bytes() for p in bundle.rglob("*") if p.is_file()}
    assert found == before and len(found) == 12


@pytest.fixture(scope="module")
def stub(trained):
    with Stub({1: trained.export}, {"stable": 1}) as stub:
        yield stub


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


def spec(*shape):
    return tf.TensorSpec(shape, tf.int64)


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"inputs": tf.TensorSpec([None], tf.string)}, "yes"),
        ({"ids": spec(None, 8), "dense": spec(None, 1)}, "yes"),
        ({"ids": spec(None, 8), "history": spec(None, None)}, "one length"),
        ({"user": spec(1, 2), "candidate": spec(None, 2)}, "no"),
        ({"user": spec(1, 2), "history": spec(1, None)}, "no"),
    ],
)
def test_what_a_batching_server_may_merge(inputs, told):
    assert merges(inputs) == told


def test_the_compose_file_says_what_is_batched_and_how_large_it_is(bundle, export):
    text = read(bundle)["compose.yaml"]
    assert "a server that batches examples\n" in text
    size = sum(p.stat().st_size for n in (5, 20, 100) for p in (export / str(n)).rglob("*"))
    size -= sum(
        p.stat().st_size for n in (5, 20, 100) for p in (export / str(n)).rglob("*") if p.is_dir()
    )
    assert f"holds 3 versions, {size / 1e6:,.1f} MB on the disk" in text


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--stable=7"], "--stable: EXPORT has no version 7; there are 5, 20, 100"),
        (["--canary=21"], "--canary: EXPORT has no version 21; there are 5, 20, 100"),
        (["--keep=5", "--keep=6"], "--keep: EXPORT has no version 6; there are 5, 20, 100"),
        (
            ["--canary=100"],
            "--canary: 100 is the stable version as well, the newest; name the other",
        ),
        (["--stable=5", "--canary=5"], "--canary: 5 is the stable version as well\n"),
        (
            ["--name=a/b"],
            "--name: 'a/b' must begin with a letter or a digit and consist of these and",
        ),
        (["--name="], "--name: '' must begin"),
        (["--image=x y"], "--image: 'x y' must begin"),
    ],
)
def test_what_cannot_be_served_is_one_error(export, tmp_path, more, told, capsys):
    assert make(export, tmp_path / "b", *more) == 1
    out, err = capsys.readouterr()
    assert not out and err.replace(str(export), "EXPORT").startswith(f"error: {told}")
    assert err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_folder_without_versions_is_one_error(export, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for folder, told in (
        (tmp_path / "none", "cannot be read"),
        (tmp_path / "empty", "no versions"),
        (export / "20", "this is one version, so give the folder above"),
    ):
        assert make(folder, tmp_path / "b") == 1
        err = capsys.readouterr().err
        assert err.startswith(f"error: {folder}: ") and told in err and err.count("\n") == 1


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def without_signature(version, name):
    path = version / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    del saved.meta_graphs[0].signature_def[name]
    path.write_bytes(saved.SerializeToString())


DATA = "variables/variables.data-00000-of-00001"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda v: (v / "saved_model.pb").unlink(), "no complete SavedModel: "),
        (lambda v: cut(v / "saved_model.pb", 1000), "saved_model.pb: torn or something else"),
        (lambda v: cut(v / "saved_model.pb", 0), "saved_model.pb: torn or something else"),
        (lambda v: (v / "assets/vocabulary.txt").unlink(), "vocabulary.txt is missing"),
        (lambda v: (v / "variables/variables.index").unlink(), "no complete SavedModel: "),
        (lambda v: cut(v / "variables/variables.index", 99), "no complete SavedModel: "),
        (lambda v: (v / DATA).unlink(), "variables.data-*: torn: 0 bytes"),
        (lambda v: cut(v / DATA, 5000), "variables.data-*: torn: 5,000 bytes, but the weights"),
        (
            lambda v: without_signature(v, "request"),
            "no signature 'request', only examples, serving_default; export it anew",
        ),
        (lambda v: without_signature(v, "examples"), "no signature 'examples'"),
    ],
)
def test_a_version_that_is_not_whole_is_one_error(trained, tmp_path, damage, told, capsys):
    shutil.copytree(trained.export, tmp_path / "export" / "8")
    damage(tmp_path / "export" / "8")
    assert make(tmp_path / "export", tmp_path / "b") == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {tmp_path}/export/8") and told in err, err
    assert err.count("\n") == 1 and not (tmp_path / "b").exists()


def test_only_versions_that_are_served_have_to_be_whole(trained, tmp_path):
    for number in (8, 9):
        shutil.copytree(trained.export, tmp_path / "export" / str(number))
    (tmp_path / "export" / "9" / "saved_model.pb").unlink()
    assert versions(str(tmp_path / "export")) == [8, 9]
    assert make(tmp_path / "export", tmp_path / "b", "--stable=8") == 0
    assert make(tmp_path / "export", tmp_path / "c") == 1


def test_a_bundle_appears_whole_or_not_at_all(export, tmp_path, monkeypatch, capsys):
    def fail(folder, version):
        assert os.listdir(os.path.dirname(folder))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(make_bundle, "write_examples", fail)
        assert make(export, tmp_path / "b") == 130
    assert not list(tmp_path.iterdir())
    assert make(export, tmp_path / "b") == 0
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    capsys.readouterr()
    assert make(export, tmp_path / "b", "--stable=5") == 1
    assert "exists already" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("argv", [[], ["--export=x"], ["--output=x"], ["--exports=x"]])
def test_wrong_usage_is_told(argv, capsys):
    assert make_bundle.main(argv) == 2
    assert capsys.readouterr().err


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
