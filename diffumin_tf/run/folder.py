"""The files of a run's folder beside checkpoints, and whether a run may go on with a config."""

import posixpath
from typing import Any

import tensorflow as tf

from diffumin_tf.config import task as config_lib
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.devices import with_defaults
from diffumin_tf.errors import ConfigError
from diffumin_tf.files import read_json, write_json, write_text
from diffumin_tf.paths import from_where

CONFIG, VOCABULARY = "config.json", "vocabulary.txt"
_METRICS, _FINISHED = "metrics.json", "finished.json"

# May differ from the run that is continued: they decide how long and how, not what is learned.
_MAY_CHANGE = frozenset(
    "epoch early_stopping_patience evaluate_every_steps save_summary_steps save_checkpoints_secs "
    "save_checkpoints_steps keep_checkpoint_max max_bad_records max_rollbacks strategy replicas "
    "parallel_parts jit_compile model_path".split()
)


def is_run(model_dir: str) -> bool:
    return tf.io.gfile.exists(posixpath.join(model_dir, CONFIG))


def load_config(model_dir: str, overrides: tuple[str, ...] | list[str] = ()) -> TaskConfig:
    """The configuration of a run.

    Raises:
        ConfigError: there is none.
    """
    if not is_run(model_dir):
        where = from_where(model_dir)
        raise ConfigError(f"{model_dir}{where}: no trained run ({CONFIG} is missing)")
    return config_lib.load(posixpath.join(model_dir, CONFIG), overrides)[0]


def write_config(model_dir: str, config: TaskConfig) -> None:
    """Writes `config.json`, and with it makes the folder that of a run."""
    text = config.model_dump_json(indent=2)
    write_text(posixpath.join(model_dir, CONFIG), text + "\n")


def changes(model_dir: str, config: TaskConfig) -> list[str]:
    """What a configuration sets otherwise than that of the run in a folder, in words.

    Raises:
        ConfigError: they differ in what a run cannot change on its way.
    """
    before, now = (with_defaults(c).model_dump() for c in (load_config(model_dir), config))
    differing = [key for key in now if now[key] != before[key]]
    fixed = [key for key in differing if key not in _MAY_CHANGE]
    if "parameter_server" in (before["strategy"], now["strategy"]) and "strategy" in differing:
        fixed.append("strategy")
    if fixed:
        settings = ", ".join(f"{key} {before[key]!r} (now {now[key]!r})" for key in fixed)
        raise ConfigError(
            f"{model_dir}: holds a run with other settings: {settings}; choose another "
            "--model_dir, or start the command with which it began"
        )
    return [f"{key} was {before[key]!r}, is {now[key]!r} from here on" for key in differing]


def write_metrics(model_dir: str, entries: dict[str, Any]) -> None:
    """Adds entries to `metrics.json` of a run."""
    path = posixpath.join(model_dir, _METRICS)
    before = read_json(path) if tf.io.gfile.exists(path) else {}
    write_json(path, {**before, **entries})


def mark_finished(model_dir: str, entries: dict[str, Any]) -> None:
    """Notes that all that was asked for was done."""
    write_json(posixpath.join(model_dir, _FINISHED), entries)


def mark_unfinished(model_dir: str) -> None:
    """Takes `mark_finished` back."""
    path = posixpath.join(model_dir, _FINISHED)
    if tf.io.gfile.exists(path):
        tf.io.gfile.remove(path)


def finished(model_dir: str) -> dict[str, Any] | None:
    """What `mark_finished` noted; None when it did not."""
    path = posixpath.join(model_dir, _FINISHED)
    return read_json(path) if tf.io.gfile.exists(path) else None
