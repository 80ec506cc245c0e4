"""Day by day: each day is scored by the model of the day before, then learned from."""

import json
import os
import signal

import pytest

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.run import daily
from diffumin_tf.run import folder as run_folder
from diffumin_tf.run.open import open_run
from diffumin_tf.training import checkpoints
from tests.small_log import write_experiment
from tests.training.forks import wait_until
from tests.training.test_kills import assert_same_bits, values

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
        return values(checkpoints.latest(self.run(day)))


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("log"), **SETTINGS)


@pytest.fixture(scope="module")
def days(exp, tmp_path_factory):
    """Three days that went all the way."""
    days = Days(tmp_path_factory.mktemp("daily") / "days", exp)
    assert [days.next(), days.next(), days.next()] == [True, True, False]
    return days


def test_each_day_is_a_run_of_its_own_records_that_starts_from_the_day_before(days):
    for number, (before, day) in enumerate(zip([None, *DAYS], DAYS, strict=False), start=1):
        config = run_folder.load_config(days.run(day))
        assert (config.train_data_start, config.train_data_end) == (day, day)
        assert config.valid_data_start is config.test_data_start is None
        assert config.pretrain_model_dir == (before and days.run(before))
        assert run_folder.finished(days.run(day))["steps"] == STEPS
        assert days.noted()[str(day)]["export"] == run_folder.finished(days.run(day))["export"]
        state = days.state(day)
        for name in ("optimizer", "table_optimizer"):
            assert int(state[f"{name}/_iterations/{checkpoints.VALUE}"]) == STEPS * number
    assert list(days.noted()) == [str(day) for day in DAYS]


def test_metrics_are_those_of_the_model_before_it_saw_the_day(days):
    noted = days.noted()
    assert noted["20240101"]["metrics_before"] is noted["20240101"]["model_before"] is None
    assert noted["20240103"]["model_before"] == days.run(20240102)
    model = open_run(days.run(20240102), ["test_data_start=20240103", "test_data_end=20240103"])
    assert noted["20240103"]["metrics_before"] == model.score("test").metrics()
    assert any(line.startswith("20240103 before training on it: auc 0.") for line in days.lines)


def test_the_vocabulary_grows_and_old_ids_keep_their_rows(days):
    first, second, third = map(days.ids, DAYS)
    assert second[: len(first)] == first and third[: len(second)] == second
    assert len(first) < len(third) == len(set(third))


def test_finished_days_are_not_done_again(days):
    times = {file: os.path.getmtime(file) for file in days.folder.rglob("*.json")}
    days.lines.clear()
    assert days.next() is False
    assert days.lines == [f"{days.folder}: all days from 20240101 to 20240103 are finished"]
    assert {file: os.path.getmtime(file) for file in days.folder.rglob("*.json")} == times


class Crash(Exception):
    """What ends a day in its middle."""


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


def test_the_command_takes_one_day_after_the_other_and_survives_a_kill(
    commands, days, exp, tmp_path
):
    killed, log = Days(tmp_path / "days", exp), tmp_path / "log"
    command = ("daily", "--first=20240101", "--last=20240102")
    for is_killed in (True, False):
        process = commands.start(log, exp, killed.folder, command=command)
        with commands.ended([process]):
            if is_killed:  # in the middle of its second day
                begun = lambda: checkpoints.latest(killed.run(20240102))  # noqa: E731
                wait_until(begun, 120, log)
                os.kill(process, signal.SIGKILL)
            code = commands.code(process)
        assert code == (-signal.SIGKILL if is_killed else 0), log.read_text()
    for day in DAYS[:2]:
        assert_same_bits(killed.state(day), days.state(day))
        for key in ("metrics_before", "steps"):
            assert killed.noted()[str(day)][key] == days.noted()[str(day)][key]
    for once in ("20240101: 5 steps; exported", "20240102 before training", "going on from step"):
        assert log.read_text().count(once) == 1
