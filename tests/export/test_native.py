"""The native program: it scores as Python does, refuses what is wrong, and its checks check."""

import json
import os
import signal
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.export import recorded
from diffumin_tf.export.requests import recorded as recorded_samples
from tests.export import native

SIGNATURES = ("serving_default", "examples", "request")
SIZES = (1, 3, 8, 20)
# Kinds of mutation that go at the bytes of an Example, and not at one of its features.
SPOILT_BYTES = {"truncated", "bits_flipped", "long_varint", "not_utf8", "bytes_moved"}
SPOILT_BYTES |= {"garbage", "no_bytes", "joined"}


@pytest.fixture(scope="module")
def asked(trained, tmp_path_factory):
    """Requests of the test split to each signature: (file, requests) by name."""
    experiment = trained.experiment
    samples = recorded_samples(experiment.config, experiment.schema, experiment.model.layout)
    folder = tmp_path_factory.mktemp("asked")
    found = {}
    makers = {"serving_default": samples.tensors, "examples": samples.examples}
    for name in SIGNATURES:
        requests = [makers.get(name, samples.request)(size) for size in SIZES]
        found[name] = folder / name, requests
        recorded.write(str(folder / name), requests)
    return found


@pytest.fixture(scope="module")
def by_python(trained):
    return tf.saved_model.load(str(trained.export)).signatures


class Small(tf.Module):
    """Signatures that do what a model must not."""

    def __init__(self):
        super().__init__()
        self.asked = tf.Variable(0.0)

    def sound(self, x, n):
        hidden = tf.matmul(x, tf.constant([[1.0], [-1.0]]))[:, 0]
        return {"score": tf.sigmoid(hidden), "ids": n + 1}

    def drifting(self, x):
        return {"score": tf.sigmoid(x[:, 0]) + 1e-6 * self.asked.assign_add(1.0)}

    def unbounded(self, x):
        return {"score": x[:, 0]}

    def echo(self, text):
        return {"text": tf.strings.join([text, text])}


