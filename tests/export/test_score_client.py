"""The score client, against a server that speaks as TensorFlow Serving does, by REST and gRPC."""

import json
import re
import signal
import threading
import time
import types

import numpy as np
import pytest
import tensorflow as tf

from tests.export.clients import CANDIDATES, PROTOCOLS, REFUSED, figures, lines, run
from tests.export.stub_server import Stub, slow
from tools.serving.client_load import percentile


@pytest.fixture(scope="module")
def expected(trained, requests):
    """Click probabilities that the model itself gives."""
    own = trained.experiment.score("test").pctr[:80]
    served = tf.saved_model.load(str(trained.export)).signatures["serving_default"]
    of_requests = []
    for inputs in requests:
        repeated = {
            name: np.repeat(inputs[name], CANDIDATES, axis=0)
            for name in ("user", "item_list", "category_list")
        }
        none = np.zeros([CANDIDATES, 4], np.int64)
        ids = np.hstack([repeated.pop("user"), inputs["candidate"], inputs["context"], none])
        whole = repeated | {"cat_feature": ids, "dense_feature": inputs["dense_feature"]}
        scores = served(**{name: tf.constant(values) for name, values in whole.items()})
        of_requests.append(scores["pctr"].numpy())
    return {"serving_default": own, "examples": own, "request": np.concatenate(of_requests)}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("signature", ["serving_default", "examples", "request"])
def test_scores_are_those_of_the_model(
    stub, asked, expected, signature, protocol, tmp_path, capsys
):
    output = tmp_path / "scores.jsonl"
    more = ["--batch=32", "--threads=3", f"--output={output}"]
    assert run(stub, protocol, signature, asked[signature], *more) == 0
    found = sorted(map(json.loads, output.read_text().splitlines()), key=lambda x: x["request"])
    count = {"serving_default": 5, "examples": 3, "request": 10}[signature]
    assert [x["request"] for x in found] == list(range(count))
    name = "outputs" if signature == "examples" else "pctr"
    scores = np.concatenate([x["scores"][name] for x in found])
    assert expected[signature].std() > 1e-3
    np.testing.assert_allclose(scores, expected[signature], atol=1e-6)
    if signature != "examples":
        rectified = np.concatenate([x["scores"]["rectified_pctr"] for x in found])
        np.testing.assert_allclose(rectified, scores / (scores + (1 - scores) / 0.25), atol=1e-6)
    report = capsys.readouterr().out
    assert f"sent {len(found)} in" in report and f"with {len(scores)} scores" in report
    assert [p.name for p in tmp_path.iterdir()] == ["scores.jsonl"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("chosen", "version"), [("--label=stable", 1), ("--version=2", 2), ("--label=canary", 2)]
)
def test_the_chosen_version_answers(stub, asked, protocol, chosen, version):
    del stub.served[:]
    assert run(stub, protocol, "request", asked["request"], chosen) == 0
    assert stub.served == [version] * 11  # asked once for the signature


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_dense_value_that_is_no_number_counts_as_zero(stub, requests, protocol, tmp_path):
    first = {**requests[0], "dense_feature": np.zeros([1, 1])}
    file = lines(tmp_path / "x", [first, {**first, "dense_feature": [[float("nan")]]}])
    output = tmp_path / "scores"
    assert run(stub, protocol, "request", file, f"--output={output}") == 0
    zero, nan = (json.loads(line)["scores"]["pctr"] for line in output.read_text().splitlines())
    assert zero == nan


def test_a_percentile_is_a_value_that_was_measured():
    values = [float(v) for v in range(200, 0, -1)]
    assert [percentile(values, q) for q in (50, 95, 99, 100)] == [100, 190, 198, 200]
    assert percentile([3.0], 50) == percentile([3.0], 99) == 3.0
    assert percentile([1.0, 2.0], 50) == 1.0 and percentile([1.0, 2.0, 3.0], 50) == 2.0
    assert percentile(values[100:], 7) == 7


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_percentiles_are_of_what_was_measured(trained, asked, protocol, capsys):
    with Stub({1: trained.export}, before=slow(0.5, every=10)) as stub:
        run(stub, protocol, "request", asked["request"], "--count=9")  # the first ones are slow
        capsys.readouterr()
        started = time.perf_counter()
        assert run(stub, protocol, "request", asked["request"], "--count=40") == 0
        took = time.perf_counter() - started
    report = capsys.readouterr().out
    found = figures(report)
    assert found["p50"] < 400 < 500 <= found["p95"] <= found["p99"] <= found["longest"] < 1500
    found = re.search(r"sent 40 in ([\d.]+) s: 40 answered, ([\d.]+) a second", report)
    seconds, rate = found.groups()
    assert 2.0 <= float(seconds) <= took + 0.005  # as it is rounded
    assert float(rate) == pytest.approx(40 / float(seconds), rel=0.02)


