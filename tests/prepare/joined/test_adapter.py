"""The adapter `joined`: what a sample holds, resumption, new days, slices."""

import json
import os
import pathlib
import shutil

import pyarrow as pa
import pytest
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.prepare.command import prepare
from diffumin_tf.prepare.joined import adapter as joined
from diffumin_tf.prepare.joined import rows as joined_rows
from diffumin_tf.prepare.partitions import Partitions
from diffumin_tf.prepare.spec.joined import JoinedSpec
from tests.prepare.joined_files import (
    SPEC,
    T0,
    columns,
    day_name,
    expected,
    rows,
    write_file,
    write_spec,
)
from tests.prepare.prepared import ids, read_records, read_samples, visible_files


@pytest.fixture
def log(tmp_path):
    """Two days in two files each; returns (spec, input, output)."""
    for day in range(2):
        for part in "ab":
            content = rows(seed=ord(part) + 10 * day, days=(day,))
            write_file(tmp_path / "in", f"dt=2022-05-0{day + 1}/{part}.parquet", content)
    return write_spec(tmp_path, day="dt"), str(tmp_path / "in"), str(tmp_path / "out")


@pytest.fixture
def encoded(monkeypatch):
    """The names of the files that are encoded from now on."""
    names, encode_file = [], joined._encode_file

    def counted(task, report):
        names.append(task.file.name)
        encode_file(task, report)

    monkeypatch.setattr(joined, "_encode_file", counted)
    return names


@pytest.mark.parametrize("piece", [1, 40, 10**6])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("group", ["none", "user_day"])
def test_samples_equal_a_search_in_plain_python(tmp_path, monkeypatch, piece, ordered, group):
    monkeypatch.setattr(joined_rows, "_PIECE_VALUES", piece)
    content = rows(users=30, days=(0, 1, 3))
    table = columns(content)
    if not ordered:
        names = [f.name for f in table["impressions"].type.value_type if f.name != "order"]
        kept = [
            [{n: shown[n] for n in names} for shown in row["impressions"] or ()] for row in content
        ]
        table["impressions"] = pa.array(kept)
    write_file(tmp_path, "in/log.parquet", content, **table)
    spec = write_spec(tmp_path, group=group)
    manifest = prepare(spec, str(tmp_path / "in"), str(tmp_path / "out"))
    assert list(manifest["days"]) == [day_name(day) for day in (0, 1, 3)]
    assert manifest["group"] == group

    def in_order(pairs):
        return sorted(pairs, key=lambda pair: pair[0]) if ordered else pairs

    for day in (0, 1, 3):
        if group == "none":
            records = [[pair] for pair in in_order(expected(content, day))]
        else:
            records = [in_order(expected([row], day)) for row in content]
            records = [pairs for pairs in records if pairs]
            if ordered and piece > 40:  # groups are in order within a piece
                records.sort(key=lambda pairs: pairs[0][0])
        found = read_records(tmp_path / "out", day_name(day))
        wanted = [[sample for _, sample in pairs] for pairs in records]
        if group == "user_day" and ordered and piece <= 40:
            found, wanted = (sorted(some, key=_first_moment) for some in (found, wanted))
        assert found == wanted
        counts = manifest["days"][day_name(day)]
        assert (counts["records"], counts["examples"]) == (len(found), sum(map(len, found)))


def _first_moment(record):
    return record[0]["auxiliary_info"]


@pytest.mark.parametrize("field", ["city", "tags", "price"])
def test_what_lies_beside_the_impressions_is_stored_once_in_all_files(tmp_path, field):
    write_file(tmp_path, "in/a.parquet", rows())
    content, out = rows(seed=1), str(tmp_path / "out")
    for row in content:
        for shown in row["impressions"] or ():
            if field == "price":
                shown.pop(field)
            else:
                shown[field] = row[field]
    impressions = pa.array([row["impressions"] for row in content])
    other = pa.array([1.0] * len(content)) if field == "price" else None
    write_file(tmp_path, "in/b.parquet", content, **{field: other, "impressions": impressions})
    here, there = ("beside", "within") if field == "price" else ("within", "beside")
    message = f"b.parquet: '{field}' lies {here} 'impressions', and {there} it in the first file"
    with pytest.raises(DataError, match=message):
        prepare(write_spec(tmp_path), str(tmp_path / "in"), out)
    assert prepare(write_spec(tmp_path, group="none"), str(tmp_path / "in"), out)["rows_written"]
    assert DataStruct.load(f"{out}/data_struct.json").stored_once == ()


