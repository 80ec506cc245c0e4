"""Where the files of an experiment lie."""

import dataclasses
import posixpath
import sys
from collections.abc import Callable

import tensorflow as tf

from diffumin_tf.config import reading
from diffumin_tf.config.schema import SCHEMA_FILE, DataStruct
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
    tried += _beside(config.train_data_path)
    for path in tried:
        if tf.io.gfile.exists(path):
            return path
    where = from_where(*tried)
    raise ConfigError(f"no schema: neither {' nor '.join(tried)}{where} exists")


def with_stored_once(
    schema: DataStruct, config: TaskConfig, report: Callable[[str], None] = lambda line: None
) -> DataStruct:
    """The schema; one that does not say what is stored once takes it from beside the records."""
    paths = [config.train_data_path, config.valid_data_path, config.test_data_path]
    beside = [] if schema.stored_once else dict.fromkeys(sum(map(_beside, paths), []))
    for path in beside:
        if tf.io.gfile.exists(path) and (stored := DataStruct.load(path).stored_once):
            report(f"{schema.source}: stored_once is that of {path}: {', '.join(stored)}")
            return dataclasses.replace(schema, stored_once=stored)
    return schema


def _beside(data: str | None) -> list[str]:
    """Where the schema beside some records may lie."""
    if data and splits.is_glob(data):
        return splits.schemas_beside(data, splits.matched(data))
    return [posixpath.join(data, SCHEMA_FILE)] if data else []
