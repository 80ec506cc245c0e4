"""The Ele.me adapter on lines of our own making."""

import json
import os
import pathlib
import zipfile

import pytest

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input.fingerprint import fingerprint
from diffumin_tf.prepare.command import prepare
from diffumin_tf.prepare.eleme import COLUMNS, LISTS, SCHEMA
from tests.prepare.prepared import fill_disk, kill_in_second_write, read_samples, visible_files

STORED_SCHEMA = pathlib.Path(__file__).parents[2] / "exp/user1/Eleme_DiffuMIN/data_struct.json"


def line(**values):
    """A line of the release: three behaviours, the oldest first, unless `values` say otherwise."""
    fields = {name: f"{name}-1" for name in COLUMNS}
    fields |= {name: f"{name}-a;{name}-b;{name}-c" for name in LISTS}
    fields |= {
        "clicked": "0",
        "avg_price": "25.5",
        "total_amt_30": "",
        "price_list": "10;20.5;-99",
        "timediff_list": "300;20;1",
        "times": "1649300000",
    }
    assert values.keys() <= fields.keys()
    return ",".join({**fields, **values}.values())


def lists(texts):
    """The same list in every list column."""
    return {name: texts for name in LISTS}


def write_spec(tmp_path, **settings):
    path = tmp_path / "prepare.json"
    settings = {"files": "eleme_{yyyymmdd}.csv", "max_bad_fraction": 0.0, **settings}
    path.write_text(json.dumps({"adapter": "eleme", **settings}))
    return str(path)


def write_day(tmp_path, day, lines):
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    data = b"".join((x if isinstance(x, bytes) else x.encode()) + b"\n" for x in lines)
    (folder / f"eleme_{day}.csv").write_bytes(data)
    return str(folder)


def prepare_day(tmp_path, lines, **settings):
    """Prepares one day; returns its samples and the manifest."""
    folder = write_day(tmp_path, "20220407", lines)
    manifest = prepare(write_spec(tmp_path, **settings), folder, str(tmp_path / "out"))
    return read_samples(tmp_path / "out", "20220407"), manifest


def ids(space, *texts):
    return fingerprint(space, texts).tolist()


def test_the_release_has_39_columns_and_the_stored_schema_is_the_adapters():
    assert len(COLUMNS) == 39
    assert len(SCHEMA["cat_feature"]["column"]) == 24
    assert json.loads(STORED_SCHEMA.read_text()) == SCHEMA


def test_a_record_holds_the_fields_of_its_line(tmp_path):
    ((sample,), manifest) = prepare_day(tmp_path, [line(clicked="1", gender="-1", visit_city="")])
    schema = DataStruct.load(str(tmp_path / "out" / "data_struct.json"))
    assert sample["label"] == [1]
    assert sample["auxiliary_info"] == [*ids("user_id", "user_id-1"), 1649300000]
    assert sample["dense_feature"] == [25.5, 0.0]
    for name, value in zip(schema.cat_feature, sample["cat_feature"], strict=True):
        text = {"gender": "", "visit_city": "", "times": "1649300000"}.get(name, f"{name}-1")
        assert value == ids(name, text)[0], name
    assert sample["shop_id_list"] == ids(
        "shop_id", "shop_id_list-c", *("shop_id_list-b", "shop_id_list-a")
    )
    geohashes = [f"shop_geohash6_list-{x}" for x in "cba"]
    assert sample["shop_geohash6_list"] == ids("shop_geohash_6", *geohashes)
    assert sample["timediff_list"] == ids("timediff", "1", "4", "8")
    assert sample["price_list"] == ids("price", "", "4", "3")
    assert manifest["days"]["20220407"]["examples"] == 1


