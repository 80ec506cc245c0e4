"""What the tasks of a parameter-server cluster know of each other."""

import contextlib
import socket

import pytest

from diffumin_tf.errors import TrainingError
from diffumin_tf.training.asynchronous import servers
from diffumin_tf.training.cluster import Cluster


@contextlib.contextmanager
def listening():
    """A task that answers, at its address."""
    with socket.socket() as task:
        task.bind(("127.0.0.1", 0))
        task.listen()
        yield task.getsockname()


def test_who_goes_and_comes_is_told_once(monkeypatch):
    monkeypatch.setattr(servers, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(servers, "answers", lambda address, seconds: address in there)
    there, lines = {"a:1", "b:2", "c:3"}, []
    cluster = Cluster({"chief": ["z:9"], "worker": ["a:1", "b:2"], "ps": ["c:3"]}, "chief", 0)
    attendance = servers.Attendance(cluster, lines.append)
    for gone in ((), ("b:2",), ("b:2",), ()):
        there = {"a:1", "b:2", "c:3"} - set(gone)
        attendance.look()
    assert lines == [
        "worker 1 (b:2) is lost: training goes on with 1 of 2 workers",
        "worker 1 (b:2) is back: training goes on with 2 of 2 workers",
    ]
    there = {"c:3"}
    attendance.look()
    monkeypatch.setattr(servers, "START_SECONDS", -1.0)
    with pytest.raises(TrainingError, match="all workers are gone"):
        attendance.look()
    there = {"a:1", "b:2"}
    with pytest.raises(TrainingError, match=r"ps 0 \(c:3\) is gone"):
        attendance.look()


def test_a_chief_waits_for_the_others_in_vain_for_a_bounded_time(monkeypatch):
    monkeypatch.setattr(servers, "START_SECONDS", 0.2)
    with listening() as (_, closed):
        pass
    with listening() as (host, port):
        tasks = {"worker": [f"{host}:{port}"], "ps": [f"{host}:{closed}"], "chief": ["x:1"]}
        with pytest.raises(TrainingError, match=rf"no answer after 0 s: ps 0 \({host}:{closed}\)"):
            servers.connect(Cluster(tasks, "chief", 0))


def test_answering_is_listening():
    with listening() as (host, port):
        assert servers.answers(f"{host}:{port}")
    assert not servers.answers(f"{host}:{port}")
