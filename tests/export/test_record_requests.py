"""Requests that are recorded from a run for the native program."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.export import recorded
from tests.export import native
from tests.tools import tool

record_requests = tool("serving/record_requests")


def record(trained, output, *more):
    return record_requests.main([f"--model_dir={trained.model_dir}", f"--output={output}", *more])


@pytest.mark.parametrize(
    ("signature", "score"),
    [("serving_default", "pctr"), ("examples", "outputs"), ("request", "pctr")],
)
def test_the_native_program_scores_what_is_recorded(trained, tmp_path, signature, score, capsys):
    asked, answered = tmp_path / "asked", tmp_path / "answered"
    assert record(trained, asked, f"--signature={signature}", "--sizes=3,1,20") == 0
    told = f"{asked}: 3 requests to {signature}, 24 samples\n"
    assert capsys.readouterr().out == told
    done = native.run("score", trained.export, signature, asked, answered)
    assert done.returncode == 0, done.stderr
    found = [scores[score] for scores in recorded.read(str(answered))]
    assert [len(scores) for scores in found] == [3, 1, 20]
    if signature != "request":  # which has one user for all
        evaluated = trained.experiment.score("test").pctr[:20]
        np.testing.assert_allclose(found[2], evaluated, atol=1e-6)
    assert found[2].std() > 1e-3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["answered", "asked"]


def test_by_default_it_asks_for_one_sample_and_for_a_batch(trained, tmp_path):
    assert record(trained, tmp_path / "asked") == 0
    requests = recorded.read(str(tmp_path / "asked"))
    assert [len(inputs["cat_feature"]) for inputs in requests] == [1, 32]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--sizes=1,x"], "--sizes: must be numbers from 1 to 100,000 as in 1,32, got 'x'"),
        (["--sizes=0"], "--sizes: must be numbers from 1 to 100,000 as in 1,32, got '0'"),
        (["--sizes=100001"], "--sizes: must be numbers from 1 to 100,000 as in 1,32, got '100001'"),
        (["--sizes="], "--sizes: must hold a number of samples for each request"),
    ],
)
def test_wrong_sizes_are_one_error(trained, tmp_path, more, told, capsys):
    assert record(trained, tmp_path / "asked", *more) == 1
    assert capsys.readouterr() == ("", f"error: {told}\n")
    assert not list(tmp_path.iterdir())


def test_a_wrong_folder_is_one_error(trained, tmp_path, monkeypatch, capsys):
    assert record(trained, tmp_path / "no" / "asked") == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {tmp_path}/no/asked: cannot be written: ")
    assert err.count("\n") == 1
    assert record_requests.main([f"--model_dir={tmp_path}", f"--output={tmp_path}/asked"]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    monkeypatch.setattr(record_requests.requests, "recorded", lambda *_: None)
    assert record(trained, tmp_path / "asked") == 1
    told = f"error: {trained.model_dir}: of none of its splits a record can be read\n"
    assert capsys.readouterr().err == told
    assert not tf.io.gfile.listdir(str(tmp_path))


@pytest.mark.parametrize(
    "argv",
    [[], ["--model_dir=m"], ["--output=f"], ["--model_dir=m", "--output=f", "--signature=scores"]],
)
def test_wrong_usage_is_told(argv, capsys):
    assert record_requests.main(argv) == 2
    assert capsys.readouterr().err
