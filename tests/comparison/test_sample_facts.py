"""What is counted in the records, against counting by hand."""

import collections
import json

import numpy as np
import pytest

from diffumin_tf.comparison import sample_facts
from diffumin_tf.config import task as config_lib
from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import ConfigError
from tests.small_log import SCHEMA, samples, write_experiment


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("facts"), per_day=50)


def loaded(exp, *overrides):
    config = config_lib.load(str(exp), overrides)[0]
    return config, DataStruct.load(str(exp / "data_struct.json"))


def in_file_order(column):
    """Samples go to two files in turn, which are read one after the other."""
    return np.concatenate([column[0::2], column[1::2]])


def test_history_and_popularity_of_every_test_sample(exp, tmp_path):
    config, schema = loaded(exp)
    facts = sample_facts.read_facts(config, schema, "test", None, str(tmp_path), print)
    test = samples(50, seed=3)
    seen = collections.Counter(
        item for day in (0, 1) for item in samples(50, seed=day).cat_feature[:, 1].tolist()
    )
    np.testing.assert_array_equal(
        facts.sightings, [seen[i] for i in in_file_order(test.cat_feature[:, 1]).tolist()]
    )
    lengths = np.diff(test.sequences["item_list"][1])
    assert lengths.max() > config.seq_len  # those that the model does not see count as well
    np.testing.assert_array_equal(facts.history, in_file_order(lengths))


def test_the_samples_are_those_of_the_split(exp, tmp_path):
    config, schema = loaded(exp)
    sample_facts.read_facts(config, schema, "test", None, str(tmp_path), print)
    facts = sample_facts.read_facts(config, schema, "valid", None, str(tmp_path), print)
    lengths = np.diff(samples(50, seed=2).sequences["item_list"][1])
    np.testing.assert_array_equal(facts.history, in_file_order(lengths))


def test_histories_in_columns_are_counted_too(exp, tmp_path):
    features = {"candidate": ["item"], "behaviours": ["fixed_list"]}
    config, schema = loaded(exp, f"features={json.dumps(features)}")
    facts = sample_facts.read_facts(config, schema, "test", "category", str(tmp_path), print)
    np.testing.assert_array_equal(facts.history, 4)
    assert facts.sightings.min() > 5


def test_they_are_read_once_unless_what_they_are_about_changes(exp, tmp_path):
    config, schema = loaded(exp)
    lines = []
    for column in (None, "item", "category", "category"):
        sample_facts.read_facts(config, schema, "test", column, str(tmp_path), lines.append)
    later, _ = loaded(exp, "train_data_end=20240101")
    fewer = sample_facts.read_facts(later, schema, "test", "category", str(tmp_path), lines.append)
    assert [line.split()[-2] for line in lines] == ["item", "category", "category"]
    assert fewer.sightings.max() <= 50


def test_an_unknown_column_is_named(exp):
    config, _ = loaded(exp)
    schema = DataStruct.from_dict(SCHEMA)
    assert sample_facts.popularity_column(config, schema, None) == "item"
    with pytest.raises(ConfigError, match="no column 'itm'; did you mean 'item'"):
        sample_facts.popularity_column(config, schema, "itm")
