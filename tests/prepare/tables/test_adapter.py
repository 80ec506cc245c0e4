"""The adapter `tables`: what a record holds, and every way in which a table can be wrong."""

import gzip
import json
import os
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.prepare.command import prepare, print_sql
from tests.prepare.prepared import ids, read_samples, visible_files
from tests.prepare.small_tables import DAY, FILES, SPEC, T0, write_spec


def test_a_record_holds_joined_features_and_the_point_in_time_history(tables):
    prepare(*tables)
    sample = read_samples(tables[2], "20220425")[2]  # ann, 3, T0 + 7
    expected = {
        **{"uid": "ann", "vid": "3", "author": "x", "tag": "", "length": "2", "length_class": "1"},
        **{"city": "a,b", "tab": "feed", "hour": "7", "weekday": "0"},
    }
    schema = DataStruct.load(f"{tables[2]}/data_struct.json")
    assert schema.cat_feature == tuple(expected)
    assert schema.stored_once == ("user_id", "uid", "city", *SPEC["dense_feature"])
    for position, (name, text) in enumerate(expected.items()):
        assert sample["cat_feature"][position] == ids(schema.id_space(name), text)[0], name
    assert sample["label"] == [1]
    assert sample["auxiliary_info"] == [*ids("uid", "ann"), (T0 + 7) // 1000]
    np.testing.assert_allclose(sample["dense_feature"], [3, np.log1p(3)], rtol=1e-6)
    # Newest first: the impression at T0 + 5, then the exposures at T0 by "no"; the impression at
    # the same moment and the fourth behaviour are out.
    assert sample["vid_list"] == ids("vid", "1", "2", "1")
    assert sample["tag_list"] == ids("tag", "t1", "t2", "t1")
    assert sample["watched_list"] == ids("watched", "1", "0", "1")
    assert sample["tab_list"] == [*ids("tab", "home"), 0, 0]


def test_ties_follow_the_order_columns_then_the_tables_then_the_lines(tmp_path):
    rng = np.random.default_rng(0)
    events = [(T0 + t, 0, a, b, n) for n, (t, a, b) in enumerate(rng.integers(0, 4, (300, 3)))]
    shown = [(T0 + t, 1, 0, 0, n) for n, t in enumerate(rng.integers(0, 5, 60))]
    lines = [f"u{n % 3},e{n},{t},{a},{b}" for t, _, a, b, n in events]
    (tmp_path / "events.csv").write_text("\n".join(["u,v,t,a,b", *lines]))
    lines = [f"u{n % 3},s{n},{t},{n % 2}" for t, _, _, _, n in shown]
    (tmp_path / "shown.csv").write_text("\n".join(["u,v,t,click", *lines]))
    table = {"user": "u", "item": "v", "time_unit": "ms"}
    spec = {
        "impressions": {**table, "file": "shown.csv", "time": "t", "label": {"column": "click"}},
        "impressions_are_events": {},
        "events": [{**table, "file": "events.csv", "order_by": ["t", "a", "b"]}],
        "cat_feature": ["v"],
        "behaviour": ["v"],
        "max_len": 40,
    }
    prepare(write_spec(tmp_path, spec), str(tmp_path), str(tmp_path / "out"))
    samples = {s["cat_feature"][0]: s for s in read_samples(tmp_path / "out", "20220424")}
    for now, _, _, _, n in shown:
        past = [e for e in (*events, *shown) if e[4] % 3 == n % 3 and e[0] < now]
        newest = sorted(past, reverse=True)[:40]
        assert samples[ids("v", f"s{n}")[0]]["v_list"] == ids(
            "v", *(f"{'es'[e[1]]}{e[4]}" for e in newest)
        )


def test_missing_values_become_0(tables):
    def missing(sample):
        ids_by_name = zip(SPEC["cat_feature"], sample["cat_feature"], strict=True)
        return [name for name, i in ids_by_name if i == 0]

    prepare(*tables)
    _, ann, _, bob = read_samples(tables[2], "20220425")
    assert missing(ann) == ["length", "length_class", "tab"]
    assert missing(bob) == ["length", "length_class", "city"] and bob["dense_feature"] == [-5, 0]
    assert bob["vid_list"] == ids("vid", "7") and bob["watched_list"] == [0]
    cat, _ = read_samples(tables[2], "20220426")
    assert missing(cat) == ["author", "tag", "length", "length_class", "city"]
    assert cat["vid_list"] == [] and cat["dense_feature"] == [0, 0]


def test_users_of_a_day_keep_the_order_of_the_file_and_the_manifest_counts_its_rows(tables):
    manifest = prepare(*tables)
    first, second = (read_samples(tables[2], day) for day in ("20220425", "20220426"))
    assert [s["auxiliary_info"][0] for s in first] == ids("uid", "ann", "ann", "ann", "bob")
    assert [s["auxiliary_info"][0] for s in second] == ids("uid", "cat", "ann")
    # Only impressions that `keep_where` keeps are behaviours.
    assert second[1]["vid_list"] == ids("vid", "3", "1", "2")
    rows = {"users.csv": 2, "items.csv": 3, "shown.csv": 6, "earlier.csv": 5}
    assert {file: t["rows"] for file, t in manifest["data"]["tables"].items()} == rows
    with open(f"{tables[2]}/manifest.json") as file:
        assert json.load(file) == manifest


def test_seconds_gzip_parquet_and_a_label_threshold(tmp_path):
    rows = [f"u,{i},{rating},{T0 // 1000 + i}" for i, rating in enumerate((3.5, 4, 5))]
    text = "userid,movieid,rating,timestamp\n" + "\n".join(rows) + "\n"
    (tmp_path / "ratings.csv.gz").write_bytes(gzip.compress(text.encode()))
    pq.write_table(pa.table({"movieId": [0, 1], "genre": ["a", None]}), tmp_path / "m.parquet")
    spec = {
        "impressions": {
            **{"file": "ratings.csv.gz", "user": "userid", "item": "movieid"},
            **{"time": "timestamp", "time_unit": "s"},
            "label": {"column": "rating", "at_least": 4},
            "fields": ["rating"],
        },
        "impressions_are_events": {"keep_where": {"column": "rating", "equals": "3.5"}},
        "items": {"file": "m.parquet", "key": "movieId", "fields": ["genre"]},
        "cat_feature": ["userid", "movieid", "genre"],
        "behaviour": ["movieid", "genre", "rating"],
        "max_len": 9,
    }
    prepare(write_spec(tmp_path, spec), str(tmp_path), str(tmp_path / "out"))
    samples = read_samples(tmp_path / "out", "20220424")
    assert [s["label"] for s in samples] == [[0], [1], [1]]
    assert samples[2]["movieid_list"] == ids("movieid", "0")
    assert samples[2]["rating_list"] == ids("rating", "3.5")
    assert samples[1]["cat_feature"][2] == 0
    assert samples[1]["auxiliary_info"][1] == T0 // 1000 + 1


def test_the_day_may_come_from_a_column_and_days_bound_what_is_written(tables, tmp_path):
    header, *lines = FILES["shown.csv"].splitlines()
    dated = [f"{line},2022-05-0{i}" for i, line in enumerate(lines, 1)]
    (tmp_path / "in" / "shown.csv").write_text("\n".join([header + ",date", *dated]))
    impressions = {**SPEC["impressions"], "day": "date"}
    spec = {**SPEC, "impressions": impressions, "days": ["20220502", "20220503"]}
    manifest = prepare(write_spec(tmp_path, spec), *tables[1:])
    assert list(manifest["days"]) == ["20220502", "20220503"]
    assert manifest["data"]["outside_of_days"] == 4
    # Impressions of days that are not written are still behaviours.
    assert read_samples(tables[2], "20220503")[0]["vid_list"][0] == ids("vid", "1")[0]


def test_days_are_local_days_and_one_of_them_must_have_impressions(tables, tmp_path):
    spec = write_spec(tmp_path, {**SPEC, "utc_offset_hours": 0})
    assert list(prepare(spec, *tables[1:])["days"]) == ["20220424", "20220425"]
    spec = write_spec(tmp_path, {**SPEC, "days": ["20230101", "20231231"]})
    with pytest.raises(DataError, match="no impression lies within the days"):
        prepare(spec, tables[1], str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("file", "line", "reason"),
    [
        ("shown.csv", "ann,1,soon,home,1,1", "ms is no time in ms since 1970"),
        ("shown.csv", f"ann,1,{T0}000,home,1,1", "ms is no time in ms since 1970"),
        ("shown.csv", f"ann,1,{T0},home,2,1", "label click is neither 0 nor 1"),
        ("shown.csv", f"ann,1,{T0},home,,1", "label click is neither 0 nor 1"),
        ("shown.csv", f",1,{T0},home,1,1", "uid is missing"),
        ("shown.csv", f"ann,1,{T0},home,1", "5 columns instead of 6"),
        ("earlier.csv", f"ann,1,{T0},last,1", "no is no number"),
        ("users.csv", "ann,rome,1", "uid stands twice"),
    ],
)
def test_bad_lines_are_counted_up_to_the_limit_and_fail_above_it(
    tables, tmp_path, file, line, reason
):
    with open(tmp_path / "in" / file, "a") as table:
        table.write(line + "\n")
    lines = FILES[file].count("\n")
    with pytest.raises(DataError, match=f"{file}: 1 of {lines} rows(.|\n)*line {lines + 1}, "):
        prepare(*tables)
    assert visible_files(tables[2]) == {}
    tolerant = write_spec(tmp_path, {**SPEC, "max_bad_fraction": 0.5})
    account = prepare(tolerant, *tables[1:])["data"]["tables"][file]
    assert account["bad_by_reason"] == {reason: 1}
    assert account["first_bad"] == [{"line": lines + 1, "reason": reason, "text": line}]


@pytest.mark.parametrize("file", sorted(FILES))
def test_a_missing_table_is_one_clear_error(tables, tmp_path, file):
    os.remove(tmp_path / "in" / file)
    with pytest.raises(DataError, match=f"no file fits {file!r}; (did you mean|there are)"):
        prepare(*tables)


def grown(folder, *lines, table="shown.csv"):
    with open(f"{folder}/{table}", "a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def test_a_log_that_grew_by_a_day_gives_that_day_and_leaves_the_others_alone(tables):
    prepare(*tables)
    before = visible_files(tables[2])
    grown(tables[1], f"bob,3,{T0 + 2 * DAY},feed,1,1", f"ann,2,{T0 + 2 * DAY + 9},feed,0,0")
    grown(tables[1], f"bob,1,{T0 + 2 * DAY - 1},5,1", table="earlier.csv")
    manifest = prepare(*tables)
    assert list(manifest["days"]) == ["20220425", "20220426", "20220427"]
    after = visible_files(tables[2])
    assert {name: content for name, content in after.items() if name in before} == before
    assert read_samples(tables[2], "20220427")[0]["vid_list"][0] == ids("vid", "1")[0]


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("shown.csv", f"bob,3,{T0 + 6},feed,1,1"),  # one more impression of a complete day
        ("earlier.csv", f"bob,3,{T0 + 1},5,1"),  # a behaviour that it would see
    ],
)
def test_a_complete_day_whose_past_changed_is_refused(tables, table, line):
    prepare(*tables)
    before = visible_files(tables[2])
    grown(tables[1], line, table=table)
    with pytest.raises(DataError, match="2022042[56]: comes from other inputs; remove it"):
        prepare(*tables)
    assert visible_files(tables[2]) == before


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("earlier.csv", f"bob,3,{T0 + 6},5,1"),  # after the last impression of its user
        ("items.csv", "9,z,t9,5"),  # side tables change with every export
        ("users.csv", "cat,rome,1"),
    ],
)
def test_complete_days_are_kept_where_nothing_that_they_saw_changed(tables, table, line):
    prepare(*tables)
    before = visible_files(tables[2])
    grown(tables[1], line, table=table)
    warnings = prepare(*tables)["data"]["warnings"]
    assert warnings[-1].startswith("2 complete days are kept, with the users and items of when")
    assert visible_files(tables[2]) == before


