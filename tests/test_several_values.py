"""Fields of several values in the whole model: trained, scored, exported and served."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import ConfigError
from diffumin_tf.export.inputs import SignatureInputs
from diffumin_tf.export.signatures import signatures
from diffumin_tf.input.dataset import batch_of
from diffumin_tf.input.fingerprint import fingerprint
from diffumin_tf.input.parsing import parse
from diffumin_tf.input.records import encode
from diffumin_tf.input.vocabulary import read_ids
from diffumin_tf.run.open import create_run
from diffumin_tf.run.train import train_run
from tests import two_devices
from tests.column_records import example_of
from tests.export.stub import Loaded
from tests.several_values import (
    MULTI,
    SEVERAL,
    SEVERAL_FEATURES,
    SEVERAL_SCHEMA,
    several_samples,
)
from tests.small_log import SCHEMA, write_experiment
from tests.small_model import LEAN, build, pctr, raw_batch

COUNT = 40
UNITS = ["handle_rec_unit:Long_term_DiffuMIN"] + [
    f"handle_peer_unit:{name}"
    for name in "NoHistory MeanPooling DIN SIM_hard SIM_soft ETA SDIM TWIN".split()
]
SEARCH = {"search_len": 3, "search_field": "item_list", "num_heads": 2}
SETTINGS = {**LEAN, **SEARCH, "features": SEVERAL_FEATURES}


@pytest.fixture(scope="module")
def small():
    return build(SEVERAL_SCHEMA, **SETTINGS)


def tensors(raw):
    return {name: tf.constant(values) for name, values in raw.items()}


def recorded(model, count=COUNT, schema=SEVERAL_SCHEMA):
    samples = list(encode(SEVERAL_SCHEMA, several_samples(count, seed=3)))
    return SignatureInputs(schema, model.layout, samples)


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_reads_them_and_scores_a_request_as_its_samples(unit):
    model, path = build(SEVERAL_SCHEMA, **SETTINGS, channel_share=True, input_units=[unit])
    inputs = recorded(model)
    raw = inputs.of_one_user(COUNT)
    scores = pctr(model, path(tensors(raw)))
    asked = inputs.request(COUNT)
    assert [len(asked[name]) for name in MULTI] == [1, COUNT, COUNT]
    one = model.predict_click(path.request(tensors(asked)))["pctr"]
    np.testing.assert_allclose(one, scores, atol=1e-6)
    for name in MULTI:
        without = pctr(model, path(tensors({**raw, name: raw[name] * 0})))
        assert np.abs(without - scores).max() > 1e-3, name


def test_a_hard_search_by_a_field_of_several_values_is_refused():
    unit = {"input_units": ["handle_peer_unit:SIM_hard"], "search_field": "category_list"}
    with pytest.raises(ConfigError, match="'category_list' .* as one value: item_list$"):
        build(SEVERAL_SCHEMA, **{**SETTINGS, **unit})


def test_neither_padding_nor_unknown_ids_change_a_bit_of_a_score(small):
    model, path = small
    raw = recorded(model).tensors(COUNT)
    expected = pctr(model, path(tensors(raw)))
    for junk in (0, -7):
        longer = {n: np.pad(raw[n], ((0, 0), (3, 90)), constant_values=junk) for n in MULTI}
        np.testing.assert_array_equal(pctr(model, path(tensors({**raw, **longer}))), expected)
    turned = {name: raw[name][:, ::-1] for name in MULTI}
    np.testing.assert_allclose(pctr(model, path(tensors({**raw, **turned}))), expected, atol=1e-6)


def test_a_list_of_one_id_is_worth_what_a_column_is():
    """The genres stand in the place of the category, next to the behaviours' categories."""
    schema = DataStruct.from_dict(
        {**SCHEMA, "multi_feature": {"column": ["genres"]}, "id_space": {"genres": "category"}}
    )
    features = {**SEVERAL_FEATURES, "user": ["user"], "context": ["hour"]}
    model, path = build(schema, **{**SETTINGS, "features": features})
    model_of_column, path_of_column = build(**LEAN)
    model_of_column.set_weights(model.get_weights())
    raw = raw_batch()
    genres = raw["cat_feature"][:, 2:3]
    expected = pctr(model_of_column, path_of_column(raw))
    np.testing.assert_allclose(pctr(model, path({**raw, "genres": genres})), expected, atol=1e-7)


def batch(path, rows=slice(None)):
    samples = list(encode(SEVERAL_SCHEMA, several_samples(16, seed=5)))[rows]
    return batch_of(SEVERAL_SCHEMA, path, "user", tf.constant(samples, tf.string))