@pytest.mark.parametrize(
    ("list_order", "timediff", "expected"),
    [
        ("auto", "300;20;1", "cba"),
        ("auto", "1;20;300", "abc"),
        ("auto", "-99;20;1", "cba"),
        ("auto", "-99;20;-99", "abc"),
        ("auto", "", "abc"),
        ("oldest_first", "1;20;300", "cba"),
        ("newest_first", "300;20;1", "abc"),
    ],
)
def test_the_most_recent_behaviour_comes_first(tmp_path, list_order, timediff, expected):
    other = line(timediff_list="1;2;3")
    lines = [other, line(timediff_list=timediff), other]
    samples, _ = prepare_day(tmp_path, lines, list_order=list_order)
    texts = [f"item_id_list-{x}" for x in expected]
    assert samples[1]["item_id_list"] == ids("item_id", *texts)


def test_a_position_goes_only_when_every_list_misses_it(tmp_path):
    all_but_shop = {name: "7;-99;9" for name in LISTS}
    lines = [
        line(**{**all_but_shop, "shop_id_list": "7;8;9"}),
        line(**{**all_but_shop, "shop_id_list": "7;-1;9"}),
        line(**{**all_but_shop, "shop_id_list": "-99"}),
        line(**lists("-99;-99")),
        line(**lists("")),
    ]
    samples, manifest = prepare_day(tmp_path, lines)
    assert samples[0]["shop_id_list"] == ids("shop_id", "7", "8", "9")
    assert samples[0]["item_id_list"] == ids("item_id", "7", "", "9")
    assert samples[1]["shop_id_list"] == ids("shop_id", "7", "9")
    assert samples[2]["shop_id_list"] == [0, 0]
    assert samples[2]["item_id_list"] == ids("item_id", "7", "9")
    assert samples[3]["item_id_list"] == samples[4]["item_id_list"] == []
    assert manifest["history_length"]["min"] == 0


def test_longer_lists_keep_their_50_most_recent(tmp_path):
    oldest_first = ";".join(str(i) for i in range(60, 0, -1))
    ((sample,), _) = prepare_day(tmp_path, [line(**lists(oldest_first))])
    assert sample["item_id_list"] == ids("item_id", *map(str, range(1, 51)))


def test_quotes_are_plain_characters(tmp_path):
    ((sample,), _) = prepare_day(tmp_path, [line(geohash12='"x')])
    assert sample["cat_feature"][-1] == ids("geohash12", '"x')[0]


def test_a_line_of_column_names_is_passed_over(tmp_path):
    samples, manifest = prepare_day(tmp_path, [",".join(COLUMNS), line()])
    assert len(samples) == 1 and manifest["rows_in"] == {"eleme_20220407.csv": 1}


BAD = {
    "38 columns instead of 39": line().rsplit(",", 1)[0],
    "40 columns instead of 39": line() + ",x",
    "label clicked is neither 0 nor 1": line(clicked="yes"),
    "bytes that are not UTF-8": line(brand_id="?").encode().replace(b"?", b"\xff\x80"),
    "lists of unequal length": line(shop_id_list="1;2"),
    "avg_price is no number": line(avg_price="cheap"),
    "timediff_list holds an entry that is no number": line(timediff_list="3;x;1"),
}


@pytest.mark.parametrize(("reason", "bad"), BAD.items(), ids=BAD)
def test_a_bad_line_is_counted_and_quoted_and_the_good_ones_keep_their_order(tmp_path, reason, bad):
    lines = [line(user_id="u0"), bad, line(user_id="u1"), line(user_id="u2", clicked="1")]
    samples, manifest = prepare_day(tmp_path, lines, max_bad_fraction=0.25)
    users = [sample["auxiliary_info"][0] for sample in samples]
    assert users == ids("user_id", "u0", "u1", "u2")
    account = manifest["bad_lines"]["eleme_20220407.csv"]
    assert (account["lines"], account["bad"], account["by_reason"]) == (4, 1, {reason: 1})
    assert account["first"][0]["line"] == 2
    assert account["first"][0]["text"].startswith(("0,", "yes,"))


