"""Processes that die are named, and the line says how far the work is."""

import io
import os
import time

import pytest

from diffumin_tf.errors import DataError
from diffumin_tf.prepare import jobs


def die(argument, report):
    os._exit(1)


def test_a_process_that_dies_is_one_clear_error():
    with pytest.raises(DataError, match="want of memory; start again with fewer --jobs"):
        jobs.run_tasks(die, [1, 2], jobs=2, total_bytes=2)


def test_the_line_says_share_speed_and_time_left():
    progress = jobs.Progress(total_bytes=400)
    progress.add(10, 50.0)  # begins the clock
    progress.add(990, 50.0)
    line = progress.line(seconds=30.0)
    assert line == "[#####...............]  25%  1,000 samples  33/s  3:00 left "


@pytest.mark.parametrize(("seconds", "lines"), [(0.0, 0), (60.0, 1)])
def test_off_a_terminal_there_is_a_line_now_and_then(monkeypatch, seconds, lines):
    out = io.StringIO()
    progress = jobs.Progress(100, out)
    progress.add(1, 1.0)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + seconds)
    for _ in range(3):
        progress.add(1, 1.0)
    progress.close()
    assert out.getvalue().count("\n") == lines


@pytest.mark.parametrize(
    ("files", "size", "expected"), [(1, 10**12, 1), (9, 10, 1), (9, 40 * 2**20, 2), (99, 10**12, 4)]
)
def test_processes_are_as_many_as_are_worth_it(monkeypatch, files, size, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4), raising=False)
    assert jobs.sensible_jobs(files, size) == expected
