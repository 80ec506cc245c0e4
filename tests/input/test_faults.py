"""What is wrong with a file: which records can be used, and what is said about the others."""

import gzip
import os
import zlib

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.errors import DataError
from diffumin_tf.input import dataset, faults, framing
from diffumin_tf.input.damage import Repairs, resilient
from diffumin_tf.input.faults import BadRecord
from tests.input.harm import flip, flip_data, flip_length, offsets, tear
from tests.input.part_files import encoded, small_path, small_schema, write_parts

RECORDS = 20


@pytest.fixture(scope="module")
def schema():
    return small_schema()


@pytest.fixture(scope="module")
def good(schema):
    return encoded(schema, RECORDS)


@pytest.fixture
def file(tmp_path, good):
    return write_parts(tmp_path / "d", good)[0]


@pytest.fixture(params=[97, framing._PIECE], ids=lambda size: f"{size} bytes at once")
def pieces(request, monkeypatch):
    monkeypatch.setattr(framing, "_PIECE", request.param)


def examined(file, schema):
    """Records that can be used, and those that cannot."""
    found = list(faults.examine(str(file), schema))
    bad = [record for record in found if isinstance(record, BadRecord)]
    assert all(record.file == str(file) for record in bad)
    assert [found[record.number] for record in bad] == bad  # each stands in its place
    return [record for record in found if isinstance(record, bytes)], bad


def without(records, *numbers):
    return [record for number, record in enumerate(records) if number not in numbers]


def test_a_sound_file_is_what_was_written(file, schema, good, pieces):
    assert faults.soundness(schema)(file)
    assert examined(file, schema) == (good, [])
    assert faults.find_fault([file], schema) is None


@pytest.mark.parametrize("numbers", [(0,), (7,), (RECORDS - 1,), (3, 4, 11), range(RECORDS)])
def test_records_behind_damaged_data_survive(file, schema, good, pieces, numbers):
    flip_data(file, good, *numbers)
    assert not faults.soundness(schema)(file)
    survivors, bad = examined(file, schema)
    assert survivors == without(good, *numbers)
    assert [record.number for record in bad] == list(numbers)
    assert {record.reason for record in bad} == {
        "the data of the next one differ from their checksum"
    }


def test_a_damaged_checksum_of_data_is_like_damaged_data(file, schema, good):
    flip(file, offsets(good)[6] - 1)
    survivors, (bad,) = examined(file, schema)
    assert survivors == without(good, 5) and bad.number == 5


@pytest.mark.parametrize("place", [0, 6, 8, 11])
def test_a_damaged_length_or_its_checksum_loses_the_rest(file, schema, good, pieces, place):
    flip(file, offsets(good)[9] + place)
    survivors, (bad,) = examined(file, schema)
    assert survivors == good[:9] and bad.number == 9 and bad.torn
    lost = offsets(good)[-1] - offsets(good)[9]
    assert bad.reason == (
        f"the length of the next one is damaged, and with it the {lost:,} bytes to the end of the "
        "file are lost"
    )


def test_bytes_lost_are_counted_from_behind_other_damage(file, schema, good, pieces):
    flip_data(file, good, 2)
    flip_length(file, good, RECORDS - 1)
    survivors, bad = examined(file, schema)
    assert survivors == without(good, 2, RECORDS - 1)
    assert f"the {16 + len(good[-1]):,} bytes" in bad[1].reason


@pytest.mark.parametrize("size", [1, 4, 5, 30, "all but one"])
def test_a_torn_end_is_one_bad_record(file, schema, good, pieces, size):
    tear(file, 15 + len(good[-1]) if size == "all but one" else size)
    survivors, (bad,) = examined(file, schema)
    assert survivors == good[:-1] and bad.number == RECORDS - 1
    assert bad.reason == "the file ends within the next one"


def test_a_file_that_ends_between_two_records_is_sound(file, schema, good):
    tear(file, 16 + len(good[-1]))
    assert faults.soundness(schema)(file) and examined(file, schema) == (good[:-1], [])


def test_an_empty_file_is_sound(tmp_path, schema):
    for name in ("part-0", "part-1.gz"):
        (tmp_path / name).touch()
        assert faults.soundness(schema)(str(tmp_path / name))
    assert examined(tmp_path / "part-0", schema) == ([], [])


def test_a_file_of_garbage_is_one_bad_record(tmp_path, schema):
    (tmp_path / "part-0").write_bytes(np.random.default_rng(0).bytes(1000))
    survivors, (bad,) = examined(tmp_path / "part-0", schema)
    assert survivors == [] and "1,000 bytes" in bad.reason


@pytest.fixture(scope="module")
def many(schema):
    return encoded(schema, 800)


@pytest.fixture
def zipped(tmp_path, many):
    return write_parts(tmp_path / "z", many, compression="GZIP")[0]


def test_of_a_damaged_zipped_file_the_records_before_the_damage_survive(zipped, schema, many):
    middle = os.path.getsize(zipped) // 2
    flip(zipped, middle)
    assert not faults.soundness(schema)(zipped)
    survivors, (bad,) = examined(zipped, schema)
    with open(zipped, "rb") as file:
        intact = len(zlib.decompressobj(31).decompress(file.read(middle - 4)))
    assert survivors == many[: len(survivors)] and len(survivors) > 200
    assert offsets(survivors)[-1] > intact - max(map(len, many)) - 16
    assert bad.number == len(survivors) and bad.torn
    assert bad.reason == "the zipped data are damaged or torn, and what follows is lost"


def test_a_torn_zipped_file_is_one_bad_record(zipped, schema, many):
    tear(zipped, 1000)
    assert not faults.soundness(schema)(zipped)
    survivors, (bad,) = examined(zipped, schema)
    assert survivors == many[: len(survivors)] and 500 < len(survivors) < len(many)
    assert bad.number == len(survivors) and "damaged or torn" in bad.reason


