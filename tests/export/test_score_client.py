"""The score client, against a server that speaks as TensorFlow Serving does, by REST and gRPC."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

from diffumin_tf.export.warmup import read_warmup
from tests.export.stub import grpc_server, tcp_server
from tests.tools import TOOLS, tool

client = tool("score_client")
by_both_protocols = pytest.mark.parametrize("protocol", ["rest", "grpc"])


def ask(server, protocol, path, *more):
    server = server if isinstance(server, str) else server.addresses[protocol]
    argv = [f"--server={server}", f"--protocol={protocol}", "--model=diffumin", f"--input={path}"]
    return client.main([*argv, *more])


def error_of(capsys):
    """The one line of an error, which no terminal would obey."""
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.endswith("\n") and err[:-1].isprintable()
    return err, out


@pytest.fixture(scope="module")
def good(inputs):
    return {name: values.tolist() for name, values in inputs.request(3).items()}


@pytest.fixture
def lines(good, tmp_path):
    """A file of a good request, and one with a candidate too wide."""
    wide = {**good, "candidate": [[1, 2, 3]] * 3}
    path = tmp_path / "requests.jsonl"
    path.write_text("\n\n".join(map(json.dumps, (good, wide))))
    return path


@by_both_protocols
def test_an_export_is_asked_by_its_warm_up_and_scores_as_in_a_session(
    stub, loaded, trained, protocol, capsys
):
    assert ask(stub, protocol, trained.export) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    asked = list(read_warmup(str(trained.export)))
    assert len(printed) == len(asked) == 7
    for found, (signature, tensors) in zip(printed, asked, strict=True):
        expected = loaded.run(signature, tensors)
        assert set(found) == set(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=1e-6)
    assert ask(stub, protocol, trained.export, "--signature=request") == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == printed[4:]


@by_both_protocols
def test_lines_are_scored_up_to_the_first_that_the_server_refuses(stub, lines, protocol, capsys):
    assert ask(stub, protocol, lines, "--signature=request") == 1
    err, out = error_of(capsys)
    assert len(json.loads(out)["pctr"]) == 3
    assert "line 3: " in err and "input candidate: must have the shape" in err


@by_both_protocols
@pytest.mark.parametrize(
    ("more", "served"), [([], 2), (["--version=1"], 1), (["--label=stable"], 1)]
)
def test_a_version_is_asked_by_number_or_label(stub, trained, protocol, more, served):
    assert ask(stub, protocol, trained.export, "--signature=request", *more) == 0
    assert stub.served[-3:] == [served] * 3


@by_both_protocols
@pytest.mark.parametrize("more", ["--model=none", "--version=7", "--label=beta"])
def test_a_model_that_is_not_served_is_one_line(stub, trained, protocol, more, capsys):
    assert ask(stub, protocol, trained.export, more) == 1
    assert "Servable not found for request" in error_of(capsys)[0]


@by_both_protocols
def test_a_server_that_is_absent_or_speaks_another_protocol_is_one_line(
    stub, trained, protocol, capsys
):
    other = stub.addresses["grpc" if protocol == "rest" else "rest"]
    for server in ("127.0.0.1:9", other, "http://127.0.0.1:1", "x y:1", "." * 99):
        assert ask(server, protocol, trained.export, "--timeout=5") == 1
        assert f"request 1: {server}: " in error_of(capsys)[0]


OK = b"HTTP/1.1 200 OK\r\n\r\n"
NONSENSE = {
    "rest": [
        (b"", "no answer by REST"),
        (b"\x1b[2J\r\n\r\n", "no answer by REST"),
        (OK + b"\x1b[2J", "not TensorFlow Serving"),
        (OK + b"[" * 100_000, "not TensorFlow Serving"),
        (OK + b"{}", "not TensorFlow Serving"),
        (OK + b'{"outputs": "\\u001b[2J"}', "holds no scores"),
        (OK + b'{"outputs": {"\\u001b[2J": [[1]]}}', "holds no scores"),
        (b'HTTP/1.1 400 No\r\n\r\n{"error": "\\u001b[2Jbad\\nnews"}', "HTTP 400: ?[2Jbad"),
    ],
    "grpc": [
        (b"\xff\xff", "INTERNAL"),
        (predict_pb2.PredictResponse().SerializeToString() + b"\x0a\x04\x0a\x00\x12\x00", "tensor"),
    ],
}


@pytest.mark.parametrize(
    ("protocol", "answer", "message"),
    [(protocol, *case) for protocol, cases in NONSENSE.items() for case in cases],
)
def test_a_server_that_answers_nonsense_is_one_line(trained, protocol, answer, message, capfd):
    if protocol == "rest":
        serving = tcp_server(lambda connection: connection.sendall(answer))
    else:
        serving = grpc_server(lambda request, context: answer)
    with serving as server:
        assert ask(server, protocol, trained.export, "--timeout=5") == 1
    assert message in error_of(capfd)[0]


def trickle(connection):
    connection.sendall(OK)
    for _ in range(100):
        connection.sendall(b" ")
        time.sleep(0.1)


def answer_late(request, context):
    time.sleep(1.5)
    return b""


@by_both_protocols
def test_the_timeout_is_for_the_whole_request(trained, protocol, capsys):
    serving = tcp_server(trickle) if protocol == "rest" else grpc_server(answer_late)
    started = time.monotonic()
    with serving as server:
        assert ask(server, protocol, trained.export, "--timeout=0.5") == 1
    assert time.monotonic() - started < 5
    err, _ = error_of(capsys)
    assert "no answer within 0.5 seconds" in err or "DEADLINE_EXCEEDED" in err


def test_inputs_of_another_type_are_not_sent_by_grpc(stub, good, tmp_path, capsys):
    path = tmp_path / "x"
    for user in ([[1.5]], [[1], [1, 2]], [[2**63]], None, "7"):
        path.write_text(json.dumps({**good, "user": user}))
        assert ask(stub, "grpc", path, "--signature=request") == 1
        assert "not the tensors of the signature" in error_of(capsys)[0]


@pytest.mark.parametrize("content", [None, b"[1]\n", b"{\n", b"\xff\n", b"[" * 100_000])
def test_a_file_that_holds_something_else_is_named(stub, tmp_path, content, capsys):
    path = tmp_path / "x.jsonl"
    if content is not None:
        path.write_bytes(content)
    assert ask(stub, "rest", path) == 1
    trouble = "not a file of JSON lines" if content else "cannot be read"
    assert error_of(capsys)[0].startswith(f"error: {path}: {trouble}")


def test_wrong_usage_is_reported(capsys):
    assert client.main(["--server=h:1", "--model=m"]) == 2
    assert "--input is required" in capsys.readouterr().err
    assert ask("h:1", "rest", "f", "--version=1", "--label=x") == 1
    assert "--version, --label: give one" in error_of(capsys)[0]


def test_rest_needs_only_the_standard_library(stub, lines):
    script = (
        "import runpy, sys\n"
        "for name in ('tensorflow', 'tensorflow_serving', 'grpc', 'numpy'):\n"
        "    sys.modules[name] = None\n"
        f"runpy.run_path({str(TOOLS / 'score_client.py')!r}, run_name='__main__')\n"
    )
    argv = [f"--server={stub.addresses['rest']}", "--model=diffumin", f"--input={lines}"]
    command = [sys.executable, "-c", script, *argv, "--signature=request"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1 and "line 3: " in done.stderr, done.stderr
    assert len(json.loads(done.stdout)["pctr"]) == 3