def test_the_joined_form_alone_encodes_to_the_same_samples(tables, tmp_path):
    prepare(*tables)
    prepare(*tables[:2], str(tmp_path / "form"), join_only=True)
    spec = str(tmp_path / "form" / "prepare.json")
    prepare(spec, str(tmp_path / "form"), str(tmp_path / "encoded"))
    for day in ("20220425", "20220426"):
        assert read_samples(tmp_path / "encoded", day) == read_samples(tables[2], day)
    with pytest.raises(DataError, match="form/joined: exists already; remove it"):
        prepare(*tables[:2], str(tmp_path / "form"), join_only=True)


def test_the_printed_sql_names_every_table_and_every_step(tables):
    for engine in ("duckdb", "spark"):
        text = print_sql(tables[0], engine)
        for name in ("-- raw_0: shown.csv", "-- raw_3: items.csv", "event AS", "block AS"):
            assert name in text
        assert print_sql(tables[0], engine, tables[1]) == text


def test_a_shared_field_matches_however_its_numbers_are_written(tables, tmp_path):
    """An empty cell makes whole numbers floats in pandas."""
    pathlib.Path(tables[1], "shown.csv").write_text(FILES["shown.csv"].replace("home", "1"))
    spec = {**SPEC, "behaviour": ["vid", "watched"], "spaces": {"watched": "tab"}}
    earlier = FILES["earlier.csv"].replace(",1\n", ",1.0\n").replace(",0\n", ",1.0\n")
    pathlib.Path(tables[1], "earlier.csv").write_text(earlier)
    joins = prepare(write_spec(tmp_path, spec), *tables[1:])["data"]["joins"]
    rates = {join["what"]: join["rate"] for join in joins}
    assert rates["earlier.csv.watched in shown.csv.tab"] == 1
