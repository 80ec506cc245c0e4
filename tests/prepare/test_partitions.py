"""Days are whole or absent, kept where they are complete, and never taken from elsewhere."""

import multiprocessing
import os
import pathlib
import shutil

import pytest
import tensorflow as tf

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.prepare.command import prepare
from diffumin_tf.prepare.partitions import Partitions
from diffumin_tf.prepare.report.screen import facts_of, lines
from tests.prepare.prepared import read_samples, visible_files
from tests.prepare.small_tables import SPEC, write_spec


def test_the_manifest_tells_what_happened(tables):
    manifest = prepare(*tables)
    assert manifest["rows_written"] == 6 and manifest["click_rate"] == 0.5
    expected = {"examples": 4, "records": 2, "clicks": 2, "click_rate": 0.5}
    assert manifest["days"]["20220425"] == expected
    assert (manifest["records"], manifest["group"]) == (4, "user_day")
    assert any(
        "records      4, each of a user and day" in line for line in lines(facts_of(manifest))
    )
    # Histories of 3, 1, 3, 3, 0 and 3 behaviours.
    expected = {"mean": 13 / 6, "min": 0, "p10": 0, "p25": 1, "p50": 3, "max": 3}
    assert manifest["history_length"].items() >= expected.items()
    assert manifest["empty_histories"] == 1 / 6
    assert manifest["spec"]["max_len"] == 3
    page = pathlib.Path(tables[2], "report.html").read_text()
    assert "shown.csv" in page and "20220425" in page and "16.7 %" in page and "<svg" in page


def test_parts_and_compression_change_the_files_but_not_the_samples(tables, tmp_path):
    prepare(*tables)
    spec = write_spec(tmp_path, {**SPEC, "parts": 3, "compression": "GZIP"})
    prepare(spec, tables[1], str(tmp_path / "gz"))
    names = sorted(os.listdir(tmp_path / "gz" / "20220425"))
    # Users are dealt to the parts, so that one may go without.
    assert names[0] == "_SUCCESS.json"
    assert names[1:] == [f"part-{n:05d}.gz" for n in range(len(names) - 1)]
    plain, packed = (read_samples(o, "20220425") for o in (tables[2], tmp_path / "gz"))
    assert sorted(map(str, plain)) == sorted(map(str, packed))


def test_a_second_run_keeps_complete_days_and_makes_the_missing_one(tables):
    first = prepare(*tables)
    before = visible_files(tables[2])
    kept = os.stat(f"{tables[2]}/20220425/part-00000").st_mtime_ns
    tf.io.gfile.rmtree(f"{tables[2]}/20220426")
    second = prepare(*tables)
    assert second["data"]["warnings"].pop().startswith("1 complete days are kept")
    assert second == first
    assert visible_files(tables[2]) == before
    assert os.stat(f"{tables[2]}/20220425/part-00000").st_mtime_ns == kept


def other_spec(folder, output):
    write_spec(folder.parent, {**SPEC, "max_len": 2})


def other_input(folder, output):
    text = (folder / "earlier.csv").read_text()
    (folder / "earlier.csv").write_text(text.replace("ann,2,", "ann,3,"))


def torn_mark(folder, output):
    (output / "20220425" / "_SUCCESS.json").write_text('{"settings": ')


@pytest.mark.parametrize(
    ("change", "trouble"),
    [
        (other_spec, "comes from other settings or an earlier version"),
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


def test_what_a_killed_run_leaves_are_whole_days_and_can_be_completed(tables, monkeypatch):
    spec, folder, output = tables
    prepare(*tables)
    whole = visible_files(output)
    shutil.rmtree(output)
    done = Partitions._done

    def killed_on_the_second_day(self, staging, day, *others):
        if day == "20220426":
            os._exit(9)
        done(self, staging, day, *others)

    with monkeypatch.context() as patch:
        patch.setattr(Partitions, "_done", killed_on_the_second_day)
        process = multiprocessing.get_context("fork").Process(target=prepare, args=tables)
        process.start()
        process.join()
    assert process.exitcode == 9
    assert {name.split("/")[0] for name in visible_files(output)} == {"20220425"}
    assert len(read_samples(output, "20220425")) == 4
    prepare(*tables)
    assert visible_files(output) == whole
    assert sorted(n for n in os.listdir(output) if n.startswith(".")) in ([], [".lock"])


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tables, monkeypatch):
    writer = tf.io.TFRecordWriter
    with monkeypatch.context() as patch:
        patch.setattr(tf.io, "TFRecordWriter", lambda path, *args: writer("/dev/full", *args))
        with pytest.raises(DataError, match="out/.*: no space left on the disk"):
            prepare(*tables)
    assert visible_files(tables[2]) == {}
    assert prepare(*tables)["rows_written"] == 6


def test_an_output_that_is_a_file_is_one_clear_error(tables):
    pathlib.Path(tables[2]).touch()
    with pytest.raises(ConfigError, match="out: cannot be made"):
        prepare(*tables)
