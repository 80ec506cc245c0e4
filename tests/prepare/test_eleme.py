"""The Ele.me adapter on lines of our own making."""

import itertools
import json
import os
import zipfile

import pytest

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.prepare.command import prepare
from diffumin_tf.prepare.eleme import COLUMNS, LISTS, SCHEMA
from tests.prepare.prepared import ids, read_samples, visible_files
from tests.prepare.small_tables import write_spec


def line(**values):
    """A line of the release: three behaviours, the oldest first, unless `values` say otherwise."""
    fields = {name: f"{name}-1" for name in COLUMNS}
    fields |= {name: f"{name}-a;{name}-b;{name}-c" for name in LISTS}
    fields |= {"clicked": "0", "avg_price": "25.5", "total_amt_30": "", "times": "1649300000"}
    fields |= {"price_list": "10;20.5;-99", "timediff_list": "300;20;1"}
    assert values.keys() <= fields.keys()
    return ",".join({**fields, **values}.values())


def eleme_spec(tmp_path, **settings):
    settings = {"files": "eleme_{yyyymmdd}.csv", "max_bad_fraction": 0.0, **settings}
    return write_spec(tmp_path, {"adapter": "eleme", **settings})


def write_day(tmp_path, day, lines):
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    text = "".join(f"{line}\n" for line in lines)
    (folder / f"eleme_{day}.csv").write_text(text, errors="surrogateescape")
    return str(folder)


def prepare_day(tmp_path, *lines, **settings):
    """Prepares one day; returns its samples and the manifest."""
    folder = write_day(tmp_path, "20220407", lines)
    manifest = prepare(eleme_spec(tmp_path, **settings), folder, str(tmp_path / "out"))
    return read_samples(tmp_path / "out", "20220407"), manifest


def test_the_stored_schema_is_the_adapters():
    with open("exp/user1/Eleme_DiffuMIN/data_struct.json") as file:
        assert json.load(file) == SCHEMA


def test_a_record_holds_the_fields_of_its_line(tmp_path):
    clicked = line(clicked="1", gender="-1", visit_city="", geohash12='"x')
    (sample,), manifest = prepare_day(tmp_path, clicked)
    schema = DataStruct.load(str(tmp_path / "out" / "data_struct.json"))
    assert sample["label"] == [1]
    assert sample["auxiliary_info"] == [*ids("user_id", "user_id-1"), 1649300000]
    assert sample["dense_feature"] == [25.5, 0.0]
    given = {"gender": "", "visit_city": "", "times": "1649300000", "geohash12": '"x'}
    for name, value in zip(schema.cat_feature, sample["cat_feature"], strict=True):
        assert value == ids(name, given.get(name, f"{name}-1"))[0], name
    for name, space in {"shop_id": "shop_id", "shop_geohash6": "shop_geohash_6"}.items():
        assert sample[f"{name}_list"] == ids(space, *(f"{name}_list-{x}" for x in "cba"))
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
    samples, _ = prepare_day(tmp_path, *lines, list_order=list_order)
    texts = [f"item_id_list-{x}" for x in expected]
    assert samples[1]["item_id_list"] == ids("item_id", *texts)


def test_a_behaviour_goes_only_when_every_list_misses_it(tmp_path):
    all_but_shop = dict.fromkeys(LISTS, "7;-99;9")
    samples, manifest = prepare_day(
        tmp_path,
        line(**{**all_but_shop, "shop_id_list": "7;8;9"}),
        line(**{**all_but_shop, "shop_id_list": "7;-1;9"}),
        line(**{**all_but_shop, "shop_id_list": "-99"}),
        line(**dict.fromkeys(LISTS, "-99;-99")),
        line(**dict.fromkeys(LISTS, "")),
    )
    expected = [("789", ["7", "", "9"]), ("79", "79"), (["", ""], "79"), ("", ""), ("", "")]
    for sample, (shops, items) in zip(samples, expected, strict=True):
        assert sample["shop_id_list"] == ids("shop_id", *shops)
        assert sample["item_id_list"] == ids("item_id", *items)
    assert manifest["history_length"]["min"] == 0


def test_longer_lists_keep_their_50_most_recent(tmp_path):
    oldest_first = ";".join(str(i) for i in range(60, 0, -1))
    (sample,), _ = prepare_day(tmp_path, line(**dict.fromkeys(LISTS, oldest_first)))
    assert sample["item_id_list"] == ids("item_id", *map(str, range(1, 51)))