def test_zipped_files_joined_end_to_end_are_read_on(tmp_path, schema, good):
    one = write_parts(tmp_path / "z", good[:5], compression="GZIP")[0]
    other = write_parts(tmp_path / "y", [*good[5:], b"no example"], compression="GZIP")[0]
    with open(one, "ab") as file, open(other, "rb") as more:
        file.write(more.read())
    survivors, (bad,) = examined(one, schema)
    assert survivors == good and not bad.torn


def test_damage_within_sound_zipped_data_ends_the_file_too(tmp_path, schema, good):
    (plain,) = write_parts(tmp_path / "d", good)
    flip_data(plain, good, 4)
    with gzip.open(tmp_path / "part-0.gz", "wb") as file, open(plain, "rb") as content:
        file.write(content.read())
    survivors, (bad,) = examined(tmp_path / "part-0.gz", schema)
    assert survivors == good[:4] and bad.number == 4


def test_records_that_do_not_fit_are_told_from_damaged_ones(tmp_path, schema, good, monkeypatch):
    monkeypatch.setattr(faults, "_BATCH", 3)
    records = [*good[:5], b"no example", *good[5:10], b"", *good[10:]]
    (file,) = write_parts(tmp_path / "d", records)
    flip_data(file, records, 6)
    survivors, bad = examined(file, schema)
    assert survivors == without(records, 5, 6, 11)
    assert [(record.number, record.torn) for record in bad] == [(5, False), (6, True), (11, False)]
    assert str(bad[0]).startswith(f"{file}: record 5: no tf.train.Example")
    assert str(bad[1]).startswith(f"{file}: torn or damaged after 6 records: the data of the next")
    assert str(bad[2]).startswith(f"{file}: record 11: key 'label' is missing")


def with_fault(change):
    def make(example):
        change(example.features.feature)
        return example.SerializeToString()

    return make


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            with_fault(lambda f: f["cat_feature"].int64_list.value.append(3)),
            "key 'cat_feature' has 9 int64_list values (it holds a int64_list); "
            "the_schema.json wants 8",
        ),
        (
            with_fault(lambda f: f["cat_feature"].int64_list.value.pop()),
            "key 'cat_feature' has 7 int64_list values",
        ),
        (
            with_fault(lambda f: f.pop("dense_feature")),
            "key 'dense_feature' is missing; the_schema.json wants 1 values",
        ),
        (with_fault(lambda f: f.pop("label")), "key 'label' is missing"),
        (
            with_fault(lambda f: f["label"].ClearField("int64_list")),
            "key 'label' has 0 int64_list values (it holds a nothing)",
        ),
        (
            with_fault(lambda f: f["dense_feature"].int64_list.value.append(2)),
            "key 'dense_feature' has 0 float_list values (it holds a int64_list)",
        ),
        (
            with_fault(lambda f: f["auxiliary_info"].bytes_list.value.append(b"7")),
            "key 'auxiliary_info' has 0 int64_list values (it holds a bytes_list)",
        ),
        (
            with_fault(lambda f: f["item_list"].float_list.value.append(1.0)),
            "key 'item_list' holds a float_list; the_schema.json wants an int64_list",
        ),
        (
            with_fault(lambda f: f["item_list"].bytes_list.value.append(b"x")),
            "key 'item_list' holds a bytes_list",
        ),
        (lambda example: b"\xff\xffnot a proto", "no tf.train.Example"),
    ],
)
def test_a_record_that_does_not_fit_is_named_with_its_key_and_what_is_right(
    schema, path, tmp_path, good, damage, message
):
    bad = damage(tf.train.Example.FromString(good[15]))
    files = write_parts(tmp_path / "a", good)
    files += write_parts(tmp_path / "b", [*good[:15], bad, *good[15:]])
    with pytest.raises(DataError) as error:
        read_strictly(files, schema, path)
    assert str(error.value).startswith(f"{files[1]}: record 15: {message}")
    assert examined(files[1], schema)[0] == good


@pytest.fixture(scope="module")
def path(schema):
    return small_path(schema)


def read_strictly(files, schema, path):
    def make(files, skip):
        return dataset.batches(files, schema, path, 8, "user_id", skip=skip)

    none_allowed = Repairs("nowhere", schema, 0, lambda line: None)
    return list(resilient(make, files, none_allowed))


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_a_torn_file_is_named_with_the_records_before_the_tear(
    schema, path, tmp_path, good, compression
):
    files = write_parts(tmp_path / "d", good, 2, compression)
    tear(files[1], 30)
    with pytest.raises(DataError, match=r"part-00001(.gz)?: torn or damaged after \d records: \w"):
        read_strictly(files, schema, path)


def test_empty_files_alone_are_an_error_and_among_others_are_none(schema, path, tmp_path, file):
    empty = [str(tmp_path / "part-0"), str(tmp_path / "part-1")]
    for name in empty:
        open(name, "w").close()
    with pytest.raises(DataError, match="part-0: no record in 1 files"):
        read_strictly(empty[:1], schema, path)
    with pytest.raises(DataError, match="part-0 …: no record in 2 files"):
        read_strictly(empty, schema, path)
    assert sum(len(label) for _, label in read_strictly([*empty, file], schema, path)) == RECORDS


def test_a_file_that_vanished_is_named(schema, path, tmp_path):
    gone = str(tmp_path / "gone")
    for look in (
        lambda: read_strictly([gone], schema, path),
        lambda: faults.find_fault([gone], schema),
    ):
        with pytest.raises(DataError) as error:
            look()
        assert str(error.value) == f"cannot be read: {gone}; No such file or directory"
