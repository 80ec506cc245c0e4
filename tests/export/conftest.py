"""An export of several versions and the bundle made of it; a server; requests to it, in files."""

import shutil

import pytest

from diffumin_tf.input import dataset
from tests.export.bundles import make
from tests.export.clients import CANDIDATES, lines


@pytest.fixture(scope="module")
def export(trained, tmp_path_factory):
    """An export of three versions, and what else may lie there."""
    folder = tmp_path_factory.mktemp("somewhere") / "export"
    for number in (5, 20, 100):
        shutil.copytree(trained.export, folder / str(number))
    (folder / ".200.incomplete").mkdir()
    (folder / "007").mkdir()
    return folder


@pytest.fixture(scope="module")
def bundle(export, tmp_path_factory):
    output = tmp_path_factory.mktemp("bundles") / "bundle"
    assert make(export, output, "--stable=20", "--canary=100", "--hold=5", "--name=clicks") == 0
    return output


@pytest.fixture(scope="module")
def stub(trained):
    # Only here, because most of these tests need no package of TensorFlow Serving.
    from tests.export.stub_server import Stub

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
