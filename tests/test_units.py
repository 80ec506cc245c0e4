"""The input units: which features they read, and what they refuse."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import Features, TaskConfig
from diffumin_tf.devices import with_defaults
from diffumin_tf.errors import ConfigError
from diffumin_tf.history import Embedded, History
from diffumin_tf.input.batch import HistoryGroup
from diffumin_tf.input.features import FeatureLayout, FeaturePath
from diffumin_tf.input.vocabulary import HashedRows
from diffumin_tf.layers import DenoiserConfig, Diffusion, FieldAlignedProjection
from diffumin_tf.model import RankingModel, features_of
from handle_layer.handle_lib.handle_base import InputUnit
from handle_layer.handle_lib.handle_rec_unit import Eleme_DiffuMIN, Long_term_DiffuMIN
from tests.small_model import batch, grouped_batch

EXPERIMENTS = pathlib.Path(__file__).parents[1] / "exp" / "user1"
ELEME, LONG_TERM = "handle_rec_unit:Eleme_DiffuMIN", "handle_rec_unit:Long_term_DiffuMIN"
UNITS = {ELEME: "Eleme_DiffuMIN", LONG_TERM: "Long_term_DiffuMIN"}
SMALL = {
    "embed_dim": 4,
    "seq_len": 8,
    "subseq_len": 2,
    "channel_num": 2,
    "n_layers": 1,
    "timesteps": 20,
    "start_timestep": 4,
    "infer_timesteps": 1,
    "deep_layers": [4],
}


def schema_of(experiment):
    return DataStruct.load(str(EXPERIMENTS / experiment / "data_struct.json"))


def config_of(*units, **changes):
    return with_defaults(TaskConfig.model_validate({"input_units": units, **SMALL, **changes}))


def unit_of(unit, schema, **changes):
    config = config_of(f"handle_rec_unit:{unit.__name__}", **changes)
    return unit(config, FeatureLayout.of(unit.features_of(config), schema))


def raw_batch(schema, size=3, seed=0):
    rng = np.random.default_rng(seed)
    raw = {
        "cat_feature": rng.integers(1, 90, [size, len(schema.cat_feature)]),
        "dense_feature": rng.normal(size=[size, len(schema.dense_feature)]).astype(np.float32),
    }
    raw |= {name: rng.integers(1, 90, [size, 5]) for name in schema.variable_sequences}
    return {name: tf.constant(value) for name, value in raw.items()}


def scores_of(config, schema):
    model = RankingModel(config, schema, 97)
    model.create_weights()
    path = FeaturePath(schema, model.layout, config.seq_len, HashedRows(97))
    return model, model.predict_click(path(raw_batch(schema)))["pctr"].numpy()


@pytest.mark.parametrize("name", UNITS)
def test_builds_and_scores_with_its_default_features(name):
    schema = schema_of(UNITS[name])
    model, pctr = scores_of(config_of(name), schema)
    assert pctr.shape == (3,) and ((pctr > 0) & (pctr < 1)).all()
    assert [unit.name for unit in model.units] == [UNITS[name]]
    # A candidate is projected only where its fields are not those of a behaviour.
    projected = any(isinstance(m, FieldAlignedProjection) for m in model.submodules)
    assert projected == (name == ELEME)
    listed = json.loads(features_of(config_of(name)).model_dump_json())
    assert RankingModel(config_of(name, features=listed), schema, 97).layout == model.layout


def test_features_of_the_config_replace_those_of_the_unit():
    features = {"candidate": ["item_id"], "behaviours": ["item_id_list"]}
    model = RankingModel(config_of(ELEME, features=features), schema_of("Eleme_DiffuMIN"), 97)
    assert model.layout.fields == ("item_id",) and model.layout.dense == ()


def test_partners_are_the_candidate_features_of_the_same_id_space_if_any():
    assert unit_of(Long_term_DiffuMIN, schema_of("Long_term_DiffuMIN")).partners() == [0, 1, 2]
    eleme = unit_of(Eleme_DiffuMIN, schema_of("Eleme_DiffuMIN"))
    candidate = eleme.features.candidate
    expected = ["shop_id", "item_id", "category_1_id", "shop_aoi_id", "hours"]
    assert [candidate[index] for index in eleme.partners()] == expected
    video = {"column": ["watched_list", "seen_list"], "max_len": 5}
    schema = DataStruct.from_dict(
        {
            "label": {"column": ["click"]},
            "cat_feature": {"column": ["video", "tag"]},
            "sequence_feature": video,
            "id_space": {"seen_list": "tag"},
        }
    )
    features = {"candidate": ["video", "tag"], "behaviours": video["column"]}
    assert unit_of(Long_term_DiffuMIN, schema, features=features).partners() == [None, 1]


def test_dmig_and_cmic_get_the_settings_of_the_config():
    unit = unit_of(
        Long_term_DiffuMIN,
        schema_of("Long_term_DiffuMIN"),
        beta_sche="cosine",
        prediction_type="epsilon",
        sampler_grad_steps=None,
        dff_factor=2,
        dropout_rate=0.1,
        lamda1=0.3,
        contrastive_negatives="replica",
    )
    assert unit._generate.diffusion == Diffusion(
        20, 1, 4, "cosine", prediction_type="epsilon", sampler_grad_steps=None
    )
    assert unit._generate.denoiser_config == DenoiserConfig(1, 2, 2, 0.1)
    assert (unit._generate.loss_weight, unit._calibrate.negatives) == (0.3, "replica")


@pytest.mark.parametrize("grouped", [False, True])
def test_interests_are_those_of_the_extractor_that_sees_whole_histories(scoring, grouped):
    model, path = scoring
    (unit,) = model.units
    inputs = model.embed(grouped_batch(model) if grouped else batch(path))
    history = unit.history(inputs)
    behaviours, mask = history.whole()
    assert {0, mask.shape[1]} < set(mask.numpy().sum(axis=1))  # empty, full and in between
    candidate = unit.queries(inputs).candidate
    interests, channels, kept = unit.extract(inputs)
    expected = unit._extract(behaviours, candidate, mask)
    assert np.abs(interests).max() > 0.05
    np.testing.assert_allclose(interests, expected.interests, atol=1e-6)
    np.testing.assert_array_equal(channels, expected.channels)
    np.testing.assert_array_equal(kept, expected.kept)
    np.testing.assert_array_equal(tf.reduce_any(kept, axis=2), expected.live)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"channel_num": 13},
            "channel_num is 13 but 3 behaviour fields of embed_dim 4 give room for 12 orthogonal",
        ),
        ({"num_heads": 5}, "num_heads is 5 but must divide 12 .3 behaviour fields of embed_dim 4"),
    ],
)
def test_widths_that_do_not_fit_name_the_key_and_the_bound(changes, message):
    with pytest.raises(ConfigError, match=message):
        unit_of(Long_term_DiffuMIN, schema_of("Long_term_DiffuMIN"), **changes)


def test_a_unit_without_default_features_asks_for_them():
    class Plain(InputUnit):
        pass

    with pytest.raises(ConfigError, match="features: Plain has no default; list them"):
        Plain.features_of(config_of(LONG_TERM))


def test_two_units_of_one_config_share_the_batch_and_keep_their_own_features():
    eleme = schema_of("Eleme_DiffuMIN").to_dict()
    long_term = schema_of("Long_term_DiffuMIN").to_dict()
    both = {
        key: {**eleme[key], "column": list(dict.fromkeys(both_columns))}
        for key in ("label", "cat_feature", "dense_feature", "sequence_feature")
        for both_columns in [eleme[key]["column"] + long_term[key]["column"]]
    }
    schema = DataStruct.from_dict({**both, "id_space": eleme["id_space"] | long_term["id_space"]})
    model, pctr = scores_of(config_of(ELEME, LONG_TERM), schema)
    assert [unit.name for unit in model.units] == ["Eleme_DiffuMIN", "Long_term_DiffuMIN"]
    assert np.isfinite(pctr).all()
    # One column that both read lies in the batch once, and each unit picks its own fields.
    behaviours = [unit.features.behaviours for unit in model.units]
    assert model.layout.behaviours == tuple(dict.fromkeys(behaviours[0] + behaviours[1]))
    assert len(model.layout.behaviours) < len(behaviours[0] + behaviours[1])
    rows = np.arange(1, 8 * 7 + 1).reshape([1, 8, 7])
    group = HistoryGroup(tf.constant(rows, tf.int32), tf.ones([1, 8], tf.bool), tf.range(1))
    history, table = History([group], model.embedding), model.embedding.table.numpy()
    for unit, names in zip(model.units, behaviours, strict=True):
        indices = [model.layout.behaviours.index(name) for name in names]
        embedded, _ = unit.history(Embedded(None, history, None, None)).whole()
        expected = table[rows[:, :, indices]].reshape([1, 8, len(names) * 4])
        np.testing.assert_array_equal(embedded, expected)


def test_a_unit_finds_its_features_wherever_the_layout_put_them():
    schema = schema_of("Long_term_DiffuMIN")
    config = config_of(LONG_TERM)
    layout = FeatureLayout.of(
        Features(
            user=("hour",),
            candidate=("target_aor_id", "target_poi", "target_third_id"),
            behaviours=("aor_id_list", "item_id_list", "third_id_list"),
        ),
        schema,
    )
    unit = Long_term_DiffuMIN(config, layout)
    fields = tf.reshape(tf.range(16.0), [1, 4, 4])
    expected = tf.gather(fields, [2, 3, 1], axis=1)
    np.testing.assert_array_equal(
        unit.select(Embedded(fields, None, None, None), "candidate"), tf.reshape(expected, [1, 12])
    )
    assert unit.partners() == [0, 1, 2]
