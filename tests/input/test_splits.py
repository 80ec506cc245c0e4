"""Which files a split has."""

import json
import os

import pytest

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.input.splits import (
    count_examples,
    empty_days,
    files_of,
    list_files,
    refuse_overlap,
)
from diffumin_tf.run.find import schema_file
from tests.small_log import SCHEMA


def parts_of(path, start, end):
    return [os.path.relpath(file, path) for file in list_files(str(path), start, end, "train")]


@pytest.fixture
def days(tmp_path):
    for day in ("20231231", "20240101", "20240102"):
        (tmp_path / day).mkdir()
        for part in (1, 0):
            (tmp_path / day / f"part-0000{part}").touch()
        (tmp_path / day / "_SUCCESS.json").touch()
    (tmp_path / "manifest.json").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("start", "end", "picked"),
    [
        (20231231, 20240101, ["20231231", "20240101"]),
        (20240101, 20240101, ["20240101"]),
        (20240101, None, ["20240101", "20240102"]),
        (None, 20231231, ["20231231"]),
        (None, None, ["20231231", "20240101", "20240102"]),
    ],
)
def test_first_and_last_day_are_picked_and_nothing_outside(days, start, end, picked):
    expected = [f"{day}/part-0000{part}" for day in picked for part in (0, 1)]
    assert parts_of(days, start, end) == expected


def test_a_glob_picks_its_files_in_order(days):
    files = list_files(f"{days}/2024*/part-*0", None, None, "test")
    assert files == [f"{days}/2024010{n}/part-00000" for n in (1, 2)]


@pytest.mark.parametrize(
    ("path", "bounds", "message"),
    [
        (None, (None, None), "valid_data_path is not set: give a folder of <yyyymmdd>/part-"),
        ("{days}/gone", (None, None), "valid_data_path: '{days}/gone' is no folder"),
        ("{days}/x*", (None, None), "valid_data_path: no file matches '{days}/x*'"),
        (
            "{days}",
            (20250101, 20250102),
            "'{days}' holds no records from 20250101 to 20250102; there is 20231231 to 20240102 (3",
        ),
        ("{days}", (20250101, None), "from 20250101 to the last day; there is 20231231"),
        ("{days}/20240101", (None, 20200101), "from the first day to 20200101; there is no day"),
    ],
)
def test_where_there_is_no_file_the_message_says_what_there_is(days, path, bounds, message):
    with pytest.raises(DataError) as error:
        list_files(path and path.format(days=days), *bounds, "valid")
    assert message.format(days=days) in str(error.value)


def test_days_without_records_are_named_and_others_are_read(days):
    for part in ("20231231/part-00001", "20240102/part-00000"):
        (days / part).write_bytes(b"something")
    (days / "20240103").mkdir()

    def empty(path, start=None, end=None):
        return empty_days(path, list_files(path, start, end, "train"), start, end)

    assert empty(str(days)) == ["20240101", "20240103"]
    assert empty(str(days), 20240102, None) == ["20240103"]
    assert empty(str(days), None, 20231231) == []
    assert parts_of(days, 20240102, 20240103) == parts_of(days, 20240102, 20240102)
    assert empty(f"{days}/*/part-*") == ["20240101"]  # nothing says that a day should follow
    assert empty(f"{days}/*/part-*", None, 20240103) == ["20240101", "20240103"]
    assert empty(f"{days}/2024*/part-*", 20240102, 20240102) == []
    (days / "part-00000").touch()
    assert empty(f"{days}/part-*") is None


@pytest.mark.parametrize(
    ("start", "end", "picked"),
    [
        (20231231, 20240101, ["20231231", "20240101"]),
        (20240101, None, ["20240101", "20240102"]),
        (None, 20231231, ["20231231"]),
    ],
)
@pytest.mark.parametrize("form", ["{}", "dt={}-{}-{}", "day={}{}{}"])
@pytest.mark.parametrize("path", ["", "/*/part-*"])
def test_days_count_for_globs_and_for_folders_of_hive(days, start, end, picked, form, path):
    if form != "{}":
        for day in ("20231231", "20240101", "20240102"):
            (days / day).rename(days / form.format(day[:4], day[4:6], day[6:]))
        picked = [form.format(day[:4], day[4:6], day[6:]) for day in picked]
    files = list_files(f"{days}{path}", start, end, "train")
    assert files == [f"{days}/{day}/part-0000{part}" for day in picked for part in (0, 1)]


def test_the_innermost_folder_says_the_day_and_files_of_engines_are_left_out(days):
    (days / "20240102" / "hour=07").mkdir()
    (days / "20240102" / "hour=07" / "part-00000").touch()
    (days / "20240102" / "hour=07" / "_SUCCESS").touch()
    files = list_files(f"{days}/*/*/*", 20240101, None, "train")
    assert files == [f"{days}/20240102/hour=07/part-00000"]


def test_a_glob_whose_folders_are_no_days_is_refused_where_days_are_asked_for(days):
    (days / "20240102").rename(days / "20249999")
    assert len(list_files(f"{days}/*/part-*", None, None, "test")) == 6
    with pytest.raises(DataError) as error:
        list_files(f"{days}/*/part-*", 20231231, 20240101, "test")
    assert f"matches {days}/20249999/part-00000, which lies in no folder" in str(error.value)
    assert "test_data_start and test_data_end cannot say" in str(error.value)
    with pytest.raises(
        DataError, match=r"from 20250101 to the last day; there is 20231231 to 2024"
    ):
        list_files(f"{days}/20[0-9][0-9][0-1]*/part-*0", 20250101, None, "test")


@pytest.mark.parametrize("path", ["", "/*/part-*"])
def test_schema_and_manifest_beside_the_days_are_found(days, path):
    of_days = {day: {"examples": 5} for day in ("20231231", "20240101")}
    (days / "manifest.json").write_text(json.dumps({"days": of_days}))
    config = TaskConfig(input_units=["x"], train_data_path=f"{days}{path}", train_data_end=20240101)
    schema = DataStruct.from_dict(SCHEMA)
    files = files_of(config, schema, "train")
    assert count_examples(config, files) == 10
    (days / "data_struct.json").write_text(json.dumps({**SCHEMA, "dense_feature": {}}))
    with pytest.raises(ConfigError, match=f"dense_feature differs from {days}/data_struct.json"):
        files_of(config, schema, "train")
    (days / "exp").mkdir()
    (days / "exp" / "task_conf.json").write_text("{}")
    assert schema_file(f"{days}/exp", config) == f"{days}/data_struct.json"


def test_a_glob_that_leaves_out_files_of_a_day_has_no_count(days):
    (days / "manifest.json").write_text(json.dumps({"days": {"20231231": {"examples": 5}}}))
    config = TaskConfig(input_units=["x"], train_data_path=f"{days}/20231231/part-*0")
    files = list_files(config.train_data_path, None, None, "train")
    assert count_examples(config, files) is None


def test_a_file_of_two_splits_is_found_under_two_spellings():
    with pytest.raises(ConfigError, match="the train and valid splits share 1 files"):
        refuse_overlap({"train": ["data/a", "data/b"], "valid": ["./data//b"]})
