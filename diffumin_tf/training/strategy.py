"""The `tf.distribute` strategy of a run, and what this process does in it."""

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from diffumin_tf import devices
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError, TrainingError
from diffumin_tf.input.damage import plain_text
from diffumin_tf.input.dataset import Part
from diffumin_tf.terminal import quietly
from diffumin_tf.training import cluster as cluster_lib
from diffumin_tf.training.asynchronous import servers
from diffumin_tf.training.cluster import Cluster
from diffumin_tf.training.preemption import handled

_WORKERS, _SERVERS = "multi_worker_mirrored", "parameter_server"
_NEEDS = {
    _WORKERS: "workers, the first of which may be called chief",
    _SERVERS: "one chief, workers and servers (ps)",
}


@dataclasses.dataclass(frozen=True)
class Distribution:
    """How a run is spread over devices and machines."""

    strategy: tf.distribute.Strategy  # TensorFlow's default one where nothing is distributed
    cluster: Cluster | None = None  # None for one machine
    is_distributed: bool = True

    @property
    def replicas(self) -> int:
        """Copies of the model that share a global batch."""
        return self.strategy.num_replicas_in_sync

    @property
    def workers(self) -> int:
        """Processes that share a global batch."""
        return self.cluster.size if self.cluster and not self.is_asynchronous else 1

    @property
    def is_asynchronous(self) -> bool:
        """Whether this is the chief of workers that train each at its own pace."""
        return isinstance(self.strategy, tf.distribute.ParameterServerStrategy)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.cluster is None or self.cluster.is_chief

    @property
    def part(self) -> Part:
        """What the input pipeline of this process feeds."""
        count, rank = self.replicas // self.workers, self.cluster.rank if self.cluster else 0
        return Part(rank * count, count, self.replicas, rank, self.workers)

    def distribute(self, dataset: tf.data.Dataset) -> Any:
        """What the replicas of this process iterate."""
        if self.replicas == 1:
            return dataset
        return self.strategy.distribute_datasets_from_function(lambda _: dataset)

    @property
    def name(self) -> str:
        return f"{self.cluster.job} {self.cluster.index}" if self.cluster else "this process"

    def chief_report(self, report: Callable[[str], None]) -> Callable[[str], None]:
        """`report` for the chief; for any other process a function that does nothing."""
        return report if self.is_chief else lambda line: None

    def wait_for_all(self) -> None:
        """Returns once every process has come here."""
        if self.workers > 1:
            with self.lost_workers_named():
                tf.function(self._meet)()

    def _meet(self) -> tf.Tensor:
        ones = self.strategy.run(lambda: tf.ones([]))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, ones, axis=None)

    def end_together(self, is_done: Callable[[], bool]) -> None:
        """Waits for all processes before this one ends, since it would look lost to the others.

        One of them may end while another still waits. That is no error once all work is done.

        Raises:
            TrainingError: a task is lost, and work is left.
        """
        try:
            self.wait_for_all()
        except TrainingError:
            if not is_done():
                raise

    @contextlib.contextmanager
    def lost_workers_named(self) -> Iterator[None]:
        """Turns TensorFlow's errors about a lost worker into one clear error."""
        try:
            yield
        except tf.errors.OpError as error:
            if self.workers == 1:
                raise
            raise TrainingError(
                f"{self.name}: another task of the cluster is lost, or failed before this one, and "
                f"then says why: {plain_text(error)[:300]}\notherwise {servers.RESTART}"
            ) from None


def one_device() -> Distribution:
    return Distribution(tf.distribute.get_strategy(), is_distributed=False)


