"""Reading on past damage: the same batches as from files that never held the bad records."""

import os
import pathlib

import pytest
import tensorflow as tf

from diffumin_tf.errors import DataError
from diffumin_tf.input import dataset
from diffumin_tf.input.damage import Repairs, resilient
from tests.input.harm import flip, flip_data, flip_length, tear
from tests.input.part_files import encoded, small_path, small_schema, users_of, write_parts
from tests.prepare.prepared import fill_disk

# Four files of 50 records.
FILES, EACH, BATCH = 4, 50, 16


@pytest.fixture(scope="module")
def schema():
    return small_schema()


@pytest.fixture(scope="module")
def path(schema):
    return small_path(schema)


@pytest.fixture(scope="module")
def contents(schema):
    """Records of each file."""
    return [encoded(schema, EACH, EACH * number) for number in range(FILES)]


@pytest.fixture
def files(tmp_path, contents):
    return [write_parts(tmp_path / f"d{n}", content)[0] for n, content in enumerate(contents)]


@pytest.fixture
def lines():
    return []


@pytest.fixture
def repairs_for(tmp_path, schema, lines):
    return lambda limit: Repairs(str(tmp_path / "repaired"), schema, limit, lines.append)


@pytest.fixture
def begun():
    """Where each reading began."""
    return []


@pytest.fixture
def read(schema, path, begun):
    """Users of each batch, read with repairs or without."""

    def users(files, repairs=None, shuffle=(60, 3), skip=0, **options):
        def make(files, skip):
            begun.append(skip)
            return dataset.batches(
                files, schema, path, BATCH, "user_id", shuffle, skip=skip, **options
            )

        if repairs is None:
            return users_of(make(files, skip))
        return users_of(resilient(make, files, repairs, skip))

    return users


def damage_all(files, contents):
    """Harms three files in every way; returns how many bad records that makes."""
    flip_data(files[0], contents[0], 31, 32, 40)
    flip_length(files[1], contents[1], 35)
    flip_data(files[1], contents[1], 20)
    tear(files[3], 30)
    return 6


@pytest.fixture
def cleaned(tmp_path, contents):
    """The files of `damage_all` without the bad records."""
    kept = [
        [data for number, data in enumerate(contents[0]) if number not in (31, 32, 40)],
        [data for number, data in enumerate(contents[1][:35]) if number != 20],
        contents[2],
        contents[3][:-1],
    ]
    return [write_parts(tmp_path / f"c{n}", content)[0] for n, content in enumerate(kept)]


@pytest.mark.parametrize("shuffle", [None, (1, 3), (60, 10), (1000, 3)])
def test_damage_met_on_the_way_gives_the_batches_of_files_without_the_bad_records(
    files, cleaned, contents, repairs_for, read, shuffle, begun
):
    bad = damage_all(files, contents)
    expected = read(cleaned, shuffle=shuffle)
    assert len(expected) == 12 and len(sum(expected, [])) == FILES * EACH - 20
    for skip in (0, 5):
        repairs = repairs_for(bad)
        begun.clear()
        assert read(files, repairs, shuffle, skip) == expected[skip:]
        assert len(repairs.bad_records) == bad
        # It was met on the way, unless the buffer holds everything.
        assert begun[0] == skip and len(begun) == 2
        assert skip or (begun[1] > 0) == (shuffle != (1000, 3))
    assert read(files, repairs, shuffle) == expected  # and so does the next reading


def test_damage_that_comes_while_files_are_read_is_mended_too(
    files, schema, path, contents, repairs_for
):
    flip_data(files[0], contents[0], 5)
    repairs = repairs_for(2)

    def make(files, skip):
        return dataset.batches(files, schema, path, 1, "user_id", skip=skip)

    batches = resilient(make, files, repairs)
    found = [next(batches) for _ in range(10)]
    assert len(repairs.bad_records) == 1
    flip_data(files[3], contents[3], EACH - 2)  # a file that was sound when it was looked at
    found += batches
    assert len(repairs.bad_records) == 2
    assert sum(users_of(found), []) == [
        user for user in range(FILES * EACH) if user not in (5, FILES * EACH - 2)
    ]


