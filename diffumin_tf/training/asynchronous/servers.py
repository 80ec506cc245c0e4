"""The tasks of a parameter-server cluster: how they meet, watch each other and end."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable

import tensorflow as tf

from diffumin_tf.errors import ConfigError, TrainingError
from diffumin_tf.training.cluster import Cluster

START_SECONDS = 600.0  # a task may come so much later than another one
RESTART = "start all tasks again with the same command; they go on from the last checkpoint"
SHARD_BYTES = 256 << 10  # a smaller piece of a variable is not worth a server of its own
_LOOK_SECONDS = 1.0
_REFUSALS = 3  # a chief that is started again takes longer than so many looks
_CONNECT_SECONDS = 5.0
_GRACE_SECONDS = 30.0  # between a scheduler's SIGTERM and its SIGKILL


def connect(cluster: Cluster) -> tf.distribute.ParameterServerStrategy:
    """The strategy of the chief, once all other tasks answer.

    Variables of twice `SHARD_BYTES` or more, the embedding table above all, are cut into one part
    a server.

    Raises:
        TrainingError: a task did not come in time.
        ConfigError: a worker has several GPUs.
    """
    others = _names(cluster, ("worker", "ps"))
    missing = _wait_for(others)
    if missing:
        tasks = ", ".join(f"{name} ({others[name]})" for name in missing)
        raise TrainingError(f"no answer after {START_SECONDS:.0f} s: {tasks}; start it, too")
    spec = tf.train.ClusterSpec(dict(cluster.tasks))
    strategy = tf.distribute.ParameterServerStrategy(
        tf.distribute.cluster_resolver.SimpleClusterResolver(
            spec, task_type="chief", task_id=0, rpc_layer="grpc"
        ),
        tf.distribute.experimental.partitioners.MinSizePartitioner(
            SHARD_BYTES, max_shards=len(cluster.tasks["ps"])
        ),
    )
    if strategy.num_replicas_in_sync > 1:
        raise ConfigError(
            f"each worker has {strategy.num_replicas_in_sync} GPUs but may have one: start a "
            "worker for each GPU, with CUDA_VISIBLE_DEVICES"
        )
    return strategy


def serve(cluster: Cluster) -> None:
    """What a worker or server process does: serve the chief until the chief is gone.

    Ends the process. SIGTERM ends it as soon as the chief has, since the chief needs everybody for
    its last checkpoint, and in any case before a scheduler would lose patience.

    Raises:
        TrainingError: the chief did not come in time.
    """
    name, chief = f"{cluster.job} {cluster.index}", cluster.tasks["chief"][0]
    devices = {"GPU": 0} if cluster.job == "ps" else {}
    server = tf.distribute.Server(
        tf.train.ClusterSpec(dict(cluster.tasks)),
        job_name=cluster.job,
        task_index=cluster.index,
        protocol="grpc",
        config=tf.compat.v1.ConfigProto(device_count=devices),
    )
    print(f"{name} serves at {cluster.tasks[cluster.job][cluster.index]}")
    sigterms: list[float] = []
    signal.signal(signal.SIGTERM, lambda number, frame: sigterms.append(time.monotonic()))
    if _wait_for({"chief": chief}, lambda: bool(sigterms)) and not sigterms:
        raise TrainingError(f"{name}: no chief at {chief} after {START_SECONDS:.0f} s")
    refusals, must_end = 0, False
    while refusals < _REFUSALS and not must_end:
        time.sleep(_LOOK_SECONDS)
        refusals = 0 if answers(chief) else refusals + 1
        must_end = bool(sigterms) and time.monotonic() - sigterms[0] > _GRACE_SECONDS
    print(f"{name} ends, as the chief has" if refusals else f"{name} ends by SIGTERM")
    sys.stdout.flush()
    sys.stderr.flush()
    # Steps of a chief that was killed may still run in threads of the server, which nothing stops.
    del server
    os._exit(0)


def answers(address: str, seconds: float = _CONNECT_SECONDS) -> bool:
    """Whether a process listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), seconds).close()
    except OSError:
        return False
    return True


class Attendance:
    """Reports each worker of a cluster that goes or comes."""

    def __init__(self, cluster: Cluster, report: Callable[[str], None]) -> None:
        self._workers = _names(cluster, ("worker",))
        self._servers = _names(cluster, ("ps",))
        self._report = report
        self._gone: set[str] = set()
        self._last_look = self._last_worker = time.monotonic()

    def look(self) -> None:
        """Looks around, now and then.

        Raises:
            TrainingError: a server is gone, or all workers are for too long.
        """
        now = time.monotonic()
        if now - self._last_look < _LOOK_SECONDS:
            return
        self._last_look = now
        self.check_servers()
        gone = set(_silent(self._workers))
        left = len(self._workers) - len(gone)
        for name in sorted(gone ^ self._gone):
            change = "is lost" if name in gone else "is back"
            self._report(
                f"{name} ({self._workers[name]}) {change}: training "
                f"{'goes on' if left else 'waits'} with {left} of {len(self._workers)} workers"
            )
        self._gone = gone
        if left:
            self._last_worker = now
        elif now - self._last_worker > START_SECONDS:
            raise TrainingError(f"all workers are gone for {START_SECONDS:.0f} s; {RESTART}")

    def check_servers(self) -> None:
        """Raises TrainingError when a server is gone, and with it a part of the weights."""
        gone = _silent(self._servers)
        if gone:
            tasks = ", ".join(f"{name} ({self._servers[name]})" for name in gone)
            raise TrainingError(f"{tasks} is gone, and its part of the weights with it; {RESTART}")


def _names(cluster: Cluster, jobs: Iterable[str]) -> dict[str, str]:
    """Addresses by name, like `worker 0`."""
    tasks = cluster.tasks
    return {f"{job} {i}": address for job in jobs for i, address in enumerate(tasks[job])}


def _silent(tasks: dict[str, str]) -> list[str]:
    return [name for name, address in tasks.items() if not answers(address, _LOOK_SECONDS)]


def _wait_for(tasks: dict[str, str], given_up: Callable[[], bool] = lambda: False) -> list[str]:
    """Waits until all answer; returns those that did not in time."""
    end = time.monotonic() + START_SECONDS
    while missing := _silent(tasks):
        if time.monotonic() > end or given_up():
            break
        time.sleep(_LOOK_SECONDS / 4)
    return missing
