"""Who takes part in a distributed run, from TF_CONFIG or the original's flags."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence

from diffumin_tf.errors import ConfigError

TF_CONFIG = "TF_CONFIG"
JOBS = ("chief", "worker", "ps")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The tasks of a run and which of them this process is."""

    tasks: Mapping[str, Sequence[str]]  # addresses `host:port` by job
    job: str
    index: int

    @property
    def is_chief(self) -> bool:
        """Whether this process writes: the chief, or the first worker where there is none."""
        is_first_worker = (self.job, self.index) == ("worker", 0)
        return self.job == "chief" or (is_first_worker and not self.tasks.get("chief"))

    @property
    def rank(self) -> int:
        """Number of this process among those that compute, in the order of their replicas."""
        return self.index + (self.job == "worker" and bool(self.tasks.get("chief")))

    @property
    def size(self) -> int:
        return sum(len(hosts) for hosts in self.tasks.values())


def of_environment() -> Cluster | None:
    """The cluster that TF_CONFIG describes; None when it is unset or describes none.

    Raises:
        ConfigError: TF_CONFIG is malformed.
    """
    text = os.environ.get(TF_CONFIG, "")
    if not text.strip():
        os.environ.pop(TF_CONFIG, None)  # TensorFlow stumbles over an empty one
        return None
    try:
        content = json.loads(text)
        tasks = {job: list(hosts) for job, hosts in content.get("cluster", {}).items()}
        task = content.get("task", {})
        cluster = Cluster(tasks, str(task.get("type", "")), int(task.get("index", 0)))
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{TF_CONFIG}={text!r}: must be JSON like "
            '{"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}: '
            f"{error}"
        ) from None
    if not tasks:
        return None
    _check(cluster, TF_CONFIG)
    return cluster


def set_environment(
    job_name: str, task_index: int, chief_hosts: str, worker_hosts: str, ps_hosts: str
) -> None:
    """Puts what the original's flags say into TF_CONFIG, where TensorFlow looks for it.

    Args:
        chief_hosts, worker_hosts, ps_hosts: `host:port`, separated by commas; may be empty.

    Raises:
        ConfigError: the flags contradict each other or TF_CONFIG.
    """
    if os.environ.get(TF_CONFIG):
        raise ConfigError(f"--job_name: {TF_CONFIG} is set too; unset one of them")
    given = {"chief": chief_hosts, "worker": worker_hosts, "ps": ps_hosts}
    tasks = {job: hosts.split(",") for job, hosts in given.items() if hosts}
    _check(Cluster(tasks, job_name, task_index), "--job_name, --task_index")
    os.environ[TF_CONFIG] = json.dumps(
        {"cluster": tasks, "task": {"type": job_name, "index": task_index}}
    )


def _check(cluster: Cluster, source: str) -> None:
    for job, hosts in cluster.tasks.items():
        if job not in JOBS:
            raise ConfigError(f"{source}: unknown job {job!r}; known are {', '.join(JOBS)}")
        for host in hosts:
            name, _, port = str(host).rpartition(":")
            if not name or not port.isdigit():
                raise ConfigError(f"{source}: {job} address {host!r} must read host:port")
    count = len(cluster.tasks.get(cluster.job, ()))
    known = f"{count} {cluster.job} addresses"
    if not count:
        known = f"jobs {list(cluster.tasks)}; give --{cluster.job}_hosts"
    if not 0 <= cluster.index < count:
        raise ConfigError(
            f"{source}: task {cluster.job!r} {cluster.index} is not among the {known}"
        )
