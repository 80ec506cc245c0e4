"""What the score client reads and writes, and what it says of what it cannot use."""

import json
import pathlib
import re
import subprocess
import sys

import pytest
import tensorflow as tf

from tests.export.clients import PROTOCOLS, client, run
from tools.serving.client_requests import Request, typed

ROOT = pathlib.Path(__file__).parents[2]


def test_no_more_requests_are_read_than_are_sent(stub, asked, tmp_path, capsys):
    torn = tmp_path / "torn.jsonl"
    torn.write_text(pathlib.Path(asked["request"]).read_text() + "{")
    assert run(stub, "rest", "request", torn, "--count=10") == 0
    assert run(stub, "rest", "request", torn, "--count=11") == 1
    assert capsys.readouterr().err.startswith(f"error: {torn}: line 11: not valid JSON")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_more_is_held_than_fits(stub, asked, protocol, monkeypatch, capsys):
    monkeypatch.setattr(client, "_BYTES", 1)
    assert run(stub, protocol, "request", asked["request"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("read 1 requests of 0.0 MB; the file has more\nsent 1 in")
    whole = len(pathlib.Path(asked["request"]).read_bytes())
    monkeypatch.setattr(client, "_BYTES", whole // 2)
    assert run(stub, protocol, "request", asked["request"], "--count=20") == 0
    read, sent = re.search(
        r"read (\d+) requests.*\nsent (\d+) in", capsys.readouterr().out
    ).groups()
    assert 1 < int(read) < 10 and int(sent) == 20
    monkeypatch.setattr(client, "_BYTES", 2 * whole)
    monkeypatch.setattr(client, "_HELD", 3)
    assert run(stub, protocol, "request", asked["request"]) == 0
    assert "read 3 requests of" in capsys.readouterr().out
    monkeypatch.setattr(client, "_HELD", 10)
    assert run(stub, protocol, "request", asked["request"]) == 0
    assert capsys.readouterr().out.startswith("sent 10 in")


def test_a_body_for_rest_is_told_from_json_lines(stub, bundle, tmp_path, capsys):
    told = (
        "JSON lines are read, each the inputs of one request, not a body for REST; use the .jsonl"
    )
    for name in ("serving_default.rows", "serving_default.columns", "request.columns"):
        body, signature = bundle / "examples" / f"{name}.json", name.split(".")[0]
        line = tmp_path / name
        line.write_text(json.dumps(json.loads(body.read_text())))
        for file in (body, line):
            assert run(stub, "rest", signature, file) == 1
            out, err = capsys.readouterr()
            assert err.startswith(f"error: {file}: line 1: ") and told in err and not out


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "holds no request"),
        ("[1]\n", "line 1: must be an object of inputs by name, not list"),
        ("\n{\n", "line 2: not valid JSON"),
    ],
)
def test_a_file_that_holds_something_else_is_one_error(stub, tmp_path, content, told, capsys):
    file = tmp_path / "x.jsonl"
    file.write_text(content)
    assert run(stub, "rest", "request", file) == 1
    assert capsys.readouterr().err.startswith(f"error: {file}: {told}")