def test_a_row_may_be_an_impression(tmp_path):
    lists = pa.array([["7", "8", "9", "1"], []])
    table = {"uid": [1, 2], "click": [True, False], "time": pa.array([T0, T0], pa.timestamp("ms"))}
    table |= {"sku": ["7", "8"], "sku_list": lists, "brand_list": lists}
    names = {
        "cat_feature": ["uid", "sku"],
        "dense_feature": [],
        "multi_feature": [],
    }
    names["spaces"] = {}
    spec = write_spec(tmp_path, **names, impressions=None, time_unit=None)
    write_file(tmp_path, "in/log.parquet", [], **{**dict.fromkeys(columns([])), **table})
    manifest = prepare(spec, str(tmp_path / "in"), str(tmp_path / "out"))
    assert (manifest["group"], manifest["records"]) == ("none", 2)
    first, second = read_samples(tmp_path / "out", "20220501")
    assert first["sku_list"] == ids("sku", "7", "8", "9") and second["sku_list"] == []
    assert (first["label"], second["label"]) == ([1], [0])
    assert first["cat_feature"] == [*ids("uid", "1"), *ids("sku", "7")]


def test_the_manifest_counts_what_is_missing(log):
    manifest = prepare(*log)
    samples = [s for day in manifest["days"] for s in read_samples(log[2], day)]
    assert manifest["rows_written"] == len(samples)
    table = {"role": "impressions", "files": 4, "rows": len(samples)}
    assert manifest["data"] == {"tables": {"**/*.parquet": table}, "warnings": []}
    ids_seen = [i for sample in samples for i in sample["brand_list"]]
    assert manifest["missing"]["brand_list"] == ids_seen.count(0) / len(ids_seen)
    assert manifest["missing"]["tags"] == sum(not s["tags"] for s in samples) / len(samples)
    without_city = sum(s["cat_feature"][1] == 0 for s in samples)
    assert manifest["missing"]["city"] == without_city / len(samples)
    lengths = [len(s["sku_list"]) for s in samples]
    assert manifest["history_length"]["mean"] == pytest.approx(sum(lengths) / len(lengths))


def test_a_file_is_a_part_and_the_work_folder_goes(log):
    prepare(*log)
    names = {name for name in visible_files(log[2]) if "SUCCESS" not in name}
    assert names == {f"2022050{day}/part-0000{part}" for day in (1, 2) for part in (0, 1)}
    others = {"data_struct.json", "manifest.json", "report.html"}
    assert set(os.listdir(log[2])) == {"20220501", "20220502", *others}
    schema = DataStruct.load(f"{log[2]}/data_struct.json")
    assert schema.multi_feature == ("tags", "genres") and schema.id_space("brand_list") == "maker"
    assert schema.stored_once == ("user_id", "uid", "city", "age", "tags")


def test_two_processes_slices_and_object_store_addresses_make_the_same_bytes(log, tmp_path):
    spec, folder, output = log
    manifest = prepare(*log)
    assert prepare(spec, folder, f"{output}2", jobs=2) == manifest
    for part in ((1, 3), (3, 3), (2, 3)):
        assert prepare(spec, f"file://{folder}", f"{output}3", part=part) is None
    assert visible_files(f"{output}3") == {}
    assert prepare(spec, f"file://{folder}", f"{output}3") == manifest
    assert visible_files(output) == visible_files(f"{output}2") == visible_files(f"{output}3")


