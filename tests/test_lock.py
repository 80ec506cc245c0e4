"""One process at a time in a folder, also when the other one is killed."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from diffumin_tf.errors import ConfigError
from diffumin_tf.lock import exclusive

# A process that holds the folder until it is killed.
HOLDER = """
import sys, time
from diffumin_tf.lock import exclusive
with exclusive(sys.argv[1], "prepare"):
    print("held", flush=True)
    time.sleep(60)
"""


def held_here(folder, what="run"):
    with exclusive(str(folder), what):
        return os.listdir(folder)


def test_a_folder_is_held_until_the_block_ends(tmp_path):
    folder = tmp_path / "deep" / "out"
    with exclusive(str(folder), "prepare"):
        where = f"process {os.getpid()} on {socket.gethostname()}"
        message = f"out: another prepare works here .{where}.; .* choose another --output"
        with pytest.raises(ConfigError, match=message):
            held_here(folder, "prepare")
        (folder / "part").touch()
    assert os.listdir(folder) == ["part"]
    assert sorted(held_here(folder)) == [".lock", "part"]


def test_a_folder_in_which_nothing_came_to_be_is_removed(tmp_path):
    assert held_here(tmp_path / "out") == [".lock"]
    assert not (tmp_path / "out").exists()


def test_a_killed_process_lets_go(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"another run works here .process {holder.pid} on"):
            held_here(tmp_path)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert os.listdir(tmp_path) == [".lock"]
    assert held_here(tmp_path) == [".lock"]


def test_a_lock_that_its_holder_removed_holds_nothing(tmp_path, monkeypatch):
    real = open

    def late(path, *arguments, **options):
        file = real(path, *arguments, **options)
        os.unlink(path)  # by the holder, which lets go in between
        return file

    monkeypatch.setattr("builtins.open", late)
    with pytest.raises(ConfigError, match="ended here just now; start again"):
        held_here(tmp_path / "out")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/out: cannot be made: Not a directory"):
        held_here(tmp_path / "file" / "out")


def test_a_folder_that_is_no_local_path_is_not_held():
    with exclusive("gs://bucket/run", "run"), exclusive("gs://bucket/run", "run"):
        pass
