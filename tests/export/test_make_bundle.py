"""The bundle for an unmodified TensorFlow Serving, made of a real export."""

import ipaddress
import os
import shlex
import shutil
import subprocess

import pytest
import yaml
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from tests.export.stub import Stub
from tests.tools import tool

make_bundle = tool("serving/make_bundle")


def make(export, output, *more):
    return make_bundle.main([f"--export={export}", f"--output={output}", *more])


def compose_of(bundle):
    return yaml.safe_load((bundle / "compose.yaml").read_text())["services"]


def model_of(bundle):
    config = text_format.Parse((bundle / "models.config").read_text(), ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.base_path, model.model_platform) == ("/models", "tensorflow")
    versions = list(model.model_version_policy.specific.versions)
    return model.name, versions, dict(model.version_labels)


def error_of(capsys):
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and err.count("\n") == 1
    return err


@pytest.fixture(scope="module")
def export(trained, tmp_path_factory):
    """An export of three versions, with folders that are none."""
    folder = tmp_path_factory.mktemp("somewhere") / "it's $HOME #1"
    for number in (5, 20, 100):
        shutil.copytree(trained.export, folder / str(number))
    (folder / ".200.incomplete").mkdir()
    (folder / "007").mkdir()
    return folder


OPTIONS = ["--stable=20", "--canary=100", "--hold=5", "--name=clicks"]


@pytest.fixture(scope="module")
def bundle(export, tmp_path_factory):
    output = tmp_path_factory.mktemp("bundles") / "bundle"
    assert make(export, output, *OPTIONS) == 0
    return output


def test_the_versions_asked_for_are_served_under_their_labels(bundle, export, tmp_path):
    assert model_of(bundle) == ("clicks", [5, 20, 100], {"stable": 20, "canary": 100})
    assert make(export, tmp_path / "b") == 0
    assert model_of(tmp_path / "b") == ("diffumin", [100], {"stable": 100})


def test_the_servers_and_prometheus_find_their_files(bundle):
    services = compose_of(bundle)
    assert set(services) == {"serving", "batching", "prometheus"}
    for name in ("serving", "batching"):
        service = services[name]
        named = [flag.partition("=/bundle/")[2] for flag in service["command"]]
        assert all((bundle / file).is_file() for file in named if file)
        assert service["image"] == "tensorflow/serving:2.21.0"
        assert service["environment"] == {"MODEL_NAME": "clicks"}
        mounts = [":".join(path.split(":")[-2:]) for path in service["volumes"]]
        assert mounts == ["/models:ro", "/bundle:ro"]
        assert service.get("profiles", ["serving"]) == [name]
    jobs = yaml.safe_load((bundle / "prometheus.yml").read_text())["scrape_configs"]
    monitoring = (bundle / "monitoring.config").read_text()
    assert [job["job_name"] for job in jobs] == ["serving", "batching"]
    assert all(f'"{job["metrics_path"]}"' in monitoring for job in jobs)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1"])
def test_ports_are_open_on_one_address(export, tmp_path, address):
    more = [] if address == "127.0.0.1" else [f"--publish={address}"]
    assert make(export, tmp_path / "b", *more) == 0
    found = [port for service in compose_of(tmp_path / "b").values() for port in service["ports"]]
    ports = [(port["published"], port["target"]) for port in found]
    assert ports == [("8500", 8500), ("8501", 8501), ("8510", 8500), ("8511", 8501), ("9090", 9090)]
    assert {port["host_ip"] for port in found} == {str(ipaddress.ip_address(address))}