@pytest.mark.parametrize("killed_after", range(4))
def test_a_killed_run_goes_on_with_the_files_that_are_left(log, monkeypatch, encoded, killed_after):
    whole = f"{log[2]}2"
    prepare(*log[:2], whole)
    names = list(encoded)
    encode_file = joined._encode_file
    with monkeypatch.context() as patch:
        encoded.clear()

        def killed(task, report):
            if len(encoded) == killed_after:
                raise KeyboardInterrupt
            encode_file(task, report)

        patch.setattr(joined, "_encode_file", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(*log)
    assert visible_files(log[2]) == {}
    encoded.clear()
    prepare(*log)
    assert encoded == names[killed_after:]
    assert visible_files(log[2]) == visible_files(whole)


def test_a_run_killed_while_it_makes_days_and_a_torn_part_are_mended(log, monkeypatch, encoded):
    prepare(*log[:2], f"{log[2]}2")
    complete = Partitions.complete

    def killed(self, day, *args):
        if day == "20220502":
            (part, *_) = pathlib.Path(self.directory).glob(".parts/*/20220502")
            part.write_bytes(part.read_bytes()[:-1])
            raise KeyboardInterrupt
        complete(self, day, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Partitions, "complete", killed)
        prepare(*log)
    assert os.listdir(f"{log[2]}/20220501")
    encoded.clear()
    prepare(*log)
    assert len(encoded) == 1 and encoded[0].startswith("dt=2022-05-02/")
    assert visible_files(log[2]) == visible_files(f"{log[2]}2")


def test_a_new_day_is_added_and_the_others_stay_even_without_their_files(log, tmp_path, encoded):
    prepare(*log)
    before = visible_files(log[2])
    shutil.rmtree(tmp_path / "in" / "dt=2022-05-01")
    write_file(tmp_path, "in/dt=2022-05-03/c.parquet", rows(seed=5, days=(2,)))
    encoded.clear()
    manifest = prepare(*log)
    assert encoded == ["dt=2022-05-03/c.parquet"]
    assert list(manifest["days"]) == ["20220501", "20220502", "20220503"]
    after = visible_files(log[2])
    assert before.items() < after.items()
    assert read_samples(log[2], "20220503")


def test_a_day_that_is_removed_is_made_again_from_files_that_hold_others_too(tmp_path, encoded):
    write_file(tmp_path, "in/a.parquet", rows(days=(0, 1)))
    write_file(tmp_path, "in/b.parquet", rows(seed=1, days=(0,)))
    log = write_spec(tmp_path), str(tmp_path / "in"), str(tmp_path / "out")
    first, before = prepare(*log), visible_files(tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "20220502")
    encoded.clear()
    assert prepare(*log) == first
    assert encoded == ["a.parquet"] and visible_files(log[2]) == before


def changed(folder):
    write_file(folder, "dt=2022-05-01/a.parquet", rows(seed=9))


def gone(folder):
    os.remove(folder / "dt=2022-05-01" / "a.parquet")


def added(folder):
    write_file(folder, "dt=2022-05-01/new.parquet", rows(seed=9))


@pytest.mark.parametrize(
    ("change", "trouble"),
    [
        (changed, "was made from dt=2022-05-01/a.parquet, which has changed since"),
        (gone, "was made from dt=2022-05-01/a.parquet, which is gone"),
        (added, "is complete without dt=2022-05-01/new.parquet"),
    ],
)
@pytest.mark.parametrize("day", ["dt", None])
def test_a_complete_day_whose_files_changed_is_refused_and_kept(
    log, tmp_path, change, trouble, day
):
    write_spec(tmp_path, day=day)
    prepare(*log)
    before = visible_files(log[2])
    change(tmp_path / "in")
    with pytest.raises(DataError, match=f"out/20220501: {trouble}; remove it"):
        prepare(*log)
    assert visible_files(log[2]) == before


def test_an_engine_says_itself_what_a_day_was_made_from(log):
    spec = JoinedSpec.model_validate(SPEC)
    digests = {"20220501": "one", "20220502": "two"}
    joined.encode(spec, *log[1:], digests=digests).finish(data={"warnings": []})
    with open(f"{log[2]}/manifest.json") as file:
        assert json.load(file)["data"] == {"warnings": []}
    changed(pathlib.Path(log[1]))  # a file that the engine wrote anew
    joined.encode(spec, *log[1:], digests=digests)
    with pytest.raises(DataError, match="20220502: comes from other inputs"):
        joined.encode(spec, *log[1:], digests={**digests, "20220502": "other"})


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(log, monkeypatch):
    writer = tf.io.TFRecordWriter
    with monkeypatch.context() as patch:
        patch.setattr(tf.io, "TFRecordWriter", lambda path, *args: writer("/dev/full", *args))
        with pytest.raises(DataError, match="no space left on the disk"):
            prepare(*log)
    assert not os.path.exists(log[2])
    assert prepare(*log)["rows_written"]
