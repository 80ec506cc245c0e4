"""One user and N candidates in one request score as N samples do; other shapes are refused."""

import types

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.errors import ConfigError
from diffumin_tf.export.inputs import SignatureInputs
from diffumin_tf.export.signatures import signatures
from diffumin_tf.input.features import FeatureLayout
from diffumin_tf.input.records import encode
from tests.small_log import samples
from tests.small_model import LEAN, SCHEMA_OBJECT, build

UNITS = ["handle_rec_unit:Long_term_DiffuMIN"] + [
    f"handle_peer_unit:{name}"
    for name in "NoHistory MeanPooling DIN SIM_hard SIM_soft ETA SDIM TWIN".split()
]
SEARCH = {"search_len": 3, "search_field": "category_list", "num_heads": 2}
# The first column of the user is the candidate's too, and the hour is of two roles.
OVERLAP = {
    "user": ["user", "item"],
    "candidate": ["item", "category", "hour"],
    "context": ["hour"],
    "behaviours": ["fixed_list", "category_list"],
    "dense": [],
}


def requests_of(model):
    recorded = list(encode(SCHEMA_OBJECT, samples(40, seed=3)))
    return SignatureInputs(SCHEMA_OBJECT, model.layout, recorded)


def tensors(raw):
    return {name: tf.constant(values) for name, values in raw.items()}


def assert_scores_as_its_samples(model, path, count):
    requests = requests_of(model)
    one = model.predict_click(path.request(tensors(requests.request(count))))
    each = model.predict_click(path(tensors(requests.of_one_user(count))))
    for name in ("pctr", "rectified_pctr"):
        np.testing.assert_allclose(one[name], each[name], atol=1e-6)
    assert np.std(one["pctr"]) > 1e-3 or count == 1


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_scores_a_request_as_its_samples(unit):
    model, path = build(**LEAN, **SEARCH, input_units=[unit], channel_share=True)
    for count in (1, 40):
        assert_scores_as_its_samples(model, path, count)


def test_columns_of_several_roles_and_histories_in_fixed_columns():
    model, path = build(**LEAN, features=OVERLAP)
    roles = {"user": ("user",), "candidate": ("item", "category", "hour"), "context": ()}
    assert model.layout.roles == roles
    asked = requests_of(model).request(2)
    assert set(asked) == {"user", "candidate", "fixed_list", "category_list"}
    assert_scores_as_its_samples(model, path, 20)


@pytest.fixture(scope="module")
def asking(scoring):
    """A signature that takes changes of a request with some candidates; and its samples' scores."""
    model, path = scoring
    request = signatures(model, SCHEMA_OBJECT, path)["request"]
    requests = requests_of(model)

    def ask(count, **changes):
        return request(**tensors({**requests.request(count), **changes}))["pctr"].numpy()

    def ask_each(count, **changes):
        raw = requests.of_one_user(count)
        changes = {name: ids.repeat(count, 0) for name, ids in changes.items()}
        return model.predict_click(path(tensors({**raw, **changes})))["pctr"]

    return ask, ask_each, requests.request


@pytest.mark.parametrize(
    ("count", "length"),
    [(1, 5), (2, 0), (3, 1), (6, 10), (100, 11), (999, 12), (1000, 300)],
)
def test_any_number_of_candidates_and_any_length_of_the_history(asking, count, length):
    ask, ask_each, _ = asking
    ids = np.arange(100, 100 + length)[np.newaxis] % 40 + 100
    history = {"item_list": ids, "category_list": 200 + ids % 8}
    found = ask(count, **history)
    assert found.shape == (count,)
    np.testing.assert_allclose(found, ask_each(count, **history), atol=1e-6)


def test_what_all_candidates_share_may_be_sent_once(asking):
    ask, _, request = asking
    once = {name: request(5)[name][:1] for name in ("context", "dense_feature")}
    every = {name: values.repeat(5, 0) for name, values in once.items()}
    np.testing.assert_array_equal(ask(5, **once), ask(5, **every))


def test_no_candidate_gets_no_score(asking):
    ask, _, request = asking
    none = {name: request(1)[name][:0] for name in ("candidate", "context")}
    assert ask(1, **none).shape == (0,)


def test_unknown_ids_negative_ids_and_values_that_are_no_numbers_count_as_missing(asking):
    ask, _, request = asking
    known = request(4)["candidate"]
    odd = np.array([[np.nan], [np.inf], [-np.inf], [0.0]], np.float32)
    found = ask(4, candidate=-np.abs(known) - 1, dense_feature=odd)
    missing = ask(4, candidate=known * 0, dense_feature=np.zeros_like(odd))
    np.testing.assert_array_equal(found, missing)


# Python would refuse some of these shapes; a graph in a session does not.
WRONG = {
    ("request", "user"): [(1, 2), (2, 1), (0, 1), ()],
    ("request", "candidate"): [(4, 3), (2, 2, 2)],
    ("request", "context"): [(3, 1)],
    ("request", "dense_feature"): [(4, 2)],
    ("request", "item_list"): [(5,)],
    ("serving_default", "cat_feature"): [(4, 9), (4, 7)],
    ("serving_default", "dense_feature"): [(4, 2), (3, 1)],
}


@pytest.mark.parametrize(
    ("signature", "name", "shape"),
    [(*key, shape) for key, shapes in WRONG.items() for shape in shapes],
)
def test_an_input_of_a_wrong_shape_is_named(loaded, inputs, signature, name, shape):
    asked = inputs.request(4) if signature == "request" else inputs.tensors(4)
    asked[name] = np.zeros(shape, asked[name].dtype)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"input {name}: must have"):
        loaded.run(signature, asked)


@pytest.mark.parametrize("name", ["user", "dense_feature"])
def test_a_history_field_cannot_have_the_name_of_another_input(name):
    layout = FeatureLayout((), (name,), (), {}, {"user": (), "candidate": (), "context": ()})
    with pytest.raises(ConfigError, match=f"a field cannot be called '{name}'"):
        signatures(types.SimpleNamespace(layout=layout), SCHEMA_OBJECT, None)
