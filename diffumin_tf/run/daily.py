"""The day-by-day loop of a production ranker: score a new day, then learn from it."""

import dataclasses
import datetime
import gc
import json
import os
import posixpath
import re
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd
import tensorflow as tf

from diffumin_tf.config import task as config_lib
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError
from diffumin_tf.evaluation.report import metric_lines
from diffumin_tf.files import read_json, write_json
from diffumin_tf.input.splits import list_files
from diffumin_tf.run import folder as run_folder
from diffumin_tf.run.lock import run_lock
from diffumin_tf.run.open import create_run, open_run
from diffumin_tf.run.setup import Report
from diffumin_tf.run.train import train_run
from diffumin_tf.training.preemption import Preemption

DAILY = "daily.json"


def daily(exp: str, model_dir: str, first: int, last: int, overrides: Sequence[str]) -> None:
    """`next_day` until no day is left, each in a process of its own; never returns before that.

    The process replaces itself after each day: a strategy over several machines starts once in a
    process only, and the memory of a day's model is given back for certain.
    """
    if next_day(exp, model_dir, first, last, overrides, print):
        arguments = ["--exp", exp, "--model_dir", model_dir, f"--first={first}", f"--last={last}"]
        arguments += [f"--set={override}" for override in overrides]
        command = [sys.executable, "-m", "diffumin_tf.cli", "daily", *arguments]
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, command)


def next_day(
    exp: str, model_dir: str, first: int, last: int, overrides: Sequence[str], report: Report
) -> bool:
    """Takes the first day that is not finished: scores it, learns from it, exports.

    The day is a run of its own, `<model_dir>/<day>`, that starts from the run of the latest
    finished day before it; without one, from `pretrain_model_dir` or from nothing. What that
    earlier model makes of the new day goes into `<model_dir>/daily.json` before training begins.
    A day in the middle of which an earlier call ended goes on from there.

    Args:
        exp: experiment folder; its validation and test splits do not take part.
        model_dir: folder for the runs of all days.
        first, last: days, inclusive; every one of them must have records.

    Returns:
        Whether a day is left after this one.
    """
    config, _ = config_lib.load(exp, overrides)
    if config.learning_rate_schedule != "constant":
        raise ConfigError(
            f"{exp}: learning_rate_schedule is {config.learning_rate_schedule!r} but must be "
            "'constant': every day goes on from the number of updates of the day before"
        )
    days = [_Day(model_dir.rstrip("/"), day, report) for day in _days(config, first, last)]
    left = [day for day in days if not day.is_finished]
    if not left:
        report(f"{model_dir}: all days from {first} to {last} are finished")
        return False
    day = left[0]
    before, carried = _start_of(day, config)
    with Preemption().watched(), run_lock(day.folder):
        _take(day, exp, before, [*overrides, *_settings(day.number, before, carried)])
    return len(left) > 1


@dataclasses.dataclass(frozen=True)
class _Day:
    """A day and its run."""

    model_dir: str  # folder for the runs of all days
    number: int  # as in 20240131
    report: Report = print

    @property
    def folder(self) -> str:
        return posixpath.join(self.model_dir, str(self.number))

    @property
    def is_finished(self) -> bool:
        return run_folder.finished(self.folder) is not None

    def noted(self) -> dict[str, Any]:
        """Its entry in `daily.json`."""
        return self._all_noted().get(str(self.number), {})

    def note(self, entries: dict[str, Any]) -> None:
        """Adds to its entry in `daily.json`."""
        noted = {**self._all_noted(), str(self.number): {**self.noted(), **entries}}
        write_json(posixpath.join(self.model_dir, DAILY), noted)

    def _all_noted(self) -> dict[str, Any]:
        path = posixpath.join(self.model_dir, DAILY)
        return read_json(path) if tf.io.gfile.exists(path) else {}


def _take(day: _Day, exp: str, before: str | None, settings: Sequence[str]) -> None:
    run = create_run(exp, day.folder, settings, day.report)
    if run.distribution.is_chief:
        _score_before(day, run.config, before)
    result = train_run(run, day.report)
    if run.distribution.is_chief:
        done = {"steps": result.steps, "export": run.export()}
        day.report(f"{day.number}: {result.steps} steps; exported {done['export']}")
        day.note(done)
        run_folder.mark_finished(run.model_dir, done)
    run.distribution.end_together(lambda: day.is_finished)


def _settings(day: int, before: str | None, carried: str | Sequence[str]) -> list[str]:
    """The overrides that make a run that of one day."""
    values: dict[str, Any] = {
        f"{split}_data_{what}": None
        for split in ("valid", "test")
        for what in ("path", "start", "end")
    }
    values |= {"train_data_start": day, "train_data_end": day}
    values |= {"pretrain_model_dir": before, "vars_to_warm_start": carried}
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def _score_before(day: _Day, config: TaskConfig, before: str | None) -> None:
    """Notes metrics of the earlier model on the new day, unless an earlier call did."""
    if day.noted().get("model_before", "") == before:
        return
    metrics = None
    if before is None:
        day.report(f"{day.number}: starting from nothing")
    else:
        data = {
            "test_data_path": config.train_data_path,
            "test_data_start": day.number,
            "test_data_end": day.number,
            "max_bad_records": config.max_bad_records,
        }
        earlier = open_run(before, [f"{key}={json.dumps(value)}" for key, value in data.items()])
        metrics = earlier.evaluate(["test"], write=False)["test"]
        del earlier
        gc.collect()  # before the model of the new day is built: tables may be large
        day.report(metric_lines({f"{day.number} before training on it": metrics})[0])
    day.note({"model_before": before, "metrics_before": metrics})


def _days(config: TaskConfig, first: int, last: int) -> list[int]:
    """The days from first to last; raises where one is no day or has no records."""
    try:
        start, stop = (datetime.datetime.strptime(str(day), "%Y%m%d") for day in (first, last))
    except ValueError:
        raise ConfigError(f"--first {first} --last {last}: days must read yyyymmdd") from None
    if start > stop:
        raise ConfigError(f"--first {first} is after --last {last}")
    days = [int(f"{day:%Y%m%d}") for day in pd.date_range(start, stop)]
    for day in days:
        list_files(config.train_data_path, day, day, "train")
    return days


def _start_of(day: _Day, config: TaskConfig) -> tuple[str | None, str | Sequence[str]]:
    """The run that a day starts from, None for none, and which variables it takes over."""
    if run_folder.is_run(day.folder):
        begun = run_folder.load_config(day.folder)
        return begun.pretrain_model_dir, begun.vars_to_warm_start
    names = tf.io.gfile.listdir(day.model_dir) if tf.io.gfile.isdir(day.model_dir) else []
    numbers = sorted(n for n in (name.rstrip("/") for name in names) if re.fullmatch(r"\d{8}", n))
    begun_days = [_Day(day.model_dir, int(number)) for number in numbers]
    begun_days = [begun for begun in begun_days if run_folder.is_run(begun.folder)]
    if not begun_days:
        return config.pretrain_model_dir, config.vars_to_warm_start
    latest = begun_days[-1]
    if latest.number > day.number:
        raise ConfigError(
            f"{latest.folder} exists, and {day.number} is not finished: days are taken in their "
            f"order; begin with --first after {latest.number}, or choose another --model_dir"
        )
    if not latest.is_finished:
        raise ConfigError(
            f"{latest.folder} is not finished, so that {day.number} cannot start from it; begin "
            f"with --first {latest.number}"
        )
    return latest.folder, ".*"  # what is configured was for the first start
