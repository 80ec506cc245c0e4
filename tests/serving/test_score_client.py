"""The score client, against a server that speaks as TensorFlow Serving does."""

import json
import pathlib
import re
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.data import dataset
from tests.serving.stub_server import Stub, slow
from tests.tools import tool
from tools.serving.client_load import percentile
from tools.serving.client_requests import Request, typed

PROTOCOLS = ["rest", "grpc"]
REFUSED = {"rest": "HTTP 400 Bad Request", "grpc": "INVALID_ARGUMENT"}
CANDIDATES = 7
ROOT = pathlib.Path(__file__).parents[2]

client = tool("score_client")


@pytest.fixture(scope="module")
def stub(trained):
    with Stub({1: trained.export, 2: trained.export}, {"stable": 1, "canary": 2}) as stub:
        yield stub


@pytest.fixture(scope="module")
def records(trained):
    return sorted(str(p) for p in (trained.exp.parent / "data" / "20240104").glob("part-*"))


@pytest.fixture(scope="module")
def samples(trained, records):
    """Tensors of the first records."""
    (serialised,) = dataset.read_records(records[:1]).batch(1000)
    raw = dataset.parse(trained.experiment.schema, serialised, labelled=False)
    raw |= {n: raw[n].to_tensor() for n in trained.experiment.schema.variable_sequences}
    return {name: values.numpy() for name, values in raw.items()}


@pytest.fixture(scope="module")
def requests(samples):
    """Inputs of `request` by the first sample of each seven, for all seven items."""
    ids, found = samples["cat_feature"], []
    for start in range(0, 70, CANDIDATES):
        rows = slice(start, start + CANDIDATES)
        one = {name: samples[name][start : start + 1] for name in ("item_list", "category_list")}
        one |= {"user": ids[start : start + 1, :1], "candidate": ids[rows, 1:3]}
        found.append(
            one | {"context": ids[rows, 3:4], "dense_feature": samples["dense_feature"][rows]}
        )
    return found


@pytest.fixture(scope="module")
def asked(samples, requests, records, tmp_path_factory):
    """A file of requests for each signature."""
    folder = tmp_path_factory.mktemp("asked")
    rows = [
        {name: values[start : start + 16] for name, values in samples.items()}
        for start in range(0, 80, 16)
    ]
    return {
        "serving_default": lines(folder / "default.jsonl", rows),
        "request": lines(folder / "request.jsonl", requests),
        "examples": records[0],
    }


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


def lines(path, requests):
    """A file with a line for each request."""
    plain = [{n: np.asarray(v).tolist() for n, v in inputs.items()} for inputs in requests]
    path.write_text("".join(json.dumps(inputs) + "\n" for inputs in plain))
    return str(path)


def run(stub, protocol, signature, file, *more):
    server = stub if isinstance(stub, str) else stub.server(protocol)
    return client.main(
        [
            f"--server={server}",
            f"--protocol={protocol}",
            "--model=diffumin",
            f"--signature={signature}",
            f"--input={file}",
            *more,
        ]
    )


def figures(report):
    """Milliseconds of the report by name."""
    return {k: float(v) for k, v in re.findall(r"(p\d\d|longest) ([\d.]+)", report)}


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
    assert 2.0 <= float(seconds) <= took
    assert float(rate) == pytest.approx(40 / float(seconds), rel=0.02)


def test_a_file_is_repeated_until_there_were_as_many_or_the_time_is_up(stub, asked, capsys):
    assert run(stub, "rest", "request", asked["request"], "--count=23") == 0
    assert "sent 23 in" in capsys.readouterr().out
    assert run(stub, "rest", "request", asked["request"], "--seconds=0.5", "--threads=2") == 0
    count, seconds = re.search(r"sent ([\d,]+) in ([\d.]+) s", capsys.readouterr().out).groups()
    assert int(count.replace(",", "")) > 10 and 0.5 <= float(seconds) < 5


def test_no_more_requests_are_read_than_are_sent(stub, asked, tmp_path, capsys):
    torn = tmp_path / "torn.jsonl"
    torn.write_text(pathlib.Path(asked["request"]).read_text() + "{")
    assert run(stub, "rest", "request", torn, "--count=10") == 0
    assert run(stub, "rest", "request", torn, "--count=11") == 1
    assert capsys.readouterr().err.startswith(f"error: {torn}: line 11: not valid JSON")


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
