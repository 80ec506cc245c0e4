"""`prepare` with the adapter `tables`: every way to go wrong, and to go on."""

import os

import pytest

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.prepare.command import prepare
from tests.prepare.prepared import fill_disk, kill_in_second_write, read_samples, visible_files
from tests.prepare.small_tables import FILES, SPEC, T0, write_spec


@pytest.mark.parametrize(
    ("file", "line", "reason"),
    [
        ("shown.csv", "ann,1,soon,home,1,1", "ms is no number"),
        ("shown.csv", f"ann,1,{T0}000,home,1,1", "ms is no time in ms since 1970"),
        ("shown.csv", f"ann,1,{T0},home,2,1", "label click is neither 0 nor 1"),
        ("shown.csv", f"ann,1,{T0},home,,1", "label click is neither 0 nor 1"),
        ("shown.csv", f",1,{T0},home,1,1", "uid is missing"),
        ("shown.csv", f"ann,1,{T0},home,1", "5 columns instead of 6"),
        ("earlier.csv", f"ann,1,{T0},last,1", "no is no number"),
        ("users.csv", "ann,rome,1", "uid stands twice"),
        ("users.csv", "eve,rome,many", "fans is no number"),
        ("items.csv", "4,z,t,long", "length is no number"),
    ],
)
def test_bad_lines_are_counted_up_to_the_limit_and_fail_above_it(
    tables, tmp_path, file, line, reason
):
    with open(tmp_path / "in" / file, "a") as table:
        table.write(line + "\n")
    lines = FILES[file].count("\n")
    with pytest.raises(DataError, match=f"{file}: 1 of {lines} lines(.|\n)*line {lines + 1}: "):
        prepare(*tables)
    assert visible_files(tables[2]) == {}
    tolerant = write_spec(tmp_path, {**SPEC, "max_bad_fraction": 0.5})
    account = prepare(tolerant, *tables[1:])["bad_lines"][file]
    assert account["by_reason"] == {reason: 1}
    assert account["first"] == [{"line": lines + 1, "reason": reason, "text": line}]


def test_a_second_run_keeps_complete_days_and_makes_the_missing_one(tables):
    first = prepare(*tables)
    before = visible_files(tables[2])
    kept = os.stat(f"{tables[2]}/20220425/part-00000").st_mtime_ns
    for name in os.listdir(f"{tables[2]}/20220426"):
        os.remove(f"{tables[2]}/20220426/{name}")
    os.rmdir(f"{tables[2]}/20220426")
    assert prepare(*tables) == first
    assert visible_files(tables[2]) == before
    assert os.stat(f"{tables[2]}/20220425/part-00000").st_mtime_ns == kept


def test_another_spec_never_reuses_a_partition(tables, tmp_path):
    prepare(*tables)
    before = visible_files(tables[2])
    other = write_spec(tmp_path, {**SPEC, "max_len": 2})
    with pytest.raises(DataError, match="2022042[56]: comes from other settings; remove it"):
        prepare(other, *tables[1:])
    assert visible_files(tables[2]) == before


def test_other_input_never_reuses_a_partition(tables, tmp_path):
    prepare(*tables)
    (tmp_path / "in" / "users.csv").write_text("uid,city,fans\nann,rome,3\n")
    with pytest.raises(DataError, match="20220425: comes from other inputs; remove it"):
        prepare(*tables)


def test_a_foreign_folder_is_never_taken_for_a_partition(tables, tmp_path):
    (tmp_path / "out" / "20220425").mkdir(parents=True)
    with pytest.raises(DataError, match="20220425: has no valid _SUCCESS.json; remove it"):
        prepare(*tables)


def test_a_killed_run_leaves_whole_partitions_and_can_be_run_again(tables, tmp_path):
    kill_in_second_write(tmp_path, *tables)
    assert {name.split("/")[0] for name in visible_files(tables[2])} == {"20220425"}
    assert len(read_samples(tables[2], "20220425")) == 4
    prepare(*tables)
    prepare(tables[0], tables[1], str(tmp_path / "fresh"))
    assert visible_files(tables[2]) == visible_files(tmp_path / "fresh")
    assert not [name for name in os.listdir(tables[2]) if "incomplete" in name]


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tables, monkeypatch):
    fill_disk(monkeypatch)
    with pytest.raises(DataError, match="20220425: no space left on the disk"):
        prepare(*tables)
    assert sorted(os.listdir(tables[2])) == ["data_struct.json"]
    monkeypatch.undo()
    assert prepare(*tables)["rows_written"] == 6


@pytest.mark.parametrize("file", sorted(FILES))
def test_a_missing_table_is_one_clear_error(tables, tmp_path, file):
    os.remove(tmp_path / "in" / file)
    with pytest.raises(DataError, match=f"{file}: no such file"):
        prepare(*tables)


def test_a_missing_spec_is_one_clear_error(tables, tmp_path):
    with pytest.raises(ConfigError, match="gone.json: cannot be read"):
        prepare(str(tmp_path / "gone.json"), *tables[1:])


def test_an_output_that_is_a_file_is_one_clear_error(tables, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="out: "):
        prepare(*tables)
