"""Damaged record files: the error names file and place, or the rest of the file is left out."""

import gzip
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.errors import DataError
from diffumin_tf.input.damage import FileCheck, frames, look_through
from diffumin_tf.input.dataset import Batches, Part
from tests.input import part_files
from tests.input.part_files import encoded, flip, flip_data, offsets, tear, write_parts

# Four days of one file of 50 records.
FILES, EACH, BATCH = 4, 50, 16


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
def check_of(schema, lines):
    return lambda limit=0: FileCheck(schema, limit, lines.append)


@pytest.fixture
def read(schema, path):
    """Users of each batch."""

    def users(files, check=None, shuffle=None, skip=0, **options):
        batches = Batches(files, schema, path, BATCH, "user_id", shuffle, check=check, **options)
        return part_files.users_of(batches.epoch(skip=skip))

    return users


def count_day(file):
    """Writes the `_SUCCESS.json` of the day of a file."""
    success = pathlib.Path(file).parent / "_SUCCESS.json"
    success.write_text(json.dumps({"entry": {"examples": EACH}}))


def zipped(file):
    """A zipped copy in the place of a file."""
    with open(file, "rb") as plain, gzip.open(file + ".gz", "wb") as copy:
        copy.write(plain.read())
    os.remove(file)
    return file + ".gz"


@pytest.mark.parametrize(
    ("damage", "number"),
    [
        (lambda file, good: flip_data(file, good, 7), 7),
        (lambda file, good: flip(file, offsets(good)[9]), 9),  # a length
        (lambda file, good: flip(file, offsets(good)[9] + 8), 9),  # the checksum of a length
        (lambda file, good: tear(file, 1), EACH - 1),
        (lambda file, good: tear(file, len(good[-1])), EACH - 1),
        (lambda file, good: pathlib.Path(file).write_bytes(b"no record" * 90), 0),
    ],
)
@pytest.mark.parametrize("kind", ["plain", "gz"])
def test_damage_is_named_with_file_and_place(files, contents, schema, read, kind, damage, number):
    damage(files[1], contents[1])
    if kind == "gz":
        files = [zipped(file) for file in files]
    with pytest.raises(DataError) as error:
        read(files, shuffle=(60, 3))
    assert f"{files[1]}: torn or damaged after {number} records: " in str(error.value)
    assert look_through(files[1], schema)[0] == number
    assert "\n" not in str(error.value)


def test_damage_of_the_zipped_bytes_themselves_is_named(files, schema, read):
    files = [zipped(file) for file in files]
    flip(files[1], os.path.getsize(files[1]) // 2)
    tear(files[2], 100)
    for number in (1, 2):
        with pytest.raises(DataError, match=rf"d{number}/.*.gz: torn or damaged after \d+ records"):
            read(files[number:])


def test_whole_files_have_no_damage(files, contents, schema, tmp_path):
    (tmp_path / "part-0").touch()
    tear(files[0], 16 + len(contents[0][-1]))  # it ends between two records
    for file, count in ((files[0], EACH - 1), (files[1], EACH), (str(tmp_path / "part-0"), 0)):
        assert frames(file) == (count, "")
        assert look_through(file, schema) == (count, "")
    assert look_through(zipped(files[1]), schema) == (EACH, "")
    tear(files[2], 15 + len(contents[2][-1]))  # one byte is left of the last record
    assert frames(files[2])[0] == EACH - 1 and "1 bytes are left" in frames(files[2])[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda feature: feature["cat_feature"].int64_list.value.append(3),
            "key 'cat_feature' has 9 int64_list values (it holds a int64_list); the_schema.json",
        ),
        (
            lambda feature: feature.pop("label"),
            "key 'label' is missing; training and metrics need a label in all records",
        ),
        (
            lambda feature: feature["dense_feature"].int64_list.value.append(1),
            "key 'dense_feature' has 0 float_list values (it holds a int64_list)",
        ),
        (
            lambda feature: feature["item_list"].bytes_list.value.append(b"x"),
            "key 'item_list' holds a bytes_list; the_schema.json wants an int64_list",
        ),
        (
            lambda feature: feature["label"].int64_list.value.__setitem__(0, -1),
            "key 'label' holds -1; a label is 1 for a click and 0 otherwise",
        ),
        (
            lambda feature: feature["label"].int64_list.value.__setitem__(0, 5),
            "key 'label' holds 5; a label is 1 for a click",
        ),
        (
            lambda feature: feature["cat_feature"].int64_list.value.__setitem__(1, -(2**62)),
            "key 'cat_feature', column 'item', holds -4611686018427387904; an id is a number",
        ),
        (
            lambda feature: feature["item_list"].int64_list.value.append(-7),
            "key 'item_list' holds -7; an id is a number of 63 bits, and 0 is a missing value",
        ),
        (
            lambda feature: (feature["click"], feature.pop("label")),
            "key 'label' is missing; the_schema.json wants 1 values; records with a key for each",
        ),
        (None, "no tf.train.Example"),
    ],
)
def test_a_record_that_does_not_fit_is_named(read, contents, tmp_path, change, message):
    good, bad = contents[0], b"\xff\xffnot a proto"
    if change:
        example = tf.train.Example.FromString(good[15])
        change(example.features.feature)
        bad = example.SerializeToString()
    files = write_parts(tmp_path / "a", good)
    files += write_parts(tmp_path / "b", [*good[:15], bad, *good[15:]])
    with pytest.raises(DataError) as error:
        read(files)
    assert str(error.value).startswith(f"{files[1]}: record 15: {message}")


