"""What the adapter `joined` refuses or tells of: columns, specs, files, users, days, items."""

import os
import re

import pyarrow as pa
import pytest

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.prepare.command import prepare
from tests.prepare.joined_files import T0, rows, write_file, write_spec


def shown(**values):
    """Columns of one row with one impression, in which `values` are set."""
    impression = {"click": 1, "time": T0, "newer": 0, "sku": "7", "hour": 1, "price": 1.0}
    impression |= {"genres": ["a"], **values}
    return {"impressions": pa.array([[{k: v for k, v in impression.items() if v != "no"}]])}


@pytest.mark.parametrize(
    ("table", "trouble"),
    [
        (shown(click=2), "row 0, impression 0 .*: click is 2; it must be 0 or 1"),
        (shown(click=0.5), "click is 0.5; it must be 0 or 1"),
        (shown(click=None), "click is None; it must be 0 or 1"),
        (shown(click="1"), "column 'click' must hold numbers, not string"),
        (shown(clik=1, click="no"), "no column 'click'; did you mean 'clik'"),
        (shown(newer=-1), "newer is -1; it must count"),
        (shown(newer=3), "newer is 3; it must count the newer ones of sku_list, 0 to its length"),
        (shown(newer=None), "newer is None; it must count"),
        (shown(newer="no"), "no column 'newer'"),
        (shown(order=None), "column 'order' must|order is None"),
        (shown(time=None), "time is None; it must be a time"),
        (shown(time=T0 // 1000), f"time is {T0 // 1000}; it should lie in 1990 … 2100"),
        (shown(sku={"a": 1}), "column 'sku' must hold values, not struct"),
        (shown(price="cheap"), "column 'price' must hold numbers, not string"),
        (shown(genres="a|b"), "column 'genres' must hold lists of values, not string"),
        (shown(city="rome"), "column 'city' stands in 'impressions' and beside it"),
        ({"impressions": pa.array([[None, shown()["impressions"][0][0].as_py()]])}, "no impres"),
        ({"impressions": pa.array([[1]])}, "impressions must be a list of structs: list"),
        ({"impressions": None}, "no column 'impressions'.*set \"impressions\": null"),
        ({"uid": pa.array([""])}, "uid is ''; it is missing"),
        ({"uid": pa.array([None], pa.string())}, "uid is None; it is missing"),
        ({"uid": None}, "no column 'uid'"),
        ({"sku_list": pa.array([["1"]])}, "row 0 .*: sku_list has 1 entries and brand_list 2"),
        ({"sku_list": pa.array(["1,2"])}, "column 'sku_list' must hold lists of values, not str"),
        ({"sku_list": pa.array([[{"a": 1}, None]])}, "must hold lists of values, not list<"),
        ({"brand_list": None}, "no column 'brand_list'; did you mean"),
    ],
)
def test_what_cannot_be_right_is_one_error_and_leaves_nothing(tmp_path, table, trouble):
    row = {"uid": "u", "city": "rome", "age": 1, "tags": [], "impressions": []}
    row |= {"sku_list": ["1", "2"], "brand_list": [1.0, 2.0]}
    table = {**shown(), **table}
    write_file(tmp_path / "in", "log.parquet", [row], **table)
    with pytest.raises(DataError, match=f"in/log.parquet: .*({trouble})"):
        prepare(write_spec(tmp_path), str(tmp_path / "in"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists() or os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("changes", "trouble"),
    [
        ({"time_unit": None}, f'time holds numbers, {T0}: give "time_unit"'),
        ({"day": "city"}, "city is 'rome'; it must be a day"),
        ({"label": {"column": "sku", "at_least": 3}}, "the label 'sku' is a feature too"),
        ({"behaviour": ["sku", "sku"]}, "'sku' is listed twice"),
        ({"spaces": {"skus": "sku"}}, "there is no field 'skus'; did you mean 'sku'"),
        ({"files": "*.pq"}, "no file fits '\\*.pq'; there are log.parquet"),
        ({"parts": 2}, "unknown key 'parts'"),
        ({"impressions": None, "group": "user_day"}, "group: 'user_day' needs rows that list"),
        ({"group": "user"}, "group: Input should be 'user_day' or 'none', got 'user'"),
    ],
)
def test_a_spec_that_does_not_fit_is_one_error(tmp_path, changes, trouble):
    row = {"uid": "u", "city": "rome", "age": 1, "tags": [], "impressions": []}
    row |= {"sku_list": ["1", "2"], "brand_list": [1.0, 2.0]}
    write_file(tmp_path / "in", "log.parquet", [row], **shown())
    with pytest.raises((ConfigError, DataError), match=trouble):
        prepare(write_spec(tmp_path, **changes), str(tmp_path / "in"), str(tmp_path / "out"))


def test_a_torn_or_empty_input_is_one_error(tmp_path):
    (tmp_path / "in").mkdir()
    paths = write_spec(tmp_path), str(tmp_path / "in"), str(tmp_path / "out")
    with pytest.raises(DataError, match="in: no file fits"):
        prepare(*paths)
    write_file(tmp_path / "in", "a.parquet", [])
    with pytest.raises(DataError, match="in: no file holds an impression"):
        prepare(*paths)
    (tmp_path / "in" / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="in/b.parquet: cannot be read"):
        prepare(*paths)


def _spoilt(change):
    """Rows of 200 users; `change` gets each with its impressions."""
    content = rows(users=200)
    for row in content:
        change(row, row["impressions"] or ())
    return content


def _click_is_in_the_past(row, shown):
    for impression in shown:
        impression["newer"] = 0
        clicked = impression["click"] and row["sku_list"]
        impression["sku"] = row["sku_list"][0] if clicked else "other"


def test_clicked_candidates_in_their_own_history_are_refused_unless_allowed(tmp_path):
    write_file(tmp_path / "in", "a.parquet", _spoilt(_click_is_in_the_past))
    folders = str(tmp_path / "in"), str(tmp_path / "out")
    with pytest.raises(DataError, match='own history in 5.%.*and in 0%.*"own_item"'):
        prepare(write_spec(tmp_path), *folders)
    manifest = prepare(write_spec(tmp_path, allow=["own_item"]), *folders)
    assert "own history" in manifest["data"]["warnings"][0]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("a.parquet", lambda row, shown: row.update(uid="null"), "'uid' of 100.0%.*null"),
        ("dt=2022-05-02/a.parquet", lambda row, shown: None, "'dt' of 100%.*utc_offset_hours"),
    ],
)
def test_users_that_are_none_and_other_days_are_told(tmp_path, name, change, words):
    write_file(tmp_path / "in", name, _spoilt(change))
    spec = write_spec(tmp_path, day="dt" if "dt" in name else None)
    manifest = prepare(spec, str(tmp_path / "in"), str(tmp_path / "out"))
    assert any(re.search(words, line) for line in manifest["data"]["warnings"])


def test_a_delta_table_is_refused(tmp_path):
    write_file(tmp_path / "in", "a.parquet", rows())
    write_file(tmp_path / "in", "_delta_log/1.checkpoint.parquet", rows())
    with pytest.raises(DataError, match="_delta_log.*Delta table"):
        prepare(write_spec(tmp_path), str(tmp_path / "in"), str(tmp_path / "out"))
