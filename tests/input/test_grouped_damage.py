"""Files of records of several impressions: what is damaged is named, and left out where allowed."""

import json

import pytest

from diffumin_tf.errors import DataError
from diffumin_tf.input.damage import FileCheck, look_through
from diffumin_tf.input.dataset import Batches
from diffumin_tf.input.records import encode
from tests.input.grouped import GROUPED_SCHEMA as SCHEMA
from tests.input.grouped import SIZES, grouped_samples, ungrouped
from tests.input.part_files import flip_data, small_path, tear, users_of, write_parts
from tests.input.test_impressions import records_of, with_key


def read(check, files):
    """The time of every sample, which tells it apart from all of its file."""
    batches = Batches(files, SCHEMA, small_path(SCHEMA), 8, "time", check=check)
    return sum(users_of(batches.epoch()), [])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file, good: tear(file, 1), "torn or damaged after 7 records: "),
        (lambda file, good: flip_data(file, good, 5), "torn or damaged after 5 records: "),
        (
            lambda file, good: write_parts(
                file.parent, [*good[:5], with_key(good[5], "newer", [1]), *good[6:]]
            ),
            "record 5: key 'newer', impression 0, holds 1; it says how many",
        ),
        (
            lambda file, good: write_parts(
                file.parent, [*good[:4], with_key(good[4], "label", [1, 7, 0]), *good[5:]]
            ),
            "record 4: impression 1: key 'label' holds 7; a label is 1 for a click",
        ),
    ],
)
def test_damage_of_a_group_is_named_or_left_out_and_counted_in_records(tmp_path, damage, message):
    good, lines = records_of(), []
    files = write_parts(tmp_path / "a", good) + write_parts(tmp_path / "b", good)
    kept = read(FileCheck(SCHEMA), files[:1])
    damage(tmp_path / "b" / "part-00000", good)
    with pytest.raises(DataError) as error:
        read(FileCheck(SCHEMA), files)
    assert str(error.value).startswith(f"{files[1]}: {message}")
    (tmp_path / "b" / "_SUCCESS.json").write_text(
        json.dumps({"entry": {"examples": len(kept), "records": len(good)}})
    )
    check = FileCheck(SCHEMA, len(good), lines.append)
    left = read(check, files)
    usable = check.cuts[files[1]]
    assert left == kept + kept[: sum(n for n, _ in SIZES[:usable])]
    assert lines[-1].endswith(f"/b: {len(good) - usable} of {len(good)} records left out")


def test_a_file_is_grouped_by_its_first_record(tmp_path):
    """A record of several impressions elsewhere is read where a file begins so, or named."""
    of_one = list(encode(SCHEMA, ungrouped(grouped_samples())))
    late = write_parts(tmp_path / "late", [of_one[0], *records_of()])
    early = write_parts(tmp_path / "early", records_of(sizes=[(1, 3)]))
    none = write_parts(tmp_path / "none", of_one)
    for limit in (0, 99):
        check = FileCheck(SCHEMA, limit, lambda line: None)
        assert [check.grouped(files) for files in (late, early, none)] == [False, True, False]
        assert len(read(check, late + early)) == 1 + len(of_one) + 1
        with pytest.raises(DataError) as error:
            read(check, none + late)
        where = f"{late[0]}: record 3: key 'newer' makes it a record of"
        assert str(error.value).startswith(where)
    assert look_through(late[0], SCHEMA) == (9, "")