def test_a_torn_tfrecord_is_one_error(stub, records, tmp_path, capsys):
    content = pathlib.Path(records[0]).read_bytes()
    torn = tmp_path / "torn"
    torn.write_bytes(content[:-5])
    assert run(stub, "rest", "examples", torn) == 1
    assert capsys.readouterr() == ("", f"error: {torn}: torn behind record 79\n")
    torn.write_bytes(b"no record at all")
    assert run(stub, "rest", "examples", torn) == 1
    assert "no TFRecord, or torn at its beginning" in capsys.readouterr().err
    with tf.io.TFRecordWriter(str(torn)) as writer:
        writer.write(b"\xff")
    assert run(stub, "rest", "examples", torn) == 1
    assert capsys.readouterr().err == f"error: {torn}: record 1: no tf.train.Example\n"
    assert run(stub, "rest", "examples", tmp_path / "none") == 1
    assert "there is no such file" in capsys.readouterr().err
    assert run(stub, "rest", "request", records[0]) == 1
    assert "--signature examples reads TFRecords" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"usr": [[1]]}, "the signature has no input 'usr'; did you mean 'user'?"),
        ({"zzzzz": [[1]]}, "the signature has no input 'zzzzz'; there are price, user"),
        ({"user": [[1.0]]}, "input 'user': must hold whole numbers of 64 bits, got 1.0"),
        ({"user": [[True]]}, "input 'user': must hold whole numbers of 64 bits, got true"),
        ({"user": [[2**63]]}, "input 'user': must hold whole numbers of 64 bits, got 922337"),
        ({"price": [[None]]}, "input 'price': must hold numbers, got null"),
        ({"price": [["1"]]}, "input 'price': must hold numbers, got \"1\""),
        ({"user": [[1], [1, 2]]}, "input 'user': its rows differ in length; pad the shorter"),
        ({"user": [[1], 2]}, "input 'user': its rows differ in length; pad the shorter"),
    ],
)
def test_what_cannot_be_sent_is_named(inputs, told):
    wanted = {"user": "DT_INT64", "price": "DT_FLOAT"}
    with pytest.raises(client.DataError) as error:
        typed("FILE", Request("line 4", inputs), wanted)
    assert str(error.value).startswith(f"FILE: line 4: {told}")


def test_whole_numbers_become_floats_where_the_signature_has_them():
    wanted = {"user": "DT_INT64", "price": "DT_FLOAT"}
    sent = typed("FILE", Request("line 1", {"user": [[-(2**63)]], "price": [[1, 0.5]]}), wanted)
    assert json.dumps(sent) == '{"user": [[-9223372036854775808]], "price": [[1.0, 0.5]]}'


@pytest.mark.parametrize(
    "argv",
    [
        ["--server=h:1", "--model=m"],
        ["--server=h:1", "--model=m", "--input=f", "--version=1", "--label=x"],
        ["--server=h:1", "--model=m", "--input=f", "--count=0"],
        ["--server=h:1", "--model=m", "--input=f", "--signature=scores"],
    ],
)
def test_wrong_usage_is_told(argv, capsys):
    assert client.main(argv) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize("server", ["localhost", ":8501", "h:0", "h:x", "h:70000"])
def test_a_server_without_host_or_port_is_named(server, asked, capsys):
    assert run(server, "rest", "request", asked["request"]) == 1
    assert capsys.readouterr().err == f"error: --server: must be HOST:PORT, got {server!r}\n"


@pytest.mark.parametrize("server", ["http://localhost:8501", "http://localhost", "grpc://h:1"])
def test_a_server_with_a_scheme_is_told_to_go_without(server, asked, capsys):
    assert run(server, "rest", "request", asked["request"]) == 1
    scheme = server[: server.index("//") + 2]
    assert capsys.readouterr().err == (
        f"error: --server: leave out {scheme!r}; it is HOST:PORT, got {server!r}\n"
    )


def test_scores_that_cannot_be_written_are_one_error(stub, asked, tmp_path, capsys):
    output = tmp_path / "no" / "scores"
    assert run(stub, "rest", "request", asked["request"], f"--output={output}") == 1
    assert (
        capsys.readouterr().err
        == f"error: {output}: cannot be written: No such file or directory\n"
    )


def test_rest_needs_no_package_and_grpc_names_the_one_that_is_missing(stub, asked):
    script = (
        "import runpy, sys\n"
        "for name in ('tensorflow', 'tensorflow_serving', 'grpc', 'numpy'):\n"
        "    sys.modules[name] = None\n"
        f"runpy.run_path({str(ROOT / 'tools' / 'score_client.py')!r}, run_name='__main__')\n"
    )
    for protocol, code, told in (("rest", 0, "10 answered"), ("grpc", 1, "diffumin_tf[serving]")):
        argv = [f"--server={stub.server(protocol)}", f"--protocol={protocol}", "--model=diffumin"]
        argv += ["--signature=request", f"--input={asked['request']}"]
        done = subprocess.run(
            [sys.executable, "-c", script, *argv],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == code, done.stderr
        assert told in (done.stderr if code else done.stdout)
        assert "Traceback" not in done.stderr
