"""The written Ele.me logs: the files hold what the log holds, in the public layout."""

import os

import numpy as np
import pytest

from diffumin_tf.errors import DataError
from diffumin_tf.synthetic.eleme_csv import write_eleme_csv
from diffumin_tf.synthetic.log import LogSpec, generate


@pytest.fixture(scope="module")
def rows(small_log, tmp_path_factory) -> list[list[str]]:
    """The cells of the first day."""
    directory = str(tmp_path_factory.mktemp("eleme") / "raw")
    write_eleme_csv(small_log, directory)
    assert sorted(os.listdir(directory)) == ["eleme_20240228.csv", "eleme_20240301.csv"]
    with open(os.path.join(directory, "eleme_20240228.csv")) as file:
        return [line.rstrip("\n").split(",") for line in file]


def test_the_csv_holds_the_log(small_log, rows):
    log, first = small_log, slice(401)
    item, brand = log.item[first], log.items.brand[log.item[first]]
    columns = list(zip(*rows, strict=True))
    assert len(columns) == 39
    expected = {
        0: log.label[first],
        1: log.user[first] + 1,
        9: log.items.shop[item] + 1,
        10: item + 1,
        16: np.where(brand < 0, -99, brand + 1),
        34: log.time[first],
    }
    for position, values in expected.items():
        np.testing.assert_array_equal(np.array(columns[position], int), values)


def test_lists_are_equally_long_and_newest_first(small_log, rows):
    lengths = set()
    for number, row in enumerate(rows):
        lists = [field.split(";") if field else [] for field in row[22:34]]
        assert len({len(values) for values in lists}) == 1
        items = small_log.history.item[small_log.history.of(small_log.user[number])] + 1
        assert lists[1] == [str(item) for item in items]
        timediff = np.array(lists[8], int)
        assert (timediff > 0).all() and (np.diff(timediff) >= 0).all()
        hours = (small_log.time[number] - timediff) % 86400 // 3600
        assert lists[9] == [str(hour) for hour in hours]
        lengths.add(len(items))
    assert 0 in lengths and 50 in lengths


def test_lists_keep_the_newest_fifty(tmp_path):
    log = generate(LogSpec(samples_per_day={"20230401": 60}, users=10, history_len=200, seed=1))
    write_eleme_csv(log, str(tmp_path / "raw"))
    assert np.diff(log.history.splits).max() == 200
    with open(tmp_path / "raw" / "eleme_20230401.csv") as file:
        for user, line in zip(log.user, file, strict=True):
            newest = log.history.item[log.history.of(user)][:50] + 1
            assert line.split(",")[23] == ";".join(map(str, newest))


def test_an_existing_directory_is_kept(small_log, tmp_path):
    with pytest.raises(DataError, match="exists already"):
        write_eleme_csv(small_log, str(tmp_path))
