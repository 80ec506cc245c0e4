"""Days are whole or absent, kept where they are complete, and never taken from elsewhere."""

import os
import pathlib
import shutil

import pytest
import tensorflow as tf

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.input.records import PartWriter
from diffumin_tf.prepare.command import prepare
from tests.prepare.prepared import read_samples, visible_files
from tests.prepare.small_tables import SPEC, write_spec


def test_the_manifest_tells_what_happened(tables):
    manifest = prepare(*tables)
    assert manifest["rows_written"] == 6 and manifest["click_rate"] == 0.5
    assert manifest["days"]["20220425"] == {"examples": 4, "clicks": 2, "click_rate": 0.5}
    # Histories of 3, 1, 3, 3, 0 and 3 behaviours.
    expected = {"mean": 13 / 6, "min": 0, "p10": 0, "p25": 1, "p50": 3, "max": 3}
    assert manifest["history_length"].items() >= expected.items()
    assert manifest["spec"]["max_len"] == 3


def test_parts_and_compression_change_the_files_but_not_the_samples(tables, tmp_path):
    prepare(*tables)
    spec = write_spec(tmp_path, {**SPEC, "parts": 2, "compression": "GZIP"})
    prepare(spec, tables[1], str(tmp_path / "gz"))
    names = sorted(os.listdir(tmp_path / "gz" / "20220425"))
    assert names == ["_SUCCESS.json", "part-00000.gz", "part-00001.gz"]
    plain, packed = (read_samples(o, "20220425") for o in (tables[2], tmp_path / "gz"))
    assert sorted(map(str, plain)) == sorted(map(str, packed))


def test_a_second_run_keeps_complete_days_and_makes_the_missing_one(tables):
    first = prepare(*tables)
    before = visible_files(tables[2])
    kept = os.stat(f"{tables[2]}/20220425/part-00000").st_mtime_ns
    tf.io.gfile.rmtree(f"{tables[2]}/20220426")
    assert prepare(*tables) == first
    assert visible_files(tables[2]) == before
    assert os.stat(f"{tables[2]}/20220425/part-00000").st_mtime_ns == kept


def other_spec(folder, output):
    write_spec(folder.parent, {**SPEC, "max_len": 2})


def other_input(folder, output):
    (folder / "users.csv").write_text("uid,city,fans\nann,rome,3\n")


def torn_mark(folder, output):
    (output / "20220425" / "_SUCCESS.json").write_text('{"settings": ')


@pytest.mark.parametrize(
    ("change", "trouble"),
    [
        (other_spec, "comes from other settings"),
        (other_input, "comes from other inputs"),
        (torn_mark, "has no valid _SUCCESS.json"),
    ],
)
def test_a_day_made_from_something_else_is_refused_and_kept(tables, change, trouble):
    prepare(*tables)
    change(*map(pathlib.Path, tables[1:]))
    before = visible_files(tables[2])
    with pytest.raises(DataError, match=f"20220425: {trouble}; remove it"):
        prepare(*tables)
    assert visible_files(tables[2]) == before


def test_what_a_killed_run_leaves_are_whole_days_and_can_be_completed(
    tables, tmp_path, monkeypatch
):
    spec, folder, output = tables
    write, killed = PartWriter.write, tmp_path / "killed"

    def write_and_copy(self, serialised):
        write(self, serialised)
        if os.path.exists(f"{output}/20220425"):  # in the middle of the second day
            shutil.copytree(output, killed)

    with monkeypatch.context() as patch:
        patch.setattr(PartWriter, "write", write_and_copy)
        prepare(*tables)
    assert {name.split("/")[0] for name in visible_files(killed)} == {"20220425"}
    assert len(read_samples(killed, "20220425")) == 4
    assert ".20220426.incomplete" in os.listdir(killed)
    prepare(spec, folder, str(killed))
    assert visible_files(killed) == visible_files(output)
    assert not [name for name in os.listdir(killed) if "incomplete" in name]


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tables, monkeypatch):
    writer = tf.io.TFRecordWriter
    with monkeypatch.context() as patch:
        patch.setattr(tf.io, "TFRecordWriter", lambda path, *args: writer("/dev/full", *args))
        with pytest.raises(DataError, match="20220425: no space left on the disk"):
            prepare(*tables)
    assert sorted(os.listdir(tables[2])) == ["data_struct.json"]
    assert prepare(*tables)["rows_written"] == 6


def test_an_output_that_is_a_file_is_one_clear_error(tables):
    pathlib.Path(tables[2]).touch()
    with pytest.raises(ConfigError, match="out: cannot be made"):
        prepare(*tables)
