"""The bundle for an unmodified TensorFlow Serving, made of a real export: its files."""

import os
import subprocess

import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tests.export.bundles import make, message, read, yaml
from tests.export.stub_server import Stub
from tools.serving.saved_model import merges, read_version

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


def test_what_is_told_is_what_to_do_next(export, tmp_path, capsys):
    assert make(export, tmp_path / "b", "--canary=20", "--hold=5") == 0
    assert capsys.readouterr().out == (
        f"{tmp_path}/b: diffumin: stable 100, canary 20, 5 without a label\n"
        f"start it: cd {tmp_path}/b && echo MODELS={export} > .env && docker compose up -d\n"
    )


def test_the_line_to_start_it_writes_a_path_of_any_signs_for_compose(export, tmp_path, capsys):
    folder = tmp_path / "it's $HOME #1"
    folder.symlink_to(export)
    assert make(folder, tmp_path / "a b") == 0
    start = capsys.readouterr().out.splitlines()[1].removeprefix("start it: ")
    command = start.removesuffix(" && docker compose up -d")
    assert command != start
    subprocess.run(["sh", "-c", command], check=True)
    # Compose takes what stands in single quotes as it is, but for a quote behind a backslash.
    told = str(folder).replace("'", "\\'")
    assert (tmp_path / "a b" / ".env").read_text() == f"MODELS='{told}'\n"


@pytest.mark.parametrize(
    ("more", "address"),
    [
        ([], "127.0.0.1"),
        (["--publish=0.0.0.0"], "0.0.0.0"),
        (["--publish=10.1.2.3"], "10.1.2.3"),
        (["--publish=::1"], "[::1]"),
    ],
)
def test_ports_are_open_to_this_machine_alone_unless_told_otherwise(
    export, tmp_path, more, address
):
    assert make(export, tmp_path / "b", *more) == 0
    services = yaml(read(tmp_path / "b")["compose.yaml"])["services"]
    found = [port for service in services.values() for port in service["ports"]]
    wanted = ["8500:8500", "8501:8501", "8510:8500", "8511:8501", "9090:9090"]
    assert found == [f"{address}:{ports}" for ports in wanted]


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
        assert [port.split(":")[-1] for port in service["ports"]] == [
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
            stub.state = "UNAVAILABLE"
            assert subprocess.run(asked, timeout=20, check=False).returncode == 1
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
        make(export, f"{again}/", "--stable=20", "--canary=100", "--hold=5", "--name=clicks") == 0
    )
    found = {p.relative_to(again): p.read_bytes() for p in again.rglob("*") if p.is_file()}
    before = {p.relative_to(bundle): p.read_bytes() for p in bundle.rglob("*") if p.is_file()}
    assert found == before and len(found) == 12


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
