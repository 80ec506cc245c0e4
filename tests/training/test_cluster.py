"""Who takes part: TF_CONFIG, the original's flags, and what does not fit."""

import json

import pytest

from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError, TrainingError
from diffumin_tf.training import cluster, strategy

WORKERS = {"worker": ["a:1", "b:2"]}
SERVERS = {"chief": ["c:1"], "worker": ["a:1", "b:2"], "ps": ["p:1"]}


@pytest.fixture
def tf_config(monkeypatch):
    def use(tasks, job, index):
        content = {"cluster": tasks, "task": {"type": job, "index": index}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(content))

    monkeypatch.delenv("TF_CONFIG", raising=False)
    return use


def started(**changes):
    return strategy.from_config(TaskConfig(input_units=["x:Y"], **changes), lambda line: None)


@pytest.mark.parametrize(
    ("tasks", "job", "index", "chief"),
    [
        (WORKERS, "worker", 0, True),
        (WORKERS, "worker", 1, False),
        ({"chief": ["c:1"], **WORKERS}, "worker", 0, False),
        ({"chief": ["c:1"], **WORKERS}, "chief", 0, True),
    ],
)
def test_the_chief_writes_or_else_the_first_worker(tf_config, tasks, job, index, chief):
    tf_config(tasks, job, index)
    found = cluster.of_environment()
    assert found.is_chief == chief and found.size == len(sum(tasks.values(), []))


def test_without_tf_config_there_is_no_cluster(tf_config, monkeypatch):
    assert cluster.of_environment() is None
    monkeypatch.setenv("TF_CONFIG", "{}")
    assert cluster.of_environment() is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON like"),
        ('{"cluster": 3}', "must be JSON like"),
        ('{"cluster": {"worker": ["a"]}, "task": {"type": "worker"}}', "'a' must read host:port"),
        ('{"cluster": {"boss": ["a:1"]}, "task": {"type": "boss"}}', "unknown job 'boss'"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps"}}',
            "'ps' 0 is not among the jobs",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "'worker' 1 is not among the 1 worker addresses",
        ),
    ],
)
def test_a_malformed_tf_config_is_one_clear_error(monkeypatch, text, message):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ConfigError, match="^TF_CONFIG") as raised:
        cluster.of_environment()
    assert message in str(raised.value)


def test_the_flags_of_the_original_say_the_same(tf_config, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "")
    cluster.set_environment("worker", 1, "c:1", "a:1,b:2", "p:1")
    found = cluster.of_environment()
    assert found == cluster.Cluster(SERVERS, "worker", 1) and not found.is_chief
    with pytest.raises(ConfigError, match="TF_CONFIG is set too"):
        cluster.set_environment("worker", 1, "c:1", "a:1,b:2", "p:1")


def test_flags_that_do_not_fit_are_refused(tf_config):
    with pytest.raises(ConfigError, match="--job_name, --task_index: task 'ps' 0 is not among"):
        cluster.set_environment("ps", 0, "", "a:1", "")


@pytest.mark.parametrize(
    ("tasks", "settings", "message"),
    [
        (WORKERS, {}, "'one_device' but TF_CONFIG names 2 tasks"),
        (WORKERS, {"strategy": "mirrored"}, "'mirrored' but TF_CONFIG names 2 tasks"),
        (None, {"strategy": "multi_worker_mirrored"}, "needs a cluster of workers"),
        (SERVERS, {"strategy": "multi_worker_mirrored"}, "needs a cluster of workers"),
        (WORKERS, {"strategy": "parameter_server"}, "needs a cluster of one chief, workers and"),
        (WORKERS, {"strategy": "multi_worker_mirrored", "max_rollbacks": 1}, "max_rollbacks is 1"),
        (SERVERS, {"strategy": "parameter_server", "max_rollbacks": 1}, "max_rollbacks is 1"),
        (SERVERS, {"strategy": "parameter_server", "jit_compile": True}, "jit_compile is true"),
        (None, {"replicas": 2}, "replicas is 2 but strategy 'one_device'"),
    ],
)
def test_a_strategy_that_does_not_fit_its_surroundings_is_refused(
    tf_config, tasks, settings, message
):
    if tasks:
        tf_config(tasks, "worker", 0)
    with pytest.raises(ConfigError) as raised:
        started(**settings)
    assert message in str(raised.value)


def test_one_device_is_no_strategy_and_writes(tf_config):
    alone = started()
    assert (alone.replicas, alone.workers, alone.is_chief) == (1, 1, True)
    alone.wait_for_all()
    alone.end_together(lambda: False)


def test_a_task_that_ended_first_is_lost_only_to_what_is_not_done(monkeypatch):
    def gone(self):
        raise TrainingError("another task of the cluster is lost")

    monkeypatch.setattr(strategy.Distribution, "wait_for_all", gone)
    alone = started()
    alone.end_together(lambda: True)
    with pytest.raises(TrainingError):
        alone.end_together(lambda: False)
