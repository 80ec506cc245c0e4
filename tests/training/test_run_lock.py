"""One run at a time in a folder, also when the other one is killed."""

import os
import signal
import subprocess
import sys

import pytest

from diffumin_tf.errors import ConfigError
from diffumin_tf.training.run_lock import run_lock

# A process that holds the folder until it is killed.
HOLDER = """
import sys, time
from diffumin_tf.training.run_lock import run_lock
with run_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_until_the_block_ends(tmp_path):
    with run_lock(str(tmp_path / "run")):
        with pytest.raises(ConfigError, match=f"another run works here .process {os.getpid()}."):
            with run_lock(str(tmp_path / "run")):
                pass
    with run_lock(str(tmp_path / "run")):
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
