"""One run at a time in a folder, also when the other one is killed."""

import json
import os
import signal
import subprocess
import sys

import pytest

from diffumin_tf.errors import ConfigError
from diffumin_tf.run.lock import run_lock

# A process that holds the folder until it is killed.
HOLDER = """
import sys, time
from diffumin_tf.run.lock import run_lock
with run_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_until_the_block_ends(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").touch()
    with run_lock(str(tmp_path / "run")):
        with pytest.raises(ConfigError, match=f"another run works here .process {os.getpid()}."):
            with run_lock(str(tmp_path / "run")):
                pass
    with run_lock(str(tmp_path / "run")):
        pass


def test_a_folder_in_which_nothing_came_to_be_is_removed(tmp_path):
    with run_lock(str(tmp_path / "run")):
        assert (tmp_path / "run").exists()
    assert not (tmp_path / "run").exists()


def test_of_a_cluster_the_chief_alone_holds_it(tmp_path, monkeypatch):
    tasks = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    with run_lock(str(tmp_path)):
        monkeypatch.setenv("TF_CONFIG", json.dumps(tasks))
        with run_lock(str(tmp_path)):
            pass


def test_a_killed_process_lets_go(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"process {holder.pid}"):
            with run_lock(str(tmp_path)):
                pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with run_lock(str(tmp_path)):
        pass


def test_a_folder_that_is_no_local_path_is_not_locked():
    with run_lock("gs://bucket/run"):
        pass