def test_the_health_check_asks_for_the_model(bundle, loaded):
    _, *command = compose_of(bundle)["serving"]["healthcheck"]["test"]

    def exit_code(port, model):
        asked = [part.replace("8501", port).replace("$$", "$") for part in command]
        environment = {**os.environ, "MODEL_NAME": model}
        return subprocess.run(asked, env=environment, stderr=-1, timeout=20, check=False).returncode

    with Stub(loaded).running() as stub:
        port = stub.addresses["rest"].split(":")[1]
        assert exit_code(port, "diffumin") == 0
        assert exit_code(port, "another") == 1
        stub.state = "UNAVAILABLE"
        assert exit_code(port, "diffumin") == 1
    assert exit_code(port, "diffumin") == 1


def test_it_says_what_is_served_and_how_to_start_it(export, tmp_path, capsys):
    assert make(export, tmp_path / "a b", "--canary=20", "--hold=5") == 0
    served, start = capsys.readouterr().out.splitlines()
    assert served == f"{tmp_path}/a b: diffumin: 5, canary 20, stable 100"
    words = shlex.split(start.removeprefix("start it: "))
    assert words == f"cd|{tmp_path}/a b|&&|MODELS={export}|docker|compose|up|-d".split("|")


def test_the_same_again_is_the_same_and_names_no_path_of_the_machine(export, bundle, tmp_path):
    assert make(export, f"{tmp_path}/again/", *OPTIONS) == 0
    found, again = (
        {path.name: path.read_text() for path in folder.iterdir()}
        for folder in (bundle, tmp_path / "again")
    )
    assert found == again and len(found) == 5
    assert not any("/tmp" in text or "HOME" in text for text in found.values())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--stable=7"], "--stable: EXPORT has no version 7, only [5, 20, 100]"),
        (["--canary=21"], "--canary: EXPORT has no version 21"),
        (["--hold=5", "--hold=6"], "--hold: EXPORT has no version 6"),
        (["--canary=100"], "--canary: 100 is the stable version"),
        (["--name=a/b"], "--name: must be letters, digits"),
        (["--publish=localhost"], "--publish: must be an address"),
        (["--publish=fe80::1%eth0"], "--publish: must be an address"),
        (["--output=/"], "/: exists already"),
        (["--output=FILE/b"], "FILE/b: cannot be made"),
        (["--export=none"], "none: cannot be read"),
        (["--export=."], ".: no versions"),
    ],
)
def test_what_cannot_be_served_is_one_error(export, tmp_path, monkeypatch, more, message, capsys):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file"
    file.touch()
    assert make(export, tmp_path / "b", *(word.replace("FILE", str(file)) for word in more)) == 1
    err = error_of(capsys).replace(str(export), "EXPORT").replace(str(file), "FILE")
    assert err.startswith(f"error: {message}")
    assert list(tmp_path.iterdir()) == [file]


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def without_signature(version, name):
    path = version / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    del saved.meta_graphs[0].signature_def[name]
    path.write_bytes(saved.SerializeToString())


DATA = "variables/variables.data-00000-of-00001"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda v: (v / "saved_model.pb").unlink(), "not a complete SavedModel"),
        (lambda v: cut(v / "saved_model.pb", 1000), "not a complete SavedModel"),
        (lambda v: (v / "assets/vocabulary.txt").unlink(), "vocabulary.txt is missing"),
        (lambda v: (v / "variables/variables.index").unlink(), "not a complete SavedModel"),
        (lambda v: cut(v / "variables/variables.index", 99), "not a complete SavedModel"),
        (lambda v: cut(v / DATA, 5000), "has 5,000 bytes, but the weights"),
        (lambda v: without_signature(v, "request"), "it has no signature 'request'"),
    ],
)
def test_a_version_that_is_not_whole_is_refused_if_it_is_to_be_served(
    trained, tmp_path, damage, message, capsys
):
    export, output = tmp_path / "export", tmp_path / "b"
    for number in ("7", "8"):
        shutil.copytree(trained.export, export / number)
    damage(export / "8")
    assert make(export, output) == 1
    err = error_of(capsys)
    assert err.startswith(f"error: {export}/8: ") and message in err
    assert not output.exists() and make(export, output, "--stable=7") == 0
