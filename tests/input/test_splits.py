"""Which files a split has."""

import os

import pytest

from diffumin_tf.errors import DataError
from diffumin_tf.input.splits import empty_days, list_files


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
    assert empty_days(str(days), None, None) == ["20240101", "20240103"]
    assert empty_days(str(days), 20240102, None) == ["20240103"]
    assert empty_days(str(days), None, 20231231) == []
    assert parts_of(days, 20240102, 20240103) == parts_of(days, 20240102, 20240102)
    assert empty_days(f"{days}/*/part-*", None, None) == []