def test_too_many_bad_lines_leave_no_partition_of_that_day(tmp_path):
    write_day(tmp_path, "20220407", [line()] * 3)
    folder = write_day(tmp_path, "20220408", [line(), *BAD.values()])
    spec, output = write_spec(tmp_path, max_bad_fraction=0.5), str(tmp_path / "out")
    with pytest.raises(DataError, match="eleme_20220408.csv: 7 of 8 lines are bad") as raised:
        prepare(spec, folder, output)
    assert str(raised.value).count("\n  line ") == 5
    assert sorted(os.listdir(output)) == ["20220407", "data_struct.json"]


def test_a_day_may_be_a_zip_or_several_files(tmp_path):
    folder = write_day(tmp_path, "1", [line(user_id="a")])
    with zipfile.ZipFile(tmp_path / "in" / "D2.zip", "w") as archive:
        archive.writestr("D2_0.csv", line(user_id="b") + "\n")
    files = {"20220408": "D2.zip", "20220407": ["D2.zip", "eleme_1.csv"]}
    manifest = prepare(write_spec(tmp_path, files=files), folder, str(tmp_path / "out"))
    assert {day: e["examples"] for day, e in manifest["days"].items()} == {
        "20220407": 2,
        "20220408": 1,
    }
    users = [s["auxiliary_info"][0] for s in read_samples(tmp_path / "out", "20220407")]
    assert users == ids("user_id", "b", "a")


def test_missing_and_unreadable_files_are_one_clear_error(tmp_path):
    folder = write_day(tmp_path, "20220407", [line()])
    output = str(tmp_path / "out")
    spec = write_spec(tmp_path, files={"20220407": "eleme_20220407.csv", "20220408": "gone.csv"})
    with pytest.raises(DataError, match="gone.csv: no such file"):
        prepare(spec, folder, output)
    with pytest.raises(DataError, match="no file fits the pattern 'e_{yyyymmdd}.csv'"):
        prepare(write_spec(tmp_path, files="e_{yyyymmdd}.csv"), folder, output)
    (tmp_path / "in" / "cut.zip").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError, match="cut.zip: cannot be read"):
        prepare(write_spec(tmp_path, files={"20220409": "cut.zip"}), folder, output)
    assert visible_files(output) == {}


def test_days_can_be_added_but_changed_input_is_never_reused(tmp_path):
    folder = write_day(tmp_path, "20220407", [line()])
    spec, output = write_spec(tmp_path), str(tmp_path / "out")
    prepare(spec, folder, output)
    kept = os.stat(f"{output}/20220407/part-00000").st_mtime_ns
    write_day(tmp_path, "20220408", [line()] * 2)
    manifest = prepare(spec, folder, output)
    assert list(manifest["days"]) == ["20220407", "20220408"]
    assert manifest == prepare(spec, folder, output)
    assert os.stat(f"{output}/20220407/part-00000").st_mtime_ns == kept
    write_day(tmp_path, "20220407", [line()] * 3)
    with pytest.raises(DataError, match="20220407: comes from other inputs; remove it"):
        prepare(spec, folder, output)
    with pytest.raises(DataError, match="comes from other settings; remove it"):
        prepare(write_spec(tmp_path, list_order="oldest_first"), folder, output)


def test_a_killed_run_leaves_whole_days_and_can_be_run_again(tmp_path):
    for day in ("20220407", "20220408", "20220409"):
        folder = write_day(tmp_path, day, [line(user_id=day)] * 5)
    spec, output = write_spec(tmp_path), tmp_path / "out"
    kill_in_second_write(tmp_path, spec, folder, output)
    assert {name.split("/")[0] for name in visible_files(output)} == {"20220407"}
    assert ".20220408.incomplete" in os.listdir(output)
    prepare(spec, folder, str(output))
    prepare(spec, folder, str(tmp_path / "fresh"))
    assert visible_files(output) == visible_files(tmp_path / "fresh")
    assert not [name for name in os.listdir(output) if "incomplete" in name]


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path, monkeypatch):
    fill_disk(monkeypatch)
    with pytest.raises(DataError, match="20220407: no space left on the disk"):
        prepare_day(tmp_path, [line()] * 500)
    assert sorted(os.listdir(tmp_path / "out")) == ["data_struct.json"]
