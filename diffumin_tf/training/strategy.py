"""The `tf.distribute` strategy of a run, and what this process does in it."""

import contextlib
import dataclasses
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError, TrainingError
from diffumin_tf.input.damage import plain_text
from diffumin_tf.input.dataset import Part
from diffumin_tf.terminal import quietly
from diffumin_tf.training import cluster as cluster_lib
from diffumin_tf.training.asynchronous import servers
from diffumin_tf.training.cluster import Cluster


@dataclasses.dataclass(frozen=True)
class Distribution:
    """How a run is spread over devices and machines.

    Attributes:
        strategy: TensorFlow's default strategy where nothing is distributed.
        cluster: the machines; None for one.
        is_distributed: whether the strategy is another than the default one.
    """

    strategy: tf.distribute.Strategy
    cluster: Cluster | None = None
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
    def rank(self) -> int:
        """Number of this process among the workers."""
        return self.cluster.rank if self.cluster else 0

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.cluster is None or self.cluster.is_chief

    @property
    def part(self) -> Part:
        """What the input pipeline of this process feeds."""
        count = self.replicas // self.workers
        return Part(self.rank * count, count, self.replicas, self.rank, self.workers)

    def distribute(self, dataset: tf.data.Dataset) -> Any:
        """What the replicas of this process iterate."""
        if self.replicas == 1:
            return dataset
        return self.strategy.distribute_datasets_from_function(lambda _: dataset)

    @property
    def name(self) -> str:
        """This process in words."""
        return f"{self.cluster.job} {self.cluster.index}" if self.cluster else "this process"

    def chief_report(self, report: Callable[[str], None]) -> Callable[[str], None]:
        """`report` in the chief; what says nothing in all other processes."""
        return report if self.is_chief else lambda line: None

    def wait_for_all(self) -> None:
        """Returns once every process has come here."""
        if self.workers > 1:
            with self.lost_workers_named():
                tf.function(self._meet)()

    def end_together(self, is_done: Callable[[], bool]) -> None:
        """Waits for all processes before this one ends, since it would look lost to the others.

        One of them may end while another still waits. That is no error once all work is done.

        Args:
            is_done: whether all work is done.

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

    def _meet(self) -> tf.Tensor:
        ones = self.strategy.run(lambda: tf.ones([]))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, ones, axis=None)


def one_device() -> Distribution:
    """Nothing distributed."""
    return Distribution(tf.distribute.get_strategy(), is_distributed=False)


def from_config(
    config: TaskConfig, report: Callable[[str], None] = lambda line: None
) -> Distribution:
    """Starts the strategy that a configuration names; the first thing a process asks TensorFlow.

    Does not return in the workers and servers of 'parameter_server'.

    Args:
        config: names the strategy.
        report: takes a line when this process has to wait for others.

    Raises:
        ConfigError: the strategy does not fit TF_CONFIG, the devices or the batch size.
    """
    cluster = cluster_lib.of_environment()
    several = cluster is not None and cluster.size > 1
    if several and config.strategy in ("one_device", "mirrored"):
        raise ConfigError(
            f"strategy is {config.strategy!r} but TF_CONFIG names {cluster.size} tasks, which "
            "would train one by one into one folder; set strategy to 'multi_worker_mirrored' or "
            "'parameter_server', or unset TF_CONFIG"
        )
    if config.replicas and config.strategy != "mirrored":
        raise ConfigError(
            f"replicas is {config.replicas} but strategy {config.strategy!r}: "
            "only 'mirrored' has a number of replicas to choose"
        )
    if several:
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


def _one_device(config: TaskConfig, cluster: Cluster | None) -> Distribution:
    return one_device()


def _mirrored(config: TaskConfig, cluster: Cluster | None) -> Distribution:
    gpus = tf.config.list_physical_devices("GPU")
    wanted = config.replicas or max(len(gpus), 1)
    if gpus:
        if wanted > len(gpus):
            raise ConfigError(f"replicas is {wanted} but this machine has {len(gpus)} GPUs")
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


def _multi_worker(config: TaskConfig, cluster: Cluster | None) -> Distribution:
    if cluster is None or cluster.tasks.get("ps"):
        raise ConfigError(_needs(config, "workers, the first of which may be called chief"))
    if config.max_rollbacks:
        raise ConfigError(
            f"max_rollbacks is {config.max_rollbacks} but must be 0 with 'multi_worker_mirrored': "
            "workers whose step failed cannot go on together; start the job again"
        )
    try:
        with _default_sigterm():
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, tf.errors.OpError) as error:
        raise ConfigError(f"TF_CONFIG: the workers do not meet: {error}") from None
    # Workers that read all files have equally many batches. They need not ask each other before
    # each batch whether there is one.
    strategy.extended.experimental_enable_get_next_as_optional = config.input_shards > 1
    return Distribution(strategy, cluster)


@contextlib.contextmanager
def _default_sigterm() -> Iterator[None]:
    """Lets SIGTERM end a process that waits in C++, where Python handles no signal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parameter_server(config: TaskConfig, cluster: Cluster | None) -> Distribution:
    wanted = ("chief", "worker", "ps")
    if cluster is None or any(not cluster.tasks.get(job) for job in wanted):
        raise ConfigError(_needs(config, "one chief, workers and servers (ps)"))
    servers.check(config)
    if not cluster.is_chief:
        servers.serve(cluster)
    return Distribution(servers.connect(cluster), cluster)


def _needs(config: TaskConfig, jobs: str) -> str:
    return (
        f"strategy {config.strategy!r} needs a cluster of {jobs}: set TF_CONFIG, or give "
        "--job_name, --task_index, --worker_hosts, --chief_hosts, --ps_hosts"
    )


_STARTS = {
    "one_device": _one_device,
    "mirrored": _mirrored,
    "multi_worker_mirrored": _multi_worker,
    "parameter_server": _parameter_server,
}
