"""`prepare` with the adapter `synthetic`."""

import json

import numpy as np
import pytest

from diffumin_tf.config.schema import SCHEMA_FILE, DataStruct
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.input import dataset
from diffumin_tf.prepare.command import prepare
from diffumin_tf.synthetic.log import Effects, generate

SPEC = {
    "adapter": "synthetic",
    "samples_per_day": {"20240101": 40, "20240102": 24},
    "users": 30,
    "items": 200,
    "history_len": 12,
    "seed": 3,
    "effects": {"interest": 6.0, "context": 0},
}


@pytest.fixture
def spec(tmp_path):
    """Writes a spec; returns its path."""

    def write(**changes):
        path = tmp_path / "prepare.json"
        path.write_text(json.dumps({**SPEC, **changes}))
        return str(path)

    return write


def test_the_records_are_those_of_the_generated_log(spec, tmp_path):
    output = str(tmp_path / "data")
    manifest = prepare(spec(), None, output)
    log = generate(
        {"20240101": 40, "20240102": 24},
        users=30,
        items=200,
        history_len=12,
        seed=3,
        effects=Effects(interest=6.0, context=0.0),
    )
    schema = DataStruct.load(f"{output}/{SCHEMA_FILE}")
    for day, size in SPEC["samples_per_day"].items():
        files = dataset.list_files(output, int(day), int(day), "train")
        (batch,) = dataset.read_records(files).batch(size)
        labels = dataset.parse(schema, batch)["label"].numpy().ravel()
        np.testing.assert_array_equal(labels, log.label[log.on(day)])
        entry = manifest["days"][day]
        assert entry["examples"] == size
        assert entry["best_reachable_auc"] == log.best_reachable_auc(day)


def test_again_keeps_the_records_and_another_spec_is_refused(spec, tmp_path):
    output = str(tmp_path / "data")
    first = prepare(spec(), None, output)
    part = tmp_path / "data" / "20240101" / "part-00000"
    written = part.stat().st_mtime_ns
    assert prepare(spec(), None, output) == first and part.stat().st_mtime_ns == written
    with pytest.raises(DataError, match="data: holds the records of another spec; remove"):
        prepare(spec(seed=4), None, output)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"effects": {"interests": 1}}, r"effects.*interests"),
        ({"samples_per_day": {"2024-01-01": 3}}, r"'2024-01-01' is no day"),
        ({"click_rate": 1.5}, r"click_rate"),
        ({"min_history_len": -1}, r"min_history_len"),
        ({"user": 3}, r"unknown key 'user' .*did you mean 'users'"),
    ],
)
def test_a_wrong_spec_is_named(spec, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        prepare(spec(**changes), None, str(tmp_path / "data"))


def test_no_history_is_shorter_than_the_spec_says(spec, tmp_path):
    output = str(tmp_path / "data")
    prepare(spec(min_history_len=11), None, output)
    schema = DataStruct.load(f"{output}/{SCHEMA_FILE}")
    files = dataset.list_files(output, 20240101, 20240102, "train")
    for batch in dataset.read_records(files).batch(64):
        lengths = dataset.parse(schema, batch)["item_id_list"].row_lengths().numpy()
        assert lengths.min() == 11 and lengths.max() == 12
    with pytest.raises(DataError, match="min_history_len: must lie between 0 and history_len 12"):
        prepare(spec(min_history_len=13), None, str(tmp_path / "other"))


def test_other_adapters_ask_for_their_input(tmp_path):
    path = tmp_path / "prepare.json"
    path.write_text(json.dumps({"adapter": "eleme", "files": "e_{yyyymmdd}.csv"}))
    with pytest.raises(ConfigError, match=r"adapter 'eleme' reads files; give their --input"):
        prepare(str(path), None, str(tmp_path / "data"))
