"""One run at a time in a folder."""

import json

import pytest

from diffumin_tf.errors import ConfigError
from diffumin_tf.run.lock import run_lock


def test_of_a_cluster_the_chief_alone_holds_it(tmp_path, monkeypatch):
    tasks = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    with run_lock(str(tmp_path)):
        with pytest.raises(
            ConfigError, match="another run works here .*choose another --model_dir"
        ):
            run_lock(str(tmp_path)).__enter__()
        monkeypatch.setenv("TF_CONFIG", json.dumps(tasks))
        with run_lock(str(tmp_path)):
            pass


def test_no_folder_is_not_held():
    with run_lock(None):
        pass