def from_config(config: TaskConfig, report: Callable[[str], None]) -> Distribution:
    """Starts the strategy that a configuration names; the first thing a process asks TensorFlow.

    Does not return in the workers and servers of 'parameter_server'.

    Raises:
        ConfigError: the strategy does not fit TF_CONFIG, the devices or the batch size.
    """
    cluster = cluster_lib.of_environment()
    _check(config, cluster)
    if cluster is not None and cluster.size > 1:
        report(f"{cluster.job} {cluster.index} meets {cluster.size - 1} other tasks")
    with quietly():
        distribution = _STARTS[config.strategy](config, cluster)
        tf.config.list_logical_devices()
    if config.batch_size < distribution.replicas:
        raise ConfigError(
            f"batch_size is {config.batch_size} but must be {distribution.replicas} or more: it "
            f"is that of all {distribution.replicas} replicas together"
        )
    return distribution


def _check(config: TaskConfig, cluster: Cluster | None) -> None:
    """Raises ConfigError where the strategy does not fit TF_CONFIG or other settings."""
    name = config.strategy
    jobs = {job for job, hosts in cluster.tasks.items() if hosts} if cluster else set()
    if name in ("one_device", "mirrored") and cluster and cluster.size > 1:
        raise ConfigError(
            f"strategy is {name!r} but TF_CONFIG names {cluster.size} tasks, which would train one "
            "by one into one folder; set strategy to 'multi_worker_mirrored' or "
            "'parameter_server', or unset TF_CONFIG"
        )
    needs = _NEEDS.get(name)
    if needs and (not jobs or ("ps" in jobs if name == _WORKERS else jobs != {*cluster_lib.JOBS})):
        raise ConfigError(
            f"strategy {name!r} needs a cluster of {needs}: set TF_CONFIG, or give "
            "--job_name, --task_index, --worker_hosts, --chief_hosts, --ps_hosts"
        )
    if config.replicas and name != "mirrored":
        raise ConfigError(
            f"replicas is {config.replicas} but strategy {name!r}: "
            "only 'mirrored' has a number of replicas to choose"
        )
    if config.max_rollbacks and needs:
        raise ConfigError(
            f"max_rollbacks is {config.max_rollbacks} but must be 0 with strategy {name!r}: the "
            "processes cannot go back together; start the job again"
        )
    if config.jit_compile and name == _SERVERS:
        raise ConfigError(
            f"jit_compile is true but must be false with strategy {name!r}: compiled code cannot "
            "read weights of another machine"
        )


def _mirrored(config: TaskConfig, cluster: Cluster | None) -> Distribution:
    gpus = devices.gpus()
    wanted = config.replicas or max(gpus, 1)
    if gpus:
        if wanted > gpus:
            raise ConfigError(f"replicas is {wanted} but this machine has {gpus} GPUs")
        return Distribution(tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(wanted)]))
    _split_cpu(wanted)
    return Distribution(tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(wanted)]))


def _split_cpu(parts: int) -> None:
    (cpu,) = tf.config.list_physical_devices("CPU")
    devices = tf.config.get_logical_device_configuration(cpu)
    if devices is not None and len(devices) == parts:
        return
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(parts)]
        )
    except RuntimeError:
        if len(tf.config.list_logical_devices("CPU")) < parts:
            raise ConfigError(
                f"replicas is {parts}: the CPU cannot be split any more, because TensorFlow was "
                "used in this process before; start a fresh one"
            ) from None


def _multi_worker(config: TaskConfig, cluster: Cluster) -> Distribution:
    try:
        # SIGTERM ends a process that waits in C++, where Python handles no signal.
        with handled(signal.SIG_DFL, signal.SIGTERM):
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, tf.errors.OpError) as error:
        raise ConfigError(f"TF_CONFIG: the workers do not meet: {error}") from None
    # Workers that read all files have equally many batches. They need not ask each other before
    # each batch whether there is one.
    strategy.extended.experimental_enable_get_next_as_optional = config.input_shards > 1
    return Distribution(strategy, cluster)


def _parameter_server(config: TaskConfig, cluster: Cluster) -> Distribution:
    if not cluster.is_chief:
        servers.serve(cluster)
    return Distribution(servers.connect(cluster), cluster)


_STARTS = {
    "one_device": lambda config, cluster: one_device(),
    "mirrored": _mirrored,
    _WORKERS: _multi_worker,
    _SERVERS: _parameter_server,
}
