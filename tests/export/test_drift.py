"""Training, evaluation and serving see the same features: records score alike wherever they go."""

import json

import numpy as np
import pytest

from diffumin_tf.evaluation import metrics
from diffumin_tf.export import recorded
from diffumin_tf.export.requests import recorded as recorded_samples
from tests.export import native


@pytest.fixture(scope="module")
def samples(trained):
    one = trained.experiment
    return recorded_samples(one.config, one.schema, one.model.layout)


def scored(trained, tmp_path, signature, *requests):
    """What the export makes of requests where there is no Python."""
    asked, answered = str(tmp_path / "asked"), str(tmp_path / "answered")
    recorded.write(asked, requests)
    done = native.run("score", trained.export, signature, asked, answered)
    assert done.returncode == 0, done.stderr
    return recorded.read(answered)


def test_metrics_of_the_served_scores_are_those_of_evaluation(trained, samples, tmp_path):
    evaluated = trained.experiment.score("test")
    count = len(samples.samples)
    assert count == len(evaluated.pctr)
    (by_example,) = scored(trained, tmp_path, "examples", samples.examples(count))
    (by_tensor,) = scored(trained, tmp_path, "serving_default", samples.tensors(count))
    written = json.loads((trained.model_dir / "metrics.json").read_text())["test"]
    for served in (by_example["outputs"], by_tensor["pctr"]):
        np.testing.assert_allclose(served, evaluated.pctr, atol=1e-6)
        found = metrics.all_metrics(evaluated.labels, served, evaluated.users)
        for name in ("auc", "gauc", "logloss", "calibration"):
            assert found[name] == pytest.approx(written[name], abs=1e-6)


def test_a_request_scores_as_evaluation_of_its_samples(trained, samples, tmp_path):
    requests = [samples.request(count) for count in (1, 2, 160)]
    each = [samples.of_one_user(count) for count in (1, 2, 160)]
    by_request = scored(trained, tmp_path, "request", *requests)
    by_sample = scored(trained, tmp_path, "serving_default", *each)
    for one, other in zip(by_request, by_sample, strict=True):
        np.testing.assert_allclose(one["pctr"], other["pctr"], atol=1e-6)
    assert by_request[-1]["pctr"].std() > 1e-3


# Shapes as those feed them who speak to a graph and not to Python.
WRONG = {
    "user": [(1, 2), (2, 1), (0, 1), ()],
    "candidate": [(4, 3), (2, 2, 2)],
    "context": [(3, 1)],
    "dense_feature": [(4, 2)],
    "item_list": [(5,)],
}
CASES = [(name, shape) for name, shapes in WRONG.items() for shape in shapes]


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_an_input_of_a_wrong_shape_is_named(trained, samples, tmp_path, name, shape):
    good = samples.request(4)
    path = str(tmp_path / "asked")
    recorded.write(path, [good, {**good, name: np.zeros(shape, good[name].dtype)}])
    done = native.run("score", trained.export, "request", path, tmp_path / "answered")
    assert done.returncode == 1
    assert "request 2 of 2" in done.stderr and f"input {name}: must have" in done.stderr
