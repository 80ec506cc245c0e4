"""Files and folders: whole or absent, whatever happens in between."""

import errno
import os

import pytest
import tensorflow as tf

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.files import is_disk_full, staged_directory, write_text

DISK_FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    tf.errors.ResourceExhaustedError(None, None, "full"),
    tf.errors.UnknownError(None, None, "x; No space left on device"),
]

FULL = "out: no space left on the disk; nothing was kept"
FAILURES = [
    (ValueError("bad"), ValueError, None),
    (KeyboardInterrupt(), KeyboardInterrupt, None),
    *((error, DataError, FULL) for error in DISK_FULL),
]


def test_a_staged_folder_appears_only_when_it_is_complete(tmp_path):
    parent = tmp_path / "deep"
    (parent / ".out.incomplete" / "of a killed run").mkdir(parents=True)
    with staged_directory(f"{parent}/out/") as staging:
        (parent / ".out.incomplete" / "file").touch(exist_ok=False)
        assert staging == f"{parent}/.out.incomplete"
        assert sorted(os.listdir(parent)) == [".out.incomplete", ".out.lock"]
    assert os.listdir(parent) == ["out"] and os.listdir(parent / "out") == ["file"]


def test_a_second_process_that_writes_the_same_folder_is_refused_at_the_start(tmp_path):
    with staged_directory(f"{tmp_path}/out") as staging:
        (tmp_path / ".out.incomplete" / "mine").touch()
        with pytest.raises(ConfigError, match=f"out: another process works here .*{os.getpid()}"):
            with staged_directory(f"{tmp_path}/out"):
                raise AssertionError("must not come here")
        assert os.listdir(staging) == ["mine"]
    assert os.listdir(tmp_path / "out") == ["mine"]


@pytest.mark.parametrize(("error", "expected", "message"), FAILURES)
def test_a_failure_leaves_no_folder_and_a_full_disk_is_reported(tmp_path, error, expected, message):
    with pytest.raises(expected, match=message):
        with staged_directory(str(tmp_path / "out")) as staging:
            open(f"{staging}/file", "w").close()
            raise error
    assert os.listdir(tmp_path) == []


def test_a_folder_that_exists_is_never_touched(tmp_path):
    (tmp_path / "out" / "mine").mkdir(parents=True)
    with pytest.raises(DataError, match="out: exists already; remove it or choose another output"):
        with staged_directory(str(tmp_path / "out")):
            raise AssertionError("must not come here")
    assert os.listdir(tmp_path) == ["out"] and os.listdir(tmp_path / "out") == ["mine"]


def test_other_errors_are_not_a_full_disk():
    assert not is_disk_full(OSError(errno.EACCES, "No space left"))
    assert not is_disk_full(tf.errors.NotFoundError(None, None, "gone"))


def test_text_is_replaced_whole(tmp_path):
    path = tmp_path / "out"
    path.write_text("old and much longer")
    write_text(str(path), "new ✓")
    assert path.read_text(encoding="utf-8") == "new ✓" and os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize(("error", "expected", "message"), FAILURES)
def test_a_failed_write_keeps_the_old_text(tmp_path, monkeypatch, error, expected, message):
    def fail(*arguments, **options):
        raise error

    path = tmp_path / "out"
    path.write_text("old")
    monkeypatch.setattr(tf.io.gfile, "rename", fail)
    with pytest.raises(expected, match=message):
        write_text(str(path), "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["out"]
