"""Files and folders: whole or absent, whatever happens in between."""

import errno
import os

import pytest
import tensorflow as tf

from diffumin_tf.errors import DataError
from diffumin_tf.files import is_disk_full, staged_directory, write_text

DISK_FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    tf.errors.ResourceExhaustedError(None, None, "full"),
    tf.errors.UnknownError(None, None, "x; No space left on device"),
]


def test_a_staged_folder_appears_only_when_it_is_complete(tmp_path):
    final = tmp_path / "deep" / "out"
    with staged_directory(str(final) + "/") as staging:
        assert os.path.basename(staging).startswith(".")
        (tmp_path / "deep" / os.path.basename(staging) / "file").write_text("x")
        assert not final.exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    assert (final / "file").read_text() == "x"


@pytest.mark.parametrize("stop", [ValueError("bad"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_and_passes_through(tmp_path, stop):
    with pytest.raises(type(stop)):
        with staged_directory(str(tmp_path / "out")) as staging:
            open(f"{staging}/file", "w").close()
            raise stop
    assert os.listdir(tmp_path) == []


def test_what_a_killed_run_left_is_not_taken_over(tmp_path):
    (tmp_path / ".out.incomplete").mkdir()
    (tmp_path / ".out.incomplete" / "old").touch()
    with staged_directory(str(tmp_path / "out")) as staging:
        open(f"{staging}/new", "w").close()
    assert os.listdir(tmp_path) == ["out"] and os.listdir(tmp_path / "out") == ["new"]


def test_a_folder_that_exists_is_never_touched(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(DataError, match="out: exists already; remove it or choose another output"):
        with staged_directory(str(tmp_path / "out")):
            raise AssertionError("must not come here")
    assert os.listdir(tmp_path) == ["out"] and os.listdir(tmp_path / "out") == ["mine"]


@pytest.mark.parametrize("error", DISK_FULL)
def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path, error):
    with pytest.raises(DataError, match="out: no space left on the disk; nothing was kept"):
        with staged_directory(str(tmp_path / "out")) as staging:
            open(f"{staging}/file", "w").close()
            raise error
    assert os.listdir(tmp_path) == []


def test_other_errors_are_not_a_full_disk():
    assert not is_disk_full(OSError(errno.EACCES, "No space left"))
    assert not is_disk_full(tf.errors.NotFoundError(None, None, "gone"))


def test_text_is_replaced_whole(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("old and much longer")
    write_text(str(path), "new ✓")
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
        write_text(str(path), "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["metrics.json"]
