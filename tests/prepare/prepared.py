"""Helpers of the tests of `prepare`: read records back, kill a run, fill a disk."""

import pathlib
import signal
import subprocess
import sys
import time

import tensorflow as tf

_HANGING_RUN = """
import pathlib, sys, time
from diffumin_tf.input.records import PartWriter
from diffumin_tf.prepare.command import prepare

write, calls = PartWriter.write, []

def write_and_hang(self, serialised):
    write(self, serialised)
    calls.append(1)
    if len(calls) == 2:
        pathlib.Path(sys.argv[4]).touch()
        time.sleep(600)

PartWriter.write = write_and_hang
prepare(*sys.argv[1:4])
"""


def read_samples(output, day):
    """The samples of a day: lists of numbers by record key."""
    samples = []
    for path in sorted(pathlib.Path(output, day).glob("part-*")):
        compression = "GZIP" if path.suffix == ".gz" else ""
        for record in tf.data.TFRecordDataset(str(path), compression).as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            samples.append(
                {
                    key: list(value.float_list.value or value.int64_list.value)
                    for key, value in feature.items()
                }
            )
    return samples


def visible_files(output):
    """Names and contents of everything that training could pick up."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(pathlib.Path(output).glob("[0-9]*/*"))
    }


def kill_in_second_write(tmp_path, spec, input_dir, output):
    """Runs `prepare` in a process of its own and kills it while it writes its second block."""
    flag = tmp_path / "second-block"
    command = [sys.executable, "-c", _HANGING_RUN, str(spec), str(input_dir), str(output)]
    process = subprocess.Popen([*command, str(flag)], cwd=pathlib.Path(__file__).parents[2])
    deadline = time.monotonic() + 120
    while not flag.exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()


def fill_disk(monkeypatch):
    """From now on, records go to a device that has no space left."""
    writer = tf.io.TFRecordWriter
    monkeypatch.setattr(tf.io, "TFRecordWriter", lambda path, *args: writer("/dev/full", *args))