@pytest.mark.parametrize("options", [{"input_shards": 2}, {"input_shards": 4}])
def test_damage_among_shards(files, cleaned, contents, repairs_for, read, options):
    bad = damage_all(files, contents)
    for skip in (0, 4):
        expected = read(cleaned, skip=skip, **options)
        assert read(files, repairs_for(bad), skip=skip, **options) == expected


def test_a_worker_mends_its_own_files_alone(files, schema, path, contents, repairs_for):
    options = {"part": dataset.Part(0, 1, 2, 0, 2), "input_shards": 2}
    own = dataset.own_files(files, (60, 3), **options)
    for file, content in zip(files, contents, strict=True):
        flip_data(file, content, 30)
    repairs = repairs_for(2)

    def make(files, skip):
        return dataset.batches(files, schema, path, BATCH, "user_id", (60, 3), skip=skip, **options)

    found = users_of(resilient(make, files, repairs, own=own))
    assert len(sum(found, [])) == 2 * (EACH - 1)
    assert {record.file for record in repairs.bad_records} == set(own)


def test_zipped_files_are_mended(tmp_path, contents, repairs_for, read):
    files = [
        write_parts(tmp_path / f"d{n}", content, compression="GZIP")[0]
        for n, content in enumerate(contents)
    ]
    flip(files[2], os.path.getsize(files[2]) // 2)
    tear(files[3], 100)
    repairs = repairs_for(2)
    batches = read(files, repairs, None)
    left = [record.number for record in repairs.bad_records]
    assert 0 < left[0] < EACH and EACH - 5 < left[1] < EACH
    kept = [*range(2 * EACH + left[0]), *range(3 * EACH, 3 * EACH + left[1])]
    assert sum(batches, []) == kept


def test_a_file_of_bad_records_alone_becomes_an_empty_one(files, contents, repairs_for, read):
    flip_data(files[2], contents[2], *range(EACH))
    assert read(files, repairs_for(EACH)) == read([files[0], files[1], _empty(files), files[3]])


def _empty(files):
    empty = pathlib.Path(files[0]).parent / "empty"
    empty.touch()
    return str(empty)


def test_each_bad_record_is_one_line_and_the_originals_stay(
    files, contents, repairs_for, lines, tmp_path
):
    flip_data(files[1], contents[1], 7)
    flip_data(files[2], contents[2], 9)
    before = [pathlib.Path(file).read_bytes() for file in files]
    repairs = repairs_for(5)
    assert repairs.files(files) == files and not (tmp_path / "repaired").exists()
    assert repairs.mend(files) is True
    assert lines == [
        f"bad record {n} of at most 5 left out: {files[n]}: torn or damaged after {number} "
        "records: the data of the next one differ from their checksum"
        for n, number in ((1, 7), (2, 9))
    ]
    mended = repairs.files(files)
    assert mended[0] == files[0] and mended[3] == files[3]
    assert sorted(os.listdir(tmp_path / "repaired")) == sorted(
        os.path.basename(mended[n]) for n in (1, 2)
    )
    assert [pathlib.Path(file).read_bytes() for file in files] == before
    assert repairs.mend(files) is False and repairs.mend(files, afresh=True) is False
    assert len(lines) == 2


def test_files_found_sound_are_looked_at_again_only_on_demand(files, contents, repairs_for):
    repairs = repairs_for(1)
    assert not repairs.mend(files)
    flip_data(files[1], contents[1], 7)
    assert not repairs.mend(files)
    assert repairs.mend(files, afresh=True)


def test_without_a_limit_the_first_bad_record_is_the_error(files, contents, repairs_for, read):
    damage_all(files, contents)
    with pytest.raises(DataError) as error:
        read(files, repairs_for(0))
    assert str(error.value) == (
        f"{files[0]}: torn or damaged after 31 records: the data of the next one differ from "
        "their checksum"
    )


def test_more_damage_than_allowed_is_an_error_that_names_the_first(
    files, contents, repairs_for, lines, read, tmp_path
):
    bad = damage_all(files, contents)
    with pytest.raises(DataError) as error:
        read(files, repairs_for(bad - 1))
    message = str(error.value)
    assert message.startswith(f"more than max_bad_records {bad - 1} bad records: {files[0]}: torn")
    for number in (31, 32, 40):
        assert f"{files[0]}: torn or damaged after {number} records: the data" in message
    assert message.endswith("; …") and files[1] not in message
    assert len(lines) == bad - 1
    left = os.listdir(tmp_path / "repaired")
    assert len(left) == 2 and not any(name.startswith(".") for name in left)


def test_the_limit_counts_over_all_readings(files, contents, repairs_for, read):
    repairs = repairs_for(1)
    flip_data(files[0], contents[0], 3)
    read(files[:2], repairs)
    flip_data(files[3], contents[3], 3)
    with pytest.raises(DataError, match="more than max_bad_records 1 bad records: .*; .*d3/part-"):
        read(files[2:], repairs)


@pytest.mark.parametrize("limit", [0, 5])
def test_a_file_that_vanishes_between_listing_and_reading_is_named(
    files, schema, path, repairs_for, limit
):
    def make(files, skip):
        return dataset.batches(files, schema, path, 1, "user_id", skip=skip)

    batches = resilient(make, files, repairs_for(limit))
    next(batches)
    # Batches are read ahead, but not by as much as all the records of the files in between.
    os.remove(files[3])
    with pytest.raises(DataError) as error:
        list(batches)
    assert str(error.value) == f"cannot be read: {files[3]}; No such file or directory"


def test_a_file_that_vanishes_before_damage_is_looked_for_is_named(
    files, contents, repairs_for, read
):
    flip_data(files[0], contents[0], 3)
    os.remove(files[3])
    with pytest.raises(DataError) as error:
        read(files, repairs_for(5), None)
    assert str(error.value) == f"cannot be read: {files[3]}; No such file or directory"


def test_failures_without_damage_come_through_as_one_error(files, repairs_for):
    def make(files, skip):
        return tf.data.Dataset.range(3).map(lambda n: tf.gather([7], n))

    with pytest.raises(DataError, match=r"^indices = 1 is not in \[0, 1\)$"):
        list(resilient(make, files, repairs_for(5)))


def test_nothing_to_read_is_an_error_unless_it_was_read_before(files, repairs_for, read):
    empty = _empty(files)
    with pytest.raises(DataError, match="empty: no record in 1 files"):
        read([empty], repairs_for(0))
    assert read([empty, *files], repairs_for(0), None) == read(files, None, None)
    assert read(files, repairs_for(0), skip=13) == []


def test_a_full_disk_is_one_clear_error_and_leaves_no_half_copy(
    files, contents, repairs_for, read, tmp_path, monkeypatch
):
    flip_data(files[1], contents[1], 7)
    fill_disk(monkeypatch)
    with pytest.raises(DataError) as error:
        read(files, repairs_for(5))
    assert str(error.value) == (
        f"{tmp_path}/repaired: no space left on the disk for a copy of {files[1]} without its bad "
        "records"
    )
    assert os.listdir(tmp_path / "repaired") == []


def test_copies_of_files_of_the_same_name_do_not_meet(tmp_path, contents, repairs_for, read):
    files = []
    for day, content in zip(("20240101", "20240102"), contents[:2], strict=True):
        files += write_parts(tmp_path / day, content)
        flip_data(files[-1], content, 0)
    assert {os.path.basename(file) for file in files} == {"part-00000"}
    users = sum(read(files, repairs_for(2), None), [])
    assert users == [*range(1, EACH), *range(EACH + 1, 2 * EACH)]
