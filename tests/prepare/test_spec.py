"""prepare.json: what is accepted, and what every error names."""

import copy
import json
import pathlib

import pytest

from diffumin_tf.errors import ConfigError
from diffumin_tf.prepare import spec as prepare_spec
from diffumin_tf.prepare.spec import ElemeSpec, TablesSpec, load_spec

EXPERIMENTS = pathlib.Path(__file__).parents[2] / "exp" / "user1"
SPEC = {
    "impressions": {
        "file": "shown.csv",
        "user": "uid",
        "item": "vid",
        "time": "ms",
        "label": {"column": "click"},
        "outcomes": ["watched"],
        "fields": ["tab", "watched", {"name": "hour", "time": "hour"}],
    },
    "impressions_are_events": {},
    "users": {"file": "users.csv", "key": "uid", "fields": ["city", "fans"]},
    "items": {"file": "items.csv", "key": "vid", "fields": ["author"]},
    "cat_feature": ["uid", "vid", "author", "city", "tab", "hour"],
    "dense_feature": ["fans"],
    "behaviour": ["vid", "author", "watched"],
    "max_len": 10,
}
ELEME = {"adapter": "eleme", "files": {"20220407": "D1_0.csv", "20220408": ["a.csv", "b.csv"]}}


def load(tmp_path, content):
    path = tmp_path / "prepare.json"
    path.write_text(json.dumps(content))
    return load_spec(str(path))


def changed(key, value, spec=SPEC):
    """The spec with the value at a dotted key replaced."""
    content = copy.deepcopy(spec)
    block = content
    *path, last = key.split(".")
    for step in path:
        block = block[step]
    block[last] = value
    return content


@pytest.mark.parametrize(
    "path", sorted(EXPERIMENTS.glob("*/prepare.json")), ids=lambda p: p.parent.name
)
def test_the_specs_of_the_experiments_are_valid(path):
    assert load_spec(str(path))


def test_the_example_of_the_docstring_is_valid(tmp_path):
    example = prepare_spec.__doc__.split("::\n")[1].split("\n\n`")[0]
    assert load(tmp_path, json.loads(example)).behaviour == ["video", "author", "tag", "watched"]


def test_a_plain_name_is_a_field_of_that_column(tmp_path):
    spec = load(tmp_path, SPEC)
    assert isinstance(spec, TablesSpec)
    assert [f.source for f in spec.impressions.fields] == ["tab", "watched", None]


def test_history_and_candidate_share_a_space(tmp_path):
    spec = load(tmp_path, changed("spaces", {"author_list": "person"}))
    assert (spec.space("author"), spec.space("vid")) == ("person", "vid")


def test_separators_are_passed_over(tmp_path):
    assert load(tmp_path, changed("--- tables ---", "")) == load(tmp_path, SPEC)


def test_the_files_of_eleme_become_lists_by_day(tmp_path):
    spec = load(tmp_path, ELEME)
    assert isinstance(spec, ElemeSpec)
    assert spec.files == {"20220407": ["D1_0.csv"], "20220408": ["a.csv", "b.csv"]}
    assert load(tmp_path, changed("files", "e_{yyyymmdd}.zip", ELEME)).files == "e_{yyyymmdd}.zip"


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("max_length", 5, ["'max_length'", "5", "'max_len'"]),
        ("impressions.tiem", "ms", ["impressions: ", "'tiem'", "'ms'", "'time'"]),
        ("impressions.label.at_lest", 4, ["impressions.label: ", "'at_lest'", "4", "'at_least'"]),
        ("users.fields", [{"name": "x", "log": 1}], ["users.fields.0", "'log'", "'log1p'"]),
        ("zzz", 1, ["'zzz'", "known keys"]),
        ("max_len", 0, ["max_len", "0"]),
        ("max_len", "10", ["max_len", "'10'"]),
        ("max_bad_fraction", 2, ["max_bad_fraction", "2"]),
        ("adapter", "elem", ["adapter", "'elem'", "'eleme'"]),
        ("impressions.time_unit", "us", ["impressions.time_unit", "'us'", "'ms'"]),
        ("days", ["20220425", "20220431"], ["days.1", "'20220431'", "yyyymmdd"]),
        ("cat_feature", ["uid", "autor"], ["cat_feature", "'autor'", "'author'"]),
        ("cat_feature", ["uid", "uid"], ["cat_feature", "'uid'", "twice"]),
        ("behaviour", ["vid", "city"], ["behaviour", "'city'"]),
        ("spaces", {"autor": "x"}, ["spaces", "'autor'", "'author'"]),
        ("cat_feature", ["uid", "watched"], ["cat_feature", "'watched'", "outcome"]),
        ("cat_feature", ["uid", "click"], ["cat_feature", "'click'", "outcome"]),
        ("impressions.fields", [{"name": "tab", "column": "watched"}], ["'tab'", "outcome"]),
        ("dense_feature", ["watched"], ["dense_feature", "'watched'", "outcome"]),
        ("dense_feature", ["hour"], ["dense_feature", "'hour'", "category"]),
        ("users.fields", ["city", "fans", "author"], ["two fields", "'author'"]),
        ("users.fields", ["fans", {"name": "city", "log1p": True}], ["'city'", "log1p"]),
        ("users.fields", [{"name": "x", "bucket": [3, 1]}], ["'x'", "rise"]),
        ("users.fields", [{"name": "x", "bucket": "log2", "split": ","}], ["'x'", "together"]),
        ("impressions_are_events", None, ["no history"]),
    ],
)
def test_an_error_names_file_key_value_and_remedy(tmp_path, key, value, parts):
    content = changed(key, value)
    if key == "impressions_are_events":
        content["behaviour"] = ["vid"]
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, content)
    for part in ["prepare.json: ", *parts]:
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("files", "eleme.csv", ["files", "'eleme.csv'", "{yyyymmdd}"]),
        ("files", {}, ["files"]),
        ("files", {"2022-04-07": "a.csv"}, ["files", "'2022-04-07'", "yyyymmdd"]),
        ("files", {"20220407": 3}, ["files", "20220407", "3"]),
        ("list_order", "newest", ["list_order", "'newest'", "'newest_first'"]),
        ("list_ordr", "auto", ["'list_ordr'", "'list_order'"]),
    ],
)
def test_an_error_in_an_eleme_spec_says_what_is_wrong(tmp_path, key, value, parts):
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, changed(key, value, ELEME))
    for part in ["prepare.json: ", *parts]:
        assert part in str(raised.value)
