"""The Ele.me adapter on lines of our own making."""

import gzip
import io
import itertools
import json
import os
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.prepare import faulty_rows
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
    samples, manifest = prepare_day(tmp_path, HEADER, line())
    assert len(samples) == 1 and manifest["data"]["tables"]["eleme_20220407.csv"]["rows"] == 1


BAD = {
    "38 columns instead of 39": line().rsplit(",", 1)[0],
    "42 columns instead of 39": line() + ",x,y,z",
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
    account = manifest["data"]["tables"]["eleme_20220407.csv"]
    assert (account["rows"], account["bad"]) == (2 * len(BAD), len(BAD))
    assert account["bad_by_reason"] == dict.fromkeys(BAD, 1)
    assert [entry["line"] for entry in account["first_bad"]] == [2, 4, 6, 8, 10]
    assert all(entry["text"].startswith(("0,", "yes,")) for entry in account["first_bad"])


def test_a_blank_line_is_no_row_and_leaves_only_the_row_of_a_fault_known(tmp_path):
    lines = [line(), "", line(clicked="yes")]
    samples, manifest = prepare_day(tmp_path, *lines, max_bad_fraction=0.5)
    account = manifest["data"]["tables"]["eleme_20220407.csv"]
    assert (len(samples), account["rows"], account["blank_lines"]) == (1, 2, 1)
    (fault,) = account["first_bad"]
    assert fault.keys() == {"row", "reason", "text"} and fault["row"] == 2


def test_a_line_that_got_lost_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(faulty_rows, "count_lines", lambda *args: (3, 0, {}))
    with pytest.raises(DataError, match="eleme_20220407.csv: 1 of 3 lines were not read"):
        prepare_day(tmp_path, line(), line())


def test_times_that_are_none_are_counted(tmp_path):
    lines = [line(), line(times=""), line(times="noon"), line(times="12")]
    samples, manifest = prepare_day(tmp_path, *lines)
    assert [sample["auxiliary_info"][1] for sample in samples] == [1649300000, 0, 0, 0]
    table = manifest["data"]["tables"]["eleme_20220407.csv"]
    assert (table["bad"], table["bad_values"]) == (0, {"times": 2})


def test_too_many_bad_lines_leave_no_partition_of_that_day(tmp_path):
    write_day(tmp_path, "20220407", [line()] * 3)
    folder = write_day(tmp_path, "20220408", [line(), *BAD.values()])
    spec, output = eleme_spec(tmp_path, max_bad_fraction=0.5), str(tmp_path / "out")
    with pytest.raises(DataError, match="eleme_20220408.csv: 7 of 8 rows are bad") as raised:
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


def test_what_no_log_should_be_like_is_a_warning(tmp_path):
    _, manifest = prepare_day(tmp_path, line(brand_id="-1", **dict.fromkeys(LISTS, "")))
    assert manifest["data"]["warnings"] == [
        "every label is 0",
        "every history is empty",
        "brand_id is missing in every sample",
        "total_amt_30 is missing in every sample",
    ]


LINES = [line(user_id="7.0", visit_city="罗马"), line(user_id="b", clicked="1")]
HEADER = ",".join(COLUMNS)
TEXT = "".join(f"{text}\n" for text in LINES)


def parquet(**columns):
    rows = [dict(zip(COLUMNS, text.split(","), strict=True)) for text in LINES]
    table = {name: [row[name] for row in rows] for name in COLUMNS} | columns
    content = io.BytesIO()
    pq.write_table(pa.table({name: texts for name, texts in table.items() if texts}), content)
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.csv", TEXT.encode()),
        ("bom.csv", TEXT.encode("utf-8-sig")),
        ("crlf.csv", f"{HEADER}\n{TEXT}".replace("\n", "\r\n").encode("utf-8-sig")),
        ("d.csv.gz", gzip.compress(TEXT.encode())),
        ("d.parquet", parquet(total_amt_30=[None, None], clicked=[0, 1], more=["x", "y"])),
    ],
)
def test_every_format_gives_the_same_samples(tmp_path, name, content):
    expected, _ = prepare_day(tmp_path, *LINES)
    assert expected[0]["auxiliary_info"][:1] == ids("user_id", "7")
    (tmp_path / "in" / name).write_bytes(content)
    spec = eleme_spec(tmp_path, files={"20220408": name})
    manifest = prepare(spec, str(tmp_path / "in"), str(tmp_path / "other"))
    assert read_samples(tmp_path / "other", "20220408") == expected
    assert manifest["data"]["tables"][name]["rows"] == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "empty.csv: holds no rows"),
        ("header.csv", HEADER.encode(), "header.csv: holds no rows"),
        ("cut.csv.gz", gzip.compress(TEXT.encode() * 9999)[:-20], "cannot be read.*cut.csv.gz"),
        ("bad.parquet", b"PAR1 no", "bad.parquet: cannot be read"),
        (
            "less.parquet",
            parquet(hours=None, hour=["1", "2"]),
            "less.parquet: column 'hours' is not there; did you mean 'hour'",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_one_error_that_names_it(tmp_path, name, content, message):
    folder = write_day(tmp_path, "1", [])
    (tmp_path / "in" / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        prepare(eleme_spec(tmp_path, files={"20220407": name}), folder, str(tmp_path / "out"))
    assert visible_files(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"20220407": "eleme_20220407.csv", "20220408": "gone.csv"}, "no file fits 'gone.csv'"),
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
    manifest = prepare(spec, folder, output)
    assert list(manifest["days"]) == ["20220407", "20220408"]
    rows = {file: table["rows"] for file, table in manifest["data"]["tables"].items()}
    assert rows == {"eleme_20220407.csv": 1, "eleme_20220408.csv": 2}
    assert visible_files(output).items() >= kept.items()
    write_day(tmp_path, "20220407", [line()] * 3)
    with pytest.raises(DataError, match="20220407: comes from other inputs"):
        prepare(spec, folder, output)
