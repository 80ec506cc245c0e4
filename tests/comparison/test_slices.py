"""AUC within slices, and what samples are sliced by, against counting by hand."""

import collections
import json

import numpy as np
import pytest

from diffumin_tf.comparison import slices
from diffumin_tf.config import task as config_lib
from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import ConfigError
from diffumin_tf.evaluation import metrics
from diffumin_tf.evaluation.scoring import Scores
from tests.small_log import SCHEMA, samples, write_experiment


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("facts"), per_day=50)


def facts(exp, split, column, **changes):
    overrides = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    config = config_lib.load(str(exp), overrides)[0]
    schema = DataStruct.load(str(exp / "data_struct.json"))
    return slices.read_facts(config, schema, split, column)


def in_file_order(column):
    """Samples go to two files in turn, which are read one after the other."""
    return np.concatenate([column[0::2], column[1::2]])


@pytest.mark.parametrize(("split", "seed"), [("valid", 2), ("test", 3)])
def test_history_and_popularity_of_every_sample_of_the_split(exp, split, seed):
    found, scored = facts(exp, split, "item"), samples(50, seed=seed)
    seen = collections.Counter(
        item for day in (0, 1) for item in samples(50, seed=day).cat_feature[:, 1].tolist()
    )
    sightings = [seen[item] for item in in_file_order(scored.cat_feature[:, 1]).tolist()]
    np.testing.assert_array_equal(found["popularity"], sightings)
    lengths = np.diff(scored.sequences["item_list"][1])
    assert lengths.max() > 10  # those beyond seq_len count as well
    np.testing.assert_array_equal(found["history"], in_file_order(lengths))


def test_histories_in_columns_are_counted_too(exp):
    features = {"candidate": ["item"], "behaviours": ["fixed_list"]}
    found = facts(exp, "test", "category", features=features)
    np.testing.assert_array_equal(found["history"], 4)
    assert found["popularity"].min() > 5


def test_popularity_is_that_of_the_first_candidate_feature_or_of_a_column_that_there_is(exp):
    config, schema = config_lib.load(str(exp))[0], DataStruct.from_dict(SCHEMA)
    assert slices.popularity_column(config, schema, None) == "item"
    with pytest.raises(ConfigError, match="no column 'itm'; did you mean 'item'"):
        slices.popularity_column(config, schema, "itm")


def test_the_auc_of_a_slice_is_that_of_its_samples_mean_over_seeds():
    rng = np.random.default_rng(0)
    labels, lengths = (rng.random(300) < 0.4).astype(np.float32), rng.integers(0, 60, 300)
    scores = [Scores(labels, rng.random(300)) for _ in range(2)]
    rows = slices.auc_by_slice("history", lengths, scores)
    assert [row["bucket"] for row in rows] == ["0", "1–10", "11–50", "51–200"]
    assert sum(row["samples"] for row in rows) == 300
    inside = (lengths >= 11) & (lengths <= 50)
    areas = [metrics.auc(labels[inside], s.pctr[inside]) for s in scores]
    assert rows[2] == {
        "bucket": "11–50",
        "samples": inside.sum(),
        "clicks": labels[inside].sum(),
        "auc": pytest.approx(np.mean(areas)),
        "sd": pytest.approx(np.std(areas, ddof=1)),
    }


def test_every_number_lies_in_one_slice_and_one_class_has_no_auc():
    numbers = np.array([0, 1, 4, 5, 19, 20, 99, 100, 999, 1_000, 10**6])
    scores = Scores(np.ones(len(numbers)), np.linspace(0.1, 0.9, len(numbers)))
    rows = slices.auc_by_slice("popularity", numbers, [scores])
    assert [row["samples"] for row in rows] == [1, 2, 2, 2, 2, 2]
    assert {(row["auc"], row["sd"]) for row in rows} == {(None, None)}
