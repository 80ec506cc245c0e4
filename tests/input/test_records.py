"""Records on disk: whole or absent, whatever happens in between."""

import errno
import os

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input import records
from tests.small_log import SCHEMA, samples

DISK_FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    tf.errors.ResourceExhaustedError(None, None, "full"),
    tf.errors.UnknownError(None, None, "x; No space left on device"),
]


@pytest.fixture(scope="module")
def schema():
    return DataStruct.from_dict(SCHEMA)


@pytest.mark.parametrize(
    ("group", "says"),
    [
        ("auxiliary_info", r"shape \(5, 2\), the schema says \(5, 1\)"),
        ("cat_feature", r"shape \(5, 9\), the schema says \(5, 8\)"),
        ("dense_feature", r"shape \(5, 2\), the schema says \(5, 1\)"),
    ],
)
def test_a_group_of_another_width_than_the_schema_is_refused(schema, group, says):
    data = samples(5, seed=0)
    values = getattr(data, group)
    setattr(data, group, np.hstack([values, values[:, :1]]))
    with pytest.raises(DataError, match=f"{group}: {says}"):
        list(records.encode(schema, data))


def test_equal_samples_are_equal_bytes(schema):
    one, other = (list(records.encode(schema, samples(9, seed=3))) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_samples_go_to_the_parts_in_turn(tmp_path, compression):
    with records.PartWriter(str(tmp_path), 3, compression) as writer:
        writer.write([b"0", b"1"])
        writer.write(iter([b"2", b"3"]))
        assert writer.examples == 4
    suffix = ".gz" if compression else ""
    assert sorted(os.listdir(tmp_path)) == [f"part-0000{n}{suffix}" for n in range(3)]
    contents = [
        list(tf.data.TFRecordDataset(f"{tmp_path}/part-0000{n}{suffix}", compression))
        for n in range(3)
    ]
    assert [[r.numpy() for r in part] for part in contents] == [[b"0", b"3"], [b"1"], [b"2"]]


def test_a_staged_folder_appears_only_when_it_is_complete(tmp_path):
    final = tmp_path / "deep" / "out"
    with records.staged_directory(str(final) + "/") as staging:
        assert os.path.basename(staging).startswith(".")
        (tmp_path / "deep" / os.path.basename(staging) / "file").write_text("x")
        assert not final.exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    assert (final / "file").read_text() == "x"


@pytest.mark.parametrize("stop", [ValueError("bad"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_and_passes_through(tmp_path, stop):
    with pytest.raises(type(stop)):
        with records.staged_directory(str(tmp_path / "out")) as staging:
            open(f"{staging}/file", "w").close()
            raise stop
    assert os.listdir(tmp_path) == []


def test_what_a_killed_run_left_is_not_taken_over(tmp_path):
    (tmp_path / ".out.incomplete").mkdir()
    (tmp_path / ".out.incomplete" / "old").touch()
    with records.staged_directory(str(tmp_path / "out")) as staging:
        open(f"{staging}/new", "w").close()
    assert os.listdir(tmp_path) == ["out"] and os.listdir(tmp_path / "out") == ["new"]


def test_a_folder_that_exists_is_never_touched(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(DataError, match="out: exists already; remove it or choose another output"):
        with records.staged_directory(str(tmp_path / "out")):
            raise AssertionError("must not come here")
    assert os.listdir(tmp_path) == ["out"] and os.listdir(tmp_path / "out") == ["mine"]


@pytest.mark.parametrize("error", DISK_FULL)
def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path, error):
    with pytest.raises(DataError, match="out: no space left on the disk; nothing was kept"):
        with records.staged_directory(str(tmp_path / "out")) as staging:
            open(f"{staging}/file", "w").close()
            raise error
    assert os.listdir(tmp_path) == []


def test_other_errors_are_not_a_full_disk():
    assert not records.is_disk_full(OSError(errno.EACCES, "No space left"))
    assert not records.is_disk_full(tf.errors.NotFoundError(None, None, "gone"))


def test_text_is_replaced_whole(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("old and much longer")
    records.write_text(str(path), "new ✓")
    assert path.read_text(encoding="utf-8") == "new ✓" and os.listdir(tmp_path) == ["metrics.json"]


@pytest.mark.parametrize("error", [*DISK_FULL, KeyboardInterrupt()])
def test_a_failed_write_keeps_the_old_text_and_nothing_else(tmp_path, monkeypatch, error):
    path = tmp_path / "metrics.json"
    path.write_text("old")

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(tf.io.gfile, "rename", fail)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else DataError
    with pytest.raises(expected):
        records.write_text(str(path), "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["metrics.json"]
