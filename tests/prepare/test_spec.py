"""prepare.json: what is accepted, and what every error names."""

import copy
import json
import pathlib

import pytest

from diffumin_tf.errors import ConfigError
from diffumin_tf.prepare.spec import load_spec, tables
from tests.prepare.small_tables import SPEC, write_spec

EXPERIMENTS = pathlib.Path(__file__).parents[2] / "exp" / "user1"
ELEME = {"adapter": "eleme", "files": {"20220407": "D1_0.csv", "20220408": ["a.csv", "b.csv"]}}


@pytest.fixture
def load(tmp_path):
    return lambda content: load_spec(write_spec(tmp_path, content))


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


def test_the_example_of_the_docstring_is_valid(load):
    example = tables.__doc__.split("::\n")[1]
    assert load(json.loads(example)).behaviour == ["video", "author", "tag", "watched"]


def test_a_plain_name_is_a_field_of_that_column(load):
    sources = [f.source for f in load(SPEC).impressions.fields]
    assert sources == ["tab", "watched", None, None]


def test_history_and_candidate_share_a_space(load):
    spec = load(changed("spaces", {"tag_list": "word"}))
    assert (spec.space("tag"), spec.space("vid")) == ("word", "vid")


def test_separators_are_passed_over(load):
    assert load(changed("--- tables ---", "")) == load(SPEC)


def test_the_files_of_eleme_become_lists_by_day(load):
    assert load(ELEME).files == {"20220407": ["D1_0.csv"], "20220408": ["a.csv", "b.csv"]}
    assert load(changed("files", "e_{yyyymmdd}.zip", ELEME)).files == "e_{yyyymmdd}.zip"


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("max_length", 5, ["'max_length'", "5", "'max_len'"]),
        ("impressions.tiem", "ms", ["impressions: ", "'tiem'", "'ms'", "'time'"]),
        ("impressions.label.at_lest", 4, ["impressions.label: ", "'at_lest'", "4", "'at_least'"]),
        ("users.fields", [{"name": "x", "log": 1}], ["users.fields.0", "'log'", "'log1p'"]),
        ("zzz", 1, ["'zzz'", "known keys"]),
        ("max_len", 0, ["max_len", "0"]),
        ("days", ["20220508", "20220425"], ["20220508 is after 20220425"]),
        ("max_len", "10", ["max_len", "'10'"]),
        ("max_bad_fraction", 2, ["max_bad_fraction", "2"]),
        ("adapter", "elem", ["adapter", "'elem'", "'eleme'"]),
        ("impressions.time_unit", "min", ["impressions.time_unit", "'min'", "'ms'"]),
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
        ("users.fields", ["city", "fans", "log_fans", "author"], ["two fields", "'author'"]),
        ("events", [{**SPEC["events"][0], "fields": ["tag"]}], ["event table", "'tag'"]),
        ("users.fields", ["fans", "log_fans", {"name": "city", "log1p": True}], ["'city'"]),
        ("users.fields", ["fans", "log_fans", {"name": "city", "time": "hour"}], ["no time"]),
        ("users.fields", [{"name": "x", "bucket": [3, 1]}], ["'x'", "rise"]),
        ("users.fields", [{"name": "x", "bucket": "log2", "split": ","}], ["'x'", "together"]),
        ("files", "eleme.csv", ["files", "'eleme.csv'", "{yyyymmdd}"]),
        ("files", {}, ["files"]),
        ("files", {"2022-04-07": "a.csv"}, ["files", "'2022-04-07'", "yyyymmdd"]),
        ("files", {"20220407": 3}, ["files", "20220407", "3"]),
        ("list_order", "newest", ["list_order", "'newest'", "'newest_first'"]),
        ("list_ordr", "auto", ["'list_ordr'", "'list_order'"]),
    ],
)
def test_an_error_names_file_key_value_and_remedy(load, key, value, parts):
    spec = ELEME if key in ("files", "list_order", "list_ordr") else SPEC
    with pytest.raises(ConfigError) as raised:
        load(changed(key, value, spec))
    for part in ["prepare.json: ", *parts]:
        assert part in str(raised.value)


def test_behaviours_that_come_from_nowhere_are_refused(load):
    with pytest.raises(ConfigError, match="no history"):
        load({**SPEC, "behaviour": ["vid"], "events": [], "impressions_are_events": None})