def test_an_update_trains_the_rows_of_the_lists_alone(small):
    model, path = build(SEVERAL_SCHEMA, **SETTINGS)
    inputs, before = batch(path), model.embedding.table.numpy()
    model.update(inputs)
    changed = np.flatnonzero((model.embedding.table.numpy() != before).any(axis=1))
    in_lists = np.concatenate([bags.rows for bags in inputs.multi])
    used = [inputs.fields, *(group.rows for group in inputs.histories)]
    used = np.concatenate([in_lists, *(np.ravel(rows) for rows in used)])
    assert set(in_lists) <= set(changed) <= set(used) and 0 not in changed


@pytest.mark.parametrize("split", [7, 0])
def test_two_replicas_learn_what_one_device_does(split):
    models = []
    for strategy in (tf.distribute.get_strategy(), two_devices.mirrored()):
        with strategy.scope():
            model, path = build(SEVERAL_SCHEMA, **SETTINGS, use_dmig=False)
            model.compile(tf.keras.optimizers.SGD(1.0), tf.keras.optimizers.SGD(1.0))
        models.append(model)
    alone, mirrored = models
    alone.update(batch(path))
    two_devices.run(mirrored.update, [batch(path, slice(split)), batch(path, slice(split, None))])
    table = mirrored.embedding.table.numpy()
    np.testing.assert_allclose(table, alone.embedding.table.numpy(), atol=5e-6)


def test_texts_of_a_field_of_several_values_become_ids_of_its_space():
    content = {
        "label": {"column": ["click"]},
        "cat_feature": {"column": ["item"]},
        "multi_feature": {"column": ["genres"]},
        "id_space": {"genres": "genre"},
        "layout": "columns",
        "kind": {"click": "int64", "item": "int64", "genres": "bytes"},
    }
    rows = [{"click": 1, "item": 7, "genres": ["Drama", "", "7.0"]}, {"click": 0, "item": 8}]
    raw = parse(DataStruct.from_dict(content), tf.constant([example_of(row) for row in rows]))
    np.testing.assert_array_equal(raw["genres"].row_lengths(), [3, 0])
    expected = fingerprint("genre", np.array(["Drama", "", "7"]))
    np.testing.assert_array_equal(raw["genres"].values, expected)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    exp = write_experiment(
        tmp_path_factory.mktemp("several"),
        embedding={"kind": "vocabulary", "min_count": 2},
        **SEVERAL,
        **LEAN,
    )
    run = create_run(str(exp), str(exp.parent / "model"), report=lambda line: None)
    train_run(run, lambda line: None)
    return run


def test_a_trained_run_is_exported_checked_and_served_as_it_was_evaluated(run):
    expected = run.score("test").pctr
    assert expected.std() > 1e-3
    counted = read_ids(f"{run.model_dir}/vocabulary.txt")
    assert {first + i for first in MULTI.values() for i in range(8)} <= set(counted)
    samples = list(encode(SEVERAL_SCHEMA, several_samples(160, seed=3)))
    inputs = SignatureInputs(run.schema, run.model.layout, samples)
    served = Loaded(run.export(check=True)).run
    for name, asked in (("serving_default", inputs.tensors), ("examples", inputs.examples)):
        scores = next(iter(served(name, asked(160)).values()))
        np.testing.assert_allclose(np.sort(scores), np.sort(expected), atol=1e-6, err_msg=name)
    for count in (0, 1, 30):
        raw = inputs.of_one_user(count or 1)
        raw = {name: values[:count] for name, values in raw.items()}
        asked = inputs.request(count or 1)
        for name in ("candidate", "genres", "context", "words", "dense_feature"):
            asked[name] = asked[name][:count]
        one, each = served("request", asked), served("serving_default", raw)
        np.testing.assert_allclose(one["pctr"], each["pctr"], atol=1e-6)


@pytest.fixture(scope="module")
def request_signature(small):
    model, path = small
    return signatures(model, SEVERAL_SCHEMA, path)["request"]


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("tags", 4, "input tags: must have the shape .1, any."),
        ("genres", 1, "input genres: must have as many rows as candidate"),
        ("genres", 3, "input genres: must have as many rows as candidate"),
        ("words", 3, "input words: must have 1 row or as many rows as candidate"),
        ("words", 1, None),
    ],
)
def test_lists_have_the_rows_of_their_role(small, request_signature, name, rows, message):
    asked, request = recorded(small[0]).request(4), request_signature
    asked[name] = np.full([rows, 2], 7)
    if message:
        with pytest.raises((tf.errors.InvalidArgumentError, TypeError), match=message):
            request(**tensors(asked))
    else:
        each = request(**tensors({**asked, name: asked[name].repeat(4, 0)}))["pctr"]
        np.testing.assert_array_equal(request(**tensors(asked))["pctr"], each)