def test_a_line_of_column_names_is_passed_over(tmp_path):
    samples, manifest = prepare_day(tmp_path, ",".join(COLUMNS), line())
    assert len(samples) == 1 and manifest["rows_in"] == {"eleme_20220407.csv": 1}


BAD = {
    "38 columns instead of 39": line().rsplit(",", 1)[0],
    "40 columns instead of 39": line() + ",x",
    "label clicked is neither 0 nor 1": line(clicked="yes"),
    "bytes that are not UTF-8": line(brand_id="\udcff\udc80"),
    "lists of unequal length": line(shop_id_list="1;2"),
    "avg_price is no number": line(avg_price="cheap"),
    "timediff_list holds an entry that is no number": line(timediff_list="3;x;1"),
}


def test_bad_lines_are_counted_and_quoted_and_the_good_ones_keep_their_order(tmp_path):
    users = [f"u{number}" for number in range(len(BAD))]
    pairs = zip((line(user_id=user) for user in users), BAD.values(), strict=True)
    lines = itertools.chain.from_iterable(pairs)
    samples, manifest = prepare_day(tmp_path, *lines, max_bad_fraction=0.5)
    assert [sample["auxiliary_info"][0] for sample in samples] == ids("user_id", *users)
    account = manifest["bad_lines"]["eleme_20220407.csv"]
    assert (account["lines"], account["bad"]) == (2 * len(BAD), len(BAD))
    assert account["by_reason"] == dict.fromkeys(BAD, 1)
    assert [entry["line"] for entry in account["first"]] == [2, 4, 6, 8, 10]
    assert all(entry["text"].startswith(("0,", "yes,")) for entry in account["first"])


def test_too_many_bad_lines_leave_no_partition_of_that_day(tmp_path):
    write_day(tmp_path, "20220407", [line()] * 3)
    folder = write_day(tmp_path, "20220408", [line(), *BAD.values()])
    spec, output = eleme_spec(tmp_path, max_bad_fraction=0.5), str(tmp_path / "out")
    with pytest.raises(DataError, match="eleme_20220408.csv: 7 of 8 lines are bad") as raised:
        prepare(spec, folder, output)
    assert str(raised.value).count("\n  line ") == 5
    assert sorted(os.listdir(output)) == ["20220407", "data_struct.json"]


def test_a_day_may_be_a_zip_or_several_files(tmp_path):
    folder = write_day(tmp_path, "1", [line(user_id="a")])
    with zipfile.ZipFile(tmp_path / "in" / "D2.zip", "w") as archive:
        archive.writestr("D2_0.csv", line(user_id="b") + "\n")
    files = {"20220408": "D2.zip", "20220407": ["D2.zip", "eleme_1.csv"]}
    manifest = prepare(eleme_spec(tmp_path, files=files), folder, str(tmp_path / "out"))
    examples = {day: entry["examples"] for day, entry in manifest["days"].items()}
    assert examples == {"20220407": 2, "20220408": 1}
    users = [s["auxiliary_info"][0] for s in read_samples(tmp_path / "out", "20220407")]
    assert users == ids("user_id", "b", "a")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"20220407": "eleme_20220407.csv", "20220408": "gone.csv"}, "gone.csv: No such file"),
        ("e_{yyyymmdd}.csv", "no file fits the pattern 'e_{yyyymmdd}.csv'"),
    ],
)
def test_missing_files_are_one_clear_error(tmp_path, files, message):
    folder = write_day(tmp_path, "20220407", [line()])
    with pytest.raises(DataError, match=message):
        prepare(eleme_spec(tmp_path, files=files), folder, str(tmp_path / "out"))
    assert visible_files(tmp_path / "out") == {}


def test_a_day_is_added_to_those_that_are_complete(tmp_path):
    folder = write_day(tmp_path, "20220407", [line()])
    spec, output = eleme_spec(tmp_path), str(tmp_path / "out")
    prepare(spec, folder, output)
    kept = visible_files(output)
    write_day(tmp_path, "20220408", [line()] * 2)
    assert list(prepare(spec, folder, output)["days"]) == ["20220407", "20220408"]
    assert visible_files(output).items() >= kept.items()
    write_day(tmp_path, "20220407", [line()] * 3)
    with pytest.raises(DataError, match="20220407: comes from other inputs"):
        prepare(spec, folder, output)
