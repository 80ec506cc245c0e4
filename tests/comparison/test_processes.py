"""Cells as child processes: how many at a time, and that none is left behind."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from diffumin_tf.comparison import processes
from diffumin_tf.comparison.cell import end_with_parent
from diffumin_tf.comparison.processes import run_all
from tests.comparison.fakes import FakeProcess

# One that saves where it is when it is told to end; and one that does not listen.
OBEDIENT = "import time; print('up', flush=True); time.sleep(60)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + OBEDIENT


class Slow(FakeProcess):
    """Ends when it was looked at a few times."""

    looks = 3

    def poll(self):
        self.looks -= 1
        return self.code if self.looks < 0 else None


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_so_many_run_at_a_time_and_each_once(monkeypatch, jobs):
    monkeypatch.setattr(processes, "_POLL_SECONDS", 0.001)
    running, most, started, ended = set(), [], [], []

    def start(folder, at_once):
        assert at_once == jobs
        started.append(folder)
        running.add(folder)
        most.append(len(running))
        return Slow(len(started) % 2)

    def end(folder, code):
        running.remove(folder)
        ended.append((folder, code))

    folders = ["a", "b", "c", "d"]
    run_all(folders, jobs, end, start)
    assert started == folders and max(most) == min(jobs, 4)
    assert sorted(ended) == [("a", 1), ("b", 0), ("c", 1), ("d", 0)]


@pytest.mark.parametrize(
    ("program", "code"), [(OBEDIENT, -signal.SIGTERM), (DEAF, -signal.SIGKILL)]
)
def test_what_interrupts_the_command_ends_its_children(monkeypatch, program, code):
    monkeypatch.setattr(processes, "_GRACE_SECONDS", 0.3)
    children = []

    def start(folder, jobs):
        if folder == "quick":
            return FakeProcess(0)
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout.readline() == "up\n"
        return child

    def end(folder, code):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(["slow", "quick"], 2, end, start)
    assert [child.poll() for child in children] == [code]


def test_a_cell_is_told_its_share_of_the_cores(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(processes.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(processes.subprocess, "Popen", lambda c, **kw: asked.append((c, kw)))
    for jobs in (1, 3):
        processes.start_cell(str(tmp_path), jobs)
    (command, alone), (_, beside) = asked
    assert command == [sys.executable, "-m", "diffumin_tf.comparison.cell", str(tmp_path), "--tied"]
    assert "DIFFUMIN_CELL_THREADS" not in alone["env"]
    assert [e["env"]["DIFFUMIN_CELL_JOBS"] for e in (alone, beside)] == ["1", "3"]
    assert beside["env"]["DIFFUMIN_CELL_THREADS"] == "2"
    assert alone["start_new_session"] and alone["stdin"] == subprocess.PIPE
    assert alone["stdout"].name == str(tmp_path / "log.txt")


def test_a_cell_ends_with_the_process_that_started_it():
    ours, theirs = os.pipe()
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        end_with_parent(ours)
        assert not told.wait(0.1)
        os.close(theirs)  # as the system does when that process ends, however it does
        assert told.wait(10)
    finally:
        signal.signal(signal.SIGTERM, before)
        os.close(ours)