X = np.array([[0.5, 1.0], [2.0, -3.0]], np.float32)
N = np.array([1, -5])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A SavedModel of `Small`, and files of requests to it by signature."""
    folder = tmp_path_factory.mktemp("small")
    module = Small()
    x, n = tf.TensorSpec([None, 2], tf.float32, "x"), tf.TensorSpec([None], tf.int64, "n")
    specs = {"sound": (x, n), "drifting": (x,), "unbounded": (x,)}
    specs["echo"] = (tf.TensorSpec([None], tf.string, "text"),)
    tf.saved_model.save(
        module,
        str(folder / "model"),
        signatures={
            name: tf.function(getattr(module, name)).get_concrete_function(*inputs)
            for name, inputs in specs.items()
        },
    )
    texts = np.array([b"", b"a\0\xff", b"word"], dtype=object)
    recorded.write(str(folder / "sound"), [{"x": X, "n": N}, {"n": N[:1], "x": X[:1]}])
    recorded.write(str(folder / "drifting"), [{"x": X}])
    recorded.write(str(folder / "unbounded"), [{"x": X[:1, ::-1] / 2}])
    recorded.write(str(folder / "echo"), [{"text": texts}, {"text": texts[:0]}])
    return folder


def on_small(small, command, signature, *options):
    return native.run(command, small / "model", signature, small / signature, *options)


def last_line(done):
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", SIGNATURES)
def test_recorded_requests_score_as_in_python(trained, asked, by_python, tmp_path, name):
    path, requests = asked[name]
    done = native.run("score", trained.export, name, path, tmp_path / "scores")
    assert done.returncode == 0, done.stderr
    found = recorded.read(str(tmp_path / "scores"))
    assert [len(next(iter(scores.values()))) for scores in found] == list(SIZES)
    for scores, inputs in zip(found, requests, strict=True):
        expected = by_python[name](**{n: tf.constant(v) for n, v in inputs.items()})
        assert set(scores) == set(expected)
        for output, values in expected.items():
            assert scores[output].dtype == np.float32
            np.testing.assert_allclose(scores[output], values.numpy(), atol=1e-6)
    assert next(iter(found[-1].values())).std() > 1e-3


@pytest.mark.parametrize("name", SIGNATURES)
def test_scores_are_the_same_bits_again_and_on_every_thread(trained, asked, name):
    options = ("--threads", 3, "--count", 60, "--warmup", 4)
    done = native.run("load", trained.export, name, asked[name][0], *options)
    assert done.returncode == 0, done.stderr
    found = last_line(done)
    assert (found["threads"], found["requests"]) == (3, 60)
    assert (found["errors"], found["different"]) == (0, 0)
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    # The 99th percentile of 60 is the longest.
    assert found["p50_ms"] / 2 <= found["mean_ms"] <= found["p99_ms"]
    # Three at a time at most, each of whom takes the mean.
    assert 0 < found["requests_per_s"] * found["mean_ms"] / 1e3 <= 3.01
    assert found["load_s"] > 0 and found["warmup_s"] > 0 and found["peak_rss_mb"] > 50


def test_other_scores_than_at_first_are_counted(small):
    done = on_small(small, "load", "drifting", "--threads", 2, "--count", 50, "--warmup", 3)
    assert done.returncode == 1, done.stderr
    assert last_line(done)["different"] == 50 + 2 * (1 + 3)
    assert last_line(done)["errors"] == 0


def test_numbers_and_strings_come_and_go_whole(small, tmp_path):
    assert on_small(small, "score", "sound", tmp_path / "out").returncode == 0
    both, first = recorded.read(str(tmp_path / "out"))
    np.testing.assert_allclose(both["score"], 1 / (1 + np.exp([0.5, -5])), rtol=1e-5)
    np.testing.assert_array_equal(both["ids"], N + 1)
    np.testing.assert_array_equal(first["score"], both["score"][:1])
    assert on_small(small, "score", "echo", tmp_path / "out").returncode == 0
    texts, none = recorded.read(str(tmp_path / "out"))
    assert texts["text"].tolist() == [b"", b"a\0\xffa\0\xff", b"wordword"]
    assert none["text"].shape == (0,)
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"x": X}, "input 'n': missing; the signature has n, x"),
        ({"x": X, "n": N, "m": N}, "input 'm': unknown; the signature has n, x"),
        ({"x": X, "n": N.astype(np.int32)}, "input 'n': dtype int32; the signature has int64"),
        ({"x": X.astype(object), "n": N}, None),
        ({"x": X[:, :1], "n": N}, "2,1"),  # The graph finds it.
    ],
)
def test_a_bad_request_is_an_error_that_says_which_and_why(small, tmp_path, request_, message):
    path = str(tmp_path / "requests")
    if message is None:
        request_["x"], message = np.array([b"a"], dtype=object), "input 'x': dtype string; the"
    recorded.write(path, [{"x": X, "n": N}, request_])
    done = native.run("score", small / "model", "sound", path, tmp_path / "out")
    assert done.returncode == 1 and done.stdout == ""
    assert f"error: {path}: request 2 of 2: " in done.stderr and message in done.stderr
    assert os.listdir(tmp_path) == ["requests"]


@pytest.mark.parametrize(
    ("name", "more"), [("cat_feature", 1), ("cat_feature", -1), ("dense_feature", 1)]
)
def test_an_input_of_a_wrong_width_is_named(trained, asked, tmp_path, name, more):
    good = asked["serving_default"][1][1]
    rows, width = good[name].shape
    path = str(tmp_path / "requests")
    recorded.write(path, [good, {**good, name: np.zeros([rows, width + more], good[name].dtype)}])
    done = native.run("score", trained.export, "serving_default", path, tmp_path / "out")
    assert done.returncode == 1 and "request 2 of 2" in done.stderr
    assert f"input {name}: must have" in done.stderr


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (1, "nowhere", "nowhere: Could not find SavedModel"),
        (2, "sounds", "signature 'sounds': there is none; there are "),
        (3, "nothing", "nothing: No such file"),
        (3, "torn", "torn: request 2 of 2: 'x': the file is torn"),
        (3, "other", "other: no file of recorded requests"),
        (3, "empty", "empty: holds no request"),
        (4, "missing/out", "missing/out: No such file"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_it(small, tmp_path, place, value, message):
    content = (small / "sound").read_bytes()
    (tmp_path / "torn").write_bytes(content[:-1])
    (tmp_path / "other").write_bytes(b"something else")
    recorded.write(str(tmp_path / "empty"), [])
    arguments = ["score", small / "model", "sound", small / "sound", tmp_path / "out"]
    arguments[place] = value if place == 2 else tmp_path / value
    done = native.run(*arguments)
    assert done.returncode == 1
    assert "error: " in done.stderr and message in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: "),
        (["scores", "m", "s", "r"], "usage: "),
        (["score", "m", "s", "r"], "usage: "),
        (["load", "m", "s", "r", "--threads", "2"], "--count is needed"),
        (["load", "m", "s", "r", "--threads", "0", "--count", "1"], "--threads: 0; give a number"),
        (["fuzz", "m", "s", "r", "--count", "1", "--seed"], "--seed: nothing; give a number"),
        (["fuzz", "m", "s", "r", "--count", "1x", "--seed", "1"], "--count: 1x; give a number"),
        (["fuzz", "m", "s", "r", "--sed", "1"], "--sed: no such option"),
    ],
)
def test_a_wrong_command_says_what_is_right(arguments, message):
    done = native.run(*arguments)
    assert done.returncode == 2 and message in done.stderr


@pytest.mark.parametrize("name", SIGNATURES)
def test_no_spoilt_request_spoils_a_score(trained, asked, name):
    options = ("--count", 330, "--seed", 3, "--every", 5)
    done = native.run("fuzz", trained.export, name, asked[name][0], *options)
    assert done.returncode == 0, done.stderr
    found = last_line(done)
    kinds = found["kinds"]
    assert found["mutants"] == 330 == found["scored"] + found["refused"]
    assert found["scored"] > 60 and found["refused"] > 60
    assert (found["not_finite"], found["good_changed"]) == (0, 0)
    assert found["misfit"] == 0  # What is not of the signature's shape is refused.
    assert len(kinds) >= (24 if name == "examples" else 17)
    assert found["scored"] == sum(kind["scored"] for kind in kinds.values())
    for before_the_graph in ("dropped", "extra", "other_dtype"):
        kind = kinds[before_the_graph]
        assert kind["refused"] == kind["named"] > 0 == kind["scored"]
    for kind, tally in kinds.items():
        # TensorFlow's runtime and its parser of protos say themselves what is wrong.
        if kind != "unchecked_dtype" and (name != "examples" or kind not in SPOILT_BYTES):
            assert tally["named"] == tally["refused"], kind


def test_fuzzing_finds_a_score_that_is_no_probability(small):
    done = on_small(small, "fuzz", "unbounded", "--count", 60, "--seed", 1)
    assert done.returncode == 1
    found = last_line(done)
    assert found["kinds"]["odd_dense"]["not_finite"] > 0 and found["good_changed"] == 0
    assert "odd_dense of x, from request 1: x float32 [1, 2]\n  scored, NOT A PROB" in done.stderr


def test_fuzzing_finds_that_a_good_request_scores_otherwise(small):
    done = on_small(small, "fuzz", "drifting", "--count", 20, "--seed", 1, "--every", 2)
    assert done.returncode == 1
    assert last_line(done)["good_changed"] == 10


def test_a_shape_that_is_not_the_signature_s_is_told_when_it_scores(small):
    done = on_small(small, "fuzz", "unbounded", "--count", 60, "--seed", 1)
    found = last_line(done)["kinds"]["other_width"]
    assert found["misfit"] == found["scored"] > 0  # Its graph looks at the first column only.


def test_the_same_seed_spoils_the_same_way_also_one_mutant_alone(small):
    def shown(*options):
        done = on_small(small, "fuzz", "echo", "--show", *options)
        return last_line(done), [n for n in done.stderr.splitlines() if n.startswith("mutant")]

    counts, mutants = shown("--count", 80, "--seed", 5)
    assert (counts, mutants) == shown("--count", 80, "--seed", 5)
    assert len(mutants) == 80 and len({" ".join(m.split()[2:]) for m in mutants}) > 20
    assert shown("--count", 1, "--first", 31, "--seed", 5)[1] == mutants[31:32]
    assert shown("--count", 80, "--seed", 6)[1] != mutants


def test_a_crash_says_at_which_mutant(small):
    arguments = ["fuzz", small / "model", "sound", small / "sound", "--count", 10**8, "--seed", 1]
    running = subprocess.Popen(
        [native.program(), *map(str, arguments), "--show"],
        env=native.ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with running:
        while not running.stderr.readline().startswith("mutant 20"):
            assert running.poll() is None
        running.send_signal(signal.SIGSEGV)
        last = running.stderr.read().splitlines()[-1]
    assert running.returncode == -signal.SIGSEGV
    assert "error: crashed: mutant " in last and "from request" in last