def test_a_file_is_repeated_until_there_were_as_many_or_the_time_is_up(stub, asked, capsys):
    assert run(stub, "rest", "request", asked["request"], "--count=23") == 0
    assert "sent 23 in" in capsys.readouterr().out
    assert run(stub, "rest", "request", asked["request"], "--seconds=0.5", "--threads=2") == 0
    count, seconds = re.search(r"sent ([\d,]+) in ([\d.]+) s", capsys.readouterr().out).groups()
    assert int(count.replace(",", "")) > 10 and 0.5 <= float(seconds) < 5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_the_server_refuses_is_counted_and_told_by_the_input(
    stub, requests, protocol, tmp_path, capsys
):
    good = requests[0]
    wide = {**good, "candidate": np.ones([7, 3], np.int64)}
    missing = {name: v for name, v in good.items() if name != "item_list"}
    output = tmp_path / "scores"
    file = lines(tmp_path / "x", [good, wide, good, wide])
    assert run(stub, protocol, "request", file, f"--output={output}") == 1
    report = capsys.readouterr().out
    assert "sent 4 in" in report and ": 2 answered" in report and figures(report)
    assert re.search(rf"2 failed, {REFUSED[protocol]}; the first, line 2: .*candidate", report)
    assert [json.loads(s)["place"] for s in output.read_text().splitlines()] == ["line 1", "line 3"]
    assert run(stub, protocol, "request", lines(tmp_path / "y", [missing])) == 1
    report = capsys.readouterr().out
    assert re.search(rf"1 failed, {REFUSED[protocol]}; the first, line 1: .*item_list", report)
    assert not figures(report)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--model=nope"], "model 'nope': Servable not found for request: Latest(nope)"),
        (
            ["--version=7"],
            "model 'diffumin': Servable not found for request: Specific(diffumin, 7)",
        ),
        (["--label=beta"], "model 'diffumin': Unrecognized servable version label: beta"),
    ],
)
def test_an_unknown_model_version_or_label_is_one_error(stub, asked, protocol, more, told, capsys):
    assert run(stub, protocol, "request", asked["request"], *more) == 1
    assert capsys.readouterr() == ("", f"error: {stub.server(protocol)}: {told}\n")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_signature_that_the_model_lacks_is_one_error(trained, asked, protocol, capsys):
    with Stub({1: trained.export}) as stub:
        found = {n: s for n, s in stub.loaded[1].signatures.items() if n != "request"}
        stub.loaded = {1: types.SimpleNamespace(signatures=found)}
        assert run(stub, protocol, "request", asked["request"]) == 1
    assert "has no signature 'request', only __saved_model_init_op, examples, serving_default" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_is_not_there_is_one_error(stub, asked, protocol, capsys):
    other = stub.server("grpc" if protocol == "rest" else "rest")
    for server in ("127.0.0.1:9", other):
        assert run(server, protocol, "request", asked["request"], "--timeout=5") == 1
        out, err = capsys.readouterr()
        kind = "REST" if protocol == "rest" else "gRPC"
        assert not out and err.startswith(
            f"error: {server}: no TensorFlow Serving answers by {kind}: "
        )
        assert err.count("\n") == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_does_not_answer_in_time_is_counted(trained, asked, protocol, capsys):
    with Stub({1: trained.export}, before=slow(4.0, every=1)) as stub:
        more = ["--timeout=1.5", "--threads=4", "--count=4"]
        assert run(stub, protocol, "request", asked["request"], *more) == 1
    kind = "timed out" if protocol == "rest" else "DEADLINE_EXCEEDED"
    report = capsys.readouterr().out
    assert ": 0 answered" in report and f"4 failed, {kind}; the first, line" in report


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_goes_away_midway_ends_it(trained, asked, protocol, tmp_path, capsys):
    output = tmp_path / "scores"
    with Stub({1: trained.export}) as stub:
        stub.before = lambda number: stub.stop() if number == 10 else None
        more = ["--count=1000", f"--output={output}"]
        assert run(stub, protocol, "request", asked["request"], *more) == 1
    report = capsys.readouterr().out
    assert ": 9 answered" in report and "given up after 20 requests in a row" in report
    assert len(output.read_text().splitlines()) == 9


@pytest.fixture
def interruptible():
    """Ctrl-C does what it does in a terminal; a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_ctrl_c_ends_it_with_what_was_done(trained, asked, protocol, tmp_path, capsys):
    def interrupt(number):
        if number == 10:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    output = tmp_path / "scores"
    with Stub({1: trained.export}, before=interrupt) as stub:
        more = ["--seconds=60", "--threads=2", f"--output={output}"]
        assert run(stub, protocol, "request", asked["request"], *more) == 130
    out, err = capsys.readouterr()
    answered = int(re.search(r"sent ([\d,]+) in", out)[1].replace(",", ""))
    assert answered >= 10 and f": {answered:,} answered" in out and not err
    assert figures(out) and out.endswith("\ninterrupted\n")
    assert len(output.read_text().splitlines()) == answered
    assert [p.name for p in tmp_path.iterdir()] == ["scores"]
