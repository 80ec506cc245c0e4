"""Day by day: each day is scored by the model of the day before, then learned from."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.run import daily
from diffumin_tf.run import folder as run_folder
from diffumin_tf.run.open import open_run
from diffumin_tf.training import checkpoints
from diffumin_tf.training.synchronous import SynchronousEngine
from tests.small_log import write_experiment

ROOT = pathlib.Path(__file__).parents[2]
DAYS = [20240101, 20240102, 20240103]
STEPS = 5  # of a day
SETTINGS = {
    "use_omie": False,
    "subseq_len": 0,
    "activation": "relu",
    "deep_layers": [4],
    "embedding": {"kind": "vocabulary", "min_count": 12},
    "lazyAdam_learning_rate": 0.01,
    "save_checkpoints_steps": 1,
}


class Days:
    """A folder of runs, and what was told while they were made."""

    def __init__(self, folder, exp):
        self.exp, self.folder, self.lines = str(exp), folder, []

    def next(self, first=DAYS[0], last=DAYS[-1], *overrides):
        folder = str(self.folder)
        return daily.next_day(self.exp, folder, first, last, overrides, self.lines.append)

    def noted(self):
        return json.loads((self.folder / "daily.json").read_text())

    def run(self, day):
        return str(self.folder / str(day))

    def ids(self, day):
        return (self.folder / str(day) / "vocabulary.txt").read_text().split()

    def state(self, day):
        """Everything in the latest checkpoint of a day but its save counter."""
        path = checkpoints.complete(f"{self.run(day)}/checkpoints")[-1]
        reader = tf.train.load_checkpoint(path)
        names = [n for n in reader.get_variable_to_shape_map() if "save_counter" not in n]
        return {name: reader.get_tensor(name) for name in sorted(names)}


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("log"), **SETTINGS)


@pytest.fixture(scope="module")
def days(exp, tmp_path_factory):
    """Three days that went all the way."""
    days = Days(tmp_path_factory.mktemp("daily") / "days", exp)
    assert [days.next(), days.next(), days.next()] == [True, True, False]
    return days


def assert_same_bits(one, other):
    assert one.keys() == other.keys() and one
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], name)


def test_each_day_is_a_run_of_its_own_records_that_starts_from_the_day_before(days):
    for before, day in zip([None, *DAYS], DAYS, strict=False):
        config = run_folder.load_config(days.run(day))
        assert (config.train_data_start, config.train_data_end) == (day, day)
        assert config.valid_data_start is config.test_data_start is None
        assert config.pretrain_model_dir == (before and days.run(before))
        assert run_folder.finished(days.run(day))["steps"] == STEPS
        assert days.noted()[str(day)]["export"] == run_folder.finished(days.run(day))["export"]
    assert list(days.noted()) == [str(day) for day in DAYS]


def test_metrics_are_those_of_the_model_before_it_saw_the_day(days):
    noted = days.noted()
    assert noted["20240101"]["metrics_before"] is noted["20240101"]["model_before"] is None
    for before, day in zip(DAYS, DAYS[1:], strict=False):
        model = open_run(days.run(before), [f"test_data_start={day}", f"test_data_end={day}"])
        assert noted[str(day)]["model_before"] == days.run(before)
        assert noted[str(day)]["metrics_before"] == model.score("test").metrics()
        assert noted[str(day)]["metrics_before"]["examples"] == 160
    assert any(line.startswith("20240103 before training on it: auc 0.") for line in days.lines)


def test_the_vocabulary_grows_and_old_ids_keep_their_rows(days):
    sizes = []
    for before, day in zip(DAYS, DAYS[1:], strict=False):
        old, new = days.ids(before), days.ids(day)
        assert new[: len(old)] == old and len(set(new)) == len(new)
        sizes += [len(old), len(new)]
    assert sizes[0] < sizes[-1]


def test_optimisers_go_on_from_day_to_day(days):
    for number, day in enumerate(DAYS, start=1):
        state = days.state(day)
        for name in ("optimizer", "table_optimizer"):
            updates = state[f"{name}/_iterations/.ATTRIBUTES/VARIABLE_VALUE"]
            assert int(updates) == STEPS * number


def test_finished_days_are_not_done_again(days):
    times = {file: os.path.getmtime(file) for file in days.folder.rglob("*.json")}
    days.lines.clear()
    assert days.next() is False
    assert days.lines == [f"{days.folder}: all days from 20240101 to 20240103 are finished"]
    assert {file: os.path.getmtime(file) for file in days.folder.rglob("*.json")} == times


class Crash(Exception):
    """What ends a day in its middle."""


def test_a_day_that_was_cut_short_goes_on_where_it_was(days, exp, tmp_path, monkeypatch):
    """And a call for the next day alone goes on after the day before."""
    again = Days(tmp_path / "days", exp)
    assert again.next(DAYS[0], DAYS[0]) is False
    step, done = SynchronousEngine._step, []

    def crashing(*arguments):
        if len(done) == 3:
            raise Crash
        done.append(1)
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SynchronousEngine, "_step", crashing)
        with pytest.raises(Crash):
            again.next(DAYS[1], DAYS[1])
    noted = again.noted()["20240102"]
    assert noted["metrics_before"] == days.noted()["20240102"]["metrics_before"]
    assert "steps" not in noted
    (tmp_path / "x").mkdir()
    again.folder = tmp_path / "x" / ".." / "days"  # the same folder by another name
    with monkeypatch.context() as patch:
        patch.setattr(daily, "open_run", None)  # the day is not scored a second time
        assert again.next(DAYS[1], DAYS[1]) is False
    assert any(line.startswith("going on from step 3") for line in again.lines)
    assert_same_bits(again.state(20240102), days.state(20240102))


def raise_crash(*arguments):
    raise Crash


def test_the_first_day_starts_from_the_configured_run_as_configured(
    days, exp, tmp_path, monkeypatch
):
    """From then on, every variable is carried from day to day."""
    later = Days(tmp_path / "days", exp)
    start = [f"pretrain_model_dir={days.run(20240101)}", "vars_to_warm_start=^embedding/"]
    assert later.next(20240102, 20240103, *start)
    monkeypatch.setattr(daily, "train_run", raise_crash)
    with pytest.raises(Crash):
        later.next(20240102, 20240103, *start)
    first, second = (run_folder.load_config(later.run(day)) for day in DAYS[1:])
    assert first.pretrain_model_dir == days.run(20240101)
    assert first.vars_to_warm_start == "^embedding/"
    assert second.pretrain_model_dir == later.run(20240102)
    assert second.vars_to_warm_start == ".*"
    before = [later.noted()["20240102"][key] for key in ("model_before", "metrics_before")]
    assert before == [days.noted()["20240102"][key] for key in ("model_before", "metrics_before")]


def test_days_are_taken_in_their_order(days, exp, tmp_path):
    with pytest.raises(ConfigError, match=r"begin with --first 20240101"):
        unfinished = Days(tmp_path / "days", exp)
        config = run_folder.load_config(days.run(20240101))
        (tmp_path / "days" / "20240101").mkdir(parents=True)
        run_folder.write_config(unfinished.run(20240101), config)
        unfinished.next(20240102)
    late = Days(tmp_path / "late", exp)
    (tmp_path / "late" / "20240103").mkdir(parents=True)
    run_folder.write_config(late.run(20240103), config)
    with pytest.raises(ConfigError, match="late/20240103 exists, and 20240102 is not finished"):
        late.next(20240102, 20240102)


@pytest.mark.parametrize(
    "first, last, error, told",
    [
        (20240103, 20240106, DataError, "holds no records from 20240105 to 20240105"),
        (20240103, 20240102, ConfigError, "--first 20240103 is after --last 20240102"),
        (20240132, 20240202, ConfigError, "days must read yyyymmdd"),
        (2024, 20240102, ConfigError, "days must read yyyymmdd"),
    ],
)
def test_wrong_days_are_refused_before_anything_starts(exp, tmp_path, first, last, error, told):
    with pytest.raises(error, match=told):
        Days(tmp_path / "days", exp).next(first, last)
    assert not (tmp_path / "days").exists()


def start(days, log):
    command = [sys.executable, "-m", "diffumin_tf.cli", "daily", "--exp", days.exp]
    command += ["--model_dir", str(days.folder), "--first=20240101", "--last=20240102"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with open(log, "a", encoding="utf-8") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)


def test_the_command_takes_one_day_after_the_other_and_survives_a_kill(days, exp, tmp_path):
    killed, log = Days(tmp_path / "days", exp), tmp_path / "log"
    for signalled in (True, False):
        process = start(killed, log)
        try:
            second = tmp_path / "days" / "20240102" / "config.json"
            until = time.monotonic() + 120
            while signalled and not second.exists() and time.monotonic() < until:
                time.sleep(0.05)
            if signalled:
                process.send_signal(signal.SIGKILL)
            code = process.wait(timeout=120)
        finally:
            process.kill()
        assert code == (-signal.SIGKILL if signalled else 0), log.read_text()
    for day in DAYS[:2]:
        assert_same_bits(killed.state(day), days.state(day))
        for key in ("metrics_before", "steps"):
            assert killed.noted()[str(day)][key] == days.noted()[str(day)][key]
    assert log.read_text().count("20240101: 5 steps; exported") == 1
