"""Where the files of an experiment lie."""

import posixpath
import sys

import tensorflow as tf

from diffumin_tf.config import reading
from diffumin_tf.config.schema import SCHEMA_FILE
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError
from diffumin_tf.input import splits
from diffumin_tf.paths import from_where


def find_experiment(exp: str, asked: str = "--exp", first: str | None = None) -> str:
    """The folder of an experiment, given as a path or by its name under `exp/user1`.

    Args:
        asked: where it was given, for the message.
        first: a folder to try before all others.

    Raises:
        ConfigError: there is none; says where it was looked for.
    """
    root = posixpath.dirname(posixpath.dirname(posixpath.dirname(__file__)))
    tried = [exp] if first is None else [first, exp]
    tried += [
        posixpath.join(base, "exp", "user1", exp)
        for base in (".", root, posixpath.join(sys.prefix, "share", "diffumin_tf"))
    ]
    for folder in tried:
        if tf.io.gfile.exists(posixpath.join(folder, "task_conf.json")):
            return folder
    tried = list(dict.fromkeys(tried))
    where = f"{', '.join(tried)}{from_where(*tried)}"
    raise ConfigError(f"{asked} {exp!r}: no task_conf.json in {where}")


def schema_file(exp: str, config: TaskConfig) -> str:
    """Its path: beside the experiment, beside one that it extends, or beside training records."""
    folders = map(posixpath.dirname, reading.lineage(exp))
    tried = [posixpath.join(folder, SCHEMA_FILE) for folder in folders]
    data = config.train_data_path
    if data and splits.is_glob(data):
        tried += splits.schemas_beside(data, splits.matched(data))
    elif data:
        tried.append(posixpath.join(data, SCHEMA_FILE))
    for path in tried:
        if tf.io.gfile.exists(path):
            return path
    where = from_where(*tried)
    raise ConfigError(f"no schema: neither {' nor '.join(tried)}{where} exists")
