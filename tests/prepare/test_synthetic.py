"""`prepare` with the adapter `synthetic`."""

import numpy as np
import pytest

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.input.fingerprint import fingerprint
from diffumin_tf.prepare import synthetic
from diffumin_tf.prepare.command import prepare
from diffumin_tf.prepare.spec import load_spec
from diffumin_tf.synthetic.log import generate
from tests.prepare.prepared import read_samples
from tests.prepare.small_tables import write_spec

SPEC = {
    "adapter": "synthetic",
    "samples_per_day": {"20240101": 40, "20240102": 24},
    **{"users": 30, "items": 200, "history_len": 12, "seed": 3},
    "effects": {"interest": 6.0, "context": 0},
}


@pytest.fixture
def spec(tmp_path):
    """Writes a spec; returns its path."""
    return lambda **changes: write_spec(tmp_path, {**SPEC, **changes})


@pytest.mark.parametrize("group", ["user_day", "none"])
@pytest.mark.parametrize("block", [1, 7, 256])
def test_the_records_are_those_of_the_generated_log(spec, tmp_path, monkeypatch, group, block):
    monkeypatch.setattr(synthetic, "_BLOCK_ROWS", block)
    output = tmp_path / "data"
    manifest = prepare(spec(group=group), None, str(output))
    log = generate(load_spec(spec()))
    shop = fingerprint("target_poi", log.items.shop.astype(str))
    category = fingerprint("target_third_id", log.items.category.astype(str))
    for day, size in SPEC["samples_per_day"].items():
        rows = log.on(day)
        if group == "user_day":
            users = log.user[rows].tolist()
            rows = rows[np.argsort([users.index(user) for user in users], kind="stable")]
            assert manifest["days"][day]["records"] == len(set(users))
        truth = np.load(output / f"true_probability_{day}.npy")
        np.testing.assert_array_equal(truth, log.true_probability[rows])
        entry = manifest["days"][day]
        assert (entry["examples"], entry["clicks"]) == (size, log.label[rows].sum())
        assert entry["best_reachable_auc"] == log.best_reachable_auc(day)
        for row, sample in zip(rows, read_samples(output, day), strict=True):
            past = log.history.item[log.history.of(log.user[row])]
            assert sample["item_id_list"] == shop[past].tolist()
            assert sample["third_id_list"] == category[past].tolist()
            assert sample["label"] == [log.label[row]]
            assert sample["auxiliary_info"] == [sample["cat_feature"][0], log.time[row]]
            item = log.item[row]
            assert sample["cat_feature"][3:5] == [shop[item], category[item]]
            assert sample["dense_feature"][1] == log.items.log_popularity[item]


def test_the_schema_is_that_of_the_long_term_experiment(spec, tmp_path):
    prepare(spec(), None, str(tmp_path))
    stored = DataStruct.load("exp/user1/Long_term_DiffuMIN/data_struct.json")
    assert stored.to_dict() == DataStruct.load(str(tmp_path / "data_struct.json")).to_dict()


def test_again_keeps_the_records_and_another_spec_is_refused(spec, tmp_path, monkeypatch):
    output = str(tmp_path / "data")
    first = prepare(spec(), None, output)
    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "generate", None)  # nothing is drawn again
        assert prepare(spec(), None, output) == first
    with pytest.raises(DataError, match="20240101: comes from other settings or an earlier"):
        prepare(spec(seed=4), None, output)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"effects": {"interests": 1}}, r"effects.*interests"),
        ({"samples_per_day": {"2024-01-01": 3}}, r"'2024-01-01' is no day"),
        ({"click_rate": 1.5}, r"click_rate"),
        ({"min_history_len": -1}, r"min_history_len"),
        ({"min_history_len": 13}, r"min_history_len 13.*history_len 12"),
        ({"history_len": 5001}, r"history_len.*5001"),
        ({"items": 10}, r"items.*160.*10"),
        ({"samples_per_day": {}}, r"samples_per_day"),
        ({"user": 3}, r"unknown key 'user' .*did you mean 'users'"),
    ],
)
def test_a_wrong_spec_is_named(spec, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        prepare(spec(**changes), None, str(tmp_path / "data"))


def test_no_history_is_shorter_than_the_spec_says(spec, tmp_path):
    lengths = prepare(spec(min_history_len=11), None, str(tmp_path / "data"))["history_length"]
    assert (lengths["min"], lengths["max"]) == (11, 12)


def test_other_adapters_ask_for_their_input(tmp_path):
    path = write_spec(tmp_path, {"adapter": "eleme", "files": "e_{yyyymmdd}.csv"})
    with pytest.raises(ConfigError, match="'eleme' reads files; give their --input"):
        prepare(path, None, str(tmp_path / "data"))