@pytest.mark.parametrize("limit", [0, 500])
def test_a_sequence_example_is_refused(contents, check_of, tmp_path, limit):
    """Its context is read as an Example's features, and histories would be empty."""
    sequence = tf.train.SequenceExample()
    sequence.context.CopyFrom(tf.train.Example.FromString(contents[0][0]).features)
    sequence.feature_lists.feature_list["item_list"].feature.add().int64_list.value.append(3)
    files = write_parts(tmp_path / "a", contents[0])
    files += write_parts(tmp_path / "b", [sequence.SerializeToString()])
    with pytest.raises(DataError) as error:
        check_of(limit).look(files)
    assert str(error.value).startswith(f"{files[1]}: record 0: a tf.train.SequenceExample, whose")
    assert "['item_list']" in str(error.value)


READ_ABSURD = """
import sys
from diffumin_tf.input.damage import FileCheck
from diffumin_tf.input.parsing import read_records
from tests.input.part_files import small_schema
for file in sys.argv[1:]:
    for limit in (0, 1):
        check = FileCheck(small_schema(), limit, lambda line: None)
        try:
            check.look([file])
            print(len(list(check.read(read_records([file], check.cuts), [file]))))
        except Exception as error:
            print(type(error).__name__, error)
"""


def test_an_absurd_length_is_an_error_and_asks_for_no_memory(tmp_path, contents):
    """In a process of its own, which TensorFlow's reader would bring down."""
    (whole,) = write_parts(tmp_path / "d", contents[0])
    files = []
    for length in (2**40, 2**62, 2**64 - 1):
        file = tmp_path / f"part-{length}"
        torn = pathlib.Path(whole).read_bytes() + part_files.frame_of(length) + b"x" * 100
        file.write_bytes(torn)
        with gzip.open(f"{file}.gz", "wb") as copy:
            copy.write(torn)
        files += [str(file), f"{file}.gz"]
    command = [sys.executable, "-c", READ_ABSURD, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for file, strict, lenient in zip(files, lines[::2], lines[1::2], strict=True):
        assert strict.startswith(f"DataError {file}: torn or damaged after {EACH} records: ")
        assert lenient == str(EACH)


@pytest.mark.parametrize(
    ("kind", "shuffle", "options"),
    [
        ("plain", None, {}),
        ("gz", (60, 10), {}),
        ("plain", (60, 10), {"input_shards": 2}),
        ("plain", (1000, 3), {}),
    ],
)
def test_the_rest_of_a_damaged_file_is_left_out_and_what_lies_before_keeps_its_place(
    files, contents, check_of, read, tmp_path, kind, options, shuffle
):
    alike = [
        write_parts(tmp_path / f"c{n}", content[:kept])[0]
        for n, (content, kept) in enumerate(zip(contents, (31, 0, EACH, EACH - 1), strict=True))
    ]
    expected = read(alike, None, shuffle, **options)
    assert len(sum(expected, [])) == 130
    flip_data(files[0], contents[0], 31)
    flip(files[1], 0)
    tear(files[3], 30)
    for file in files:
        count_day(file)
    if kind == "gz":
        files = [zipped(file) for file in files]
    for skip in (0, 5):  # at the start, and after a restart in the middle
        check = check_of(EACH + 20)
        assert read(files, check, shuffle, skip, **options) == expected[skip:]
        assert check.cuts == {files[0]: 31, files[1]: 0, files[3]: EACH - 1}
    with pytest.raises(DataError, match="70 in all are more than max_bad_records 69"):
        read(files, check_of(EACH + 19), shuffle, **options)


def test_a_run_goes_on_with_the_same_batches_once_damage_ahead_is_allowed(
    files, contents, schema, path, check_of, read
):
    def users(check):
        batches = Batches(files, schema, path, BATCH, "user_id", (40, 3), check=check)
        return (batch.user.numpy().tolist() for batch in batches.epoch())

    order = np.random.default_rng(3).permutation(FILES)
    flip_data(files[order[-1]], contents[order[-1]], 20)
    before, after = [], users(check_of(50))
    with pytest.raises(DataError, match="torn or damaged after 20 records"):
        for batch in users(check_of()):
            before.append(batch)
    assert len(before) >= 5
    assert before == [next(after) for _ in before]
    assert list(after) == read(files, check_of(50), (40, 3), len(before))


def test_what_is_left_out_is_counted_by_day_and_each_file_is_one_line(
    tmp_path, schema, contents, check_of, lines
):
    """Two files of a day of 50 are damaged; another day does not know how many it has."""
    day = write_parts(tmp_path / "day", contents[0], parts=3)  # of 17, 17 and 16
    count_day(day[0])
    flip_data(day[0], contents[0][0::3], 7)
    flip_data(day[2], contents[0][2::3], 12)
    (unknown,) = write_parts(tmp_path / "unknown", contents[1])
    flip_data(unknown, contents[1], 45)
    check_of(19).look([*day, unknown])
    folders = [str(tmp_path / "day"), str(tmp_path / "unknown")]
    assert [line.partition(":")[0] for line in lines] == [day[0], day[2], unknown, *folders]
    assert "torn or damaged after 7 records: " in lines[0]
    assert lines[3].endswith(": 14 of 50 records left out")
    assert ": at least 5 records left out (_SUCCESS.json" in lines[4]
    with pytest.raises(DataError, match=r"at least 5 records left out.*19 in all.*_records 18"):
        check_of(18).look([*day, unknown])


def test_the_limit_counts_over_all_splits_and_files_are_looked_at_once(
    files, contents, check_of, lines, read
):
    flip_data(files[0], contents[0], EACH - 3)
    flip_data(files[3], contents[3], EACH - 3)
    check = check_of(5)
    check.look(files[:2])
    flip_data(files[1], contents[1], 9)
    check.look(files[:2])
    assert len(lines) == 2
    with pytest.raises(DataError, match="d1/part-00000: torn or damaged after 9 records"):
        read(files[:2], check)
    with pytest.raises(DataError, match="6 in all are more than max_bad_records 5"):
        check.look(files)


def test_a_worker_that_reads_some_of_the_files_knows_the_cuts_of_all(
    files, contents, check_of, read
):
    flip_data(files[0], contents[0], 10)
    flip_data(files[1], contents[1], 20)
    parts = [Part(n, 1, 2, n, 2) for n in range(2)]
    found = [read(files, check_of(80), part=part, input_shards=2) for part in parts]
    whole = read(files, check_of(80), input_shards=2)
    both = [sum(step, []) for step in zip(*found, strict=False)]
    assert both == whole[: len(both)] and len(both) >= 4


def test_a_file_that_is_gone_is_named(files, schema, path, check_of):
    with pytest.raises(DataError, match="cannot be read: .*gone; No such file"):
        check_of().look(["gone"])
    batches = Batches(files, schema, path, 1, "user_id").epoch()
    next(batches)
    # Batches are read ahead, but not by as much as all the records of the files in between.
    os.remove(files[3])
    with pytest.raises(DataError) as error:
        list(batches)
    assert str(error.value) == f"cannot be read: {files[3]}; No such file or directory"


def test_failures_without_damage_come_through_as_one_error(files, check_of):
    batches = tf.data.Dataset.range(3).map(lambda n: tf.gather([7], n))
    with pytest.raises(DataError, match=r"^indices = 1 is not in \[0, 1\)$"):
        list(check_of().read(batches, files))


def test_nothing_to_read_is_an_error_unless_it_was_read_before(files, contents, read, check_of):
    empty = [str(pathlib.Path(files[0]).parent / f"empty-{n}") for n in range(2)]
    for file in empty:
        pathlib.Path(file).touch()
    with pytest.raises(DataError, match="empty-0: no record in 1 files"):
        read(empty[:1])
    with pytest.raises(DataError, match="empty-0 …: no record in 2 files"):
        read(empty)
    assert read([*empty, *files]) == read(files)
    assert read(files, skip=13) == []
    flip(files[0], 0)
    with pytest.raises(DataError, match="no record in 1 files"):
        read(files[:1], check_of(EACH))
