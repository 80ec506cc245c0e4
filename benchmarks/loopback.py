"""What workers and servers on this machine send each other in a step, as the kernel counts it.

Times mean nothing here, with all processes on the same cores; bytes are those of a real cluster.
Whatever else talks over the loopback interface meanwhile is counted, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import pathlib
import socket
import time
from collections.abc import Callable, Iterator

import tensorflow as tf

from benchmarks import apart, costs, scaling
from benchmarks.plan import Plan
from benchmarks.scaling import Sizes
from benchmarks.settings import Setting, build_model, random_batch
from benchmarks.tables import table
from diffumin_tf.model import RankingModel
from diffumin_tf.training import optimizers, strategy
from diffumin_tf.training.asynchronous import servers
from diffumin_tf.training.cluster import Cluster
from diffumin_tf.training.step import Requests, TrainingStep

WORKERS, SERVERS = 2, 2
SYNCHRONOUS, ASYNCHRONOUS = "multi_worker_mirrored", "parameter_server"

_COUNTERS = pathlib.Path("/proc/net/dev")
_TRANSMITTED = 9  # its column
_STEPS, _FIRST_STEPS = 10, 3
_SECONDS = 300.0  # for a cluster to come to its end


def observable() -> bool:
    """Whether the bytes of the loopback interface can be observed here."""
    return _COUNTERS.exists()


def measure(plan: Plan, say: Callable[[str], None]) -> dict[str, float]:
    """Bytes a step over the loopback interface, by strategy."""
    setting, found = plan.eleme(), {}
    for name, jobs in (
        (SYNCHRONOUS, {"worker": WORKERS}),
        (ASYNCHRONOUS, {"chief": 1, "worker": 1, "ps": SERVERS}),
    ):
        say(f"distribution: bytes of a step, {name}, a process for each task")
        found[name] = _bytes_a_step(_with(setting, f'strategy="{name}"'), jobs)
    return found


def expected(batch: int, sizes: Sizes) -> dict[str, float]:
    """The same by the formulas of `scaling`, for the batch of a step."""
    synchronous = scaling.exchanges(sizes, batch, WORKERS, WORKERS)
    return {
        SYNCHRONOUS: WORKERS * sum(exchange.received for exchange in synchronous),
        ASYNCHRONOUS: sum(scaling.exchanged(sizes, batch, costs.shares(sizes, batch))),
    }


def tables(found: dict[str, float], expected: dict[str, float]) -> list[str]:
    """Counted bytes beside those of the formulas."""
    rows = [
        [name, f"{found[name] / 1e6:,.2f}", f"{x / 1e6:,.2f}", f"{found[name] / x:.3f}"]
        for name, x in expected.items()
    ]
    title = "bytes of a step between processes, all of them together"
    return [table(title, ["", "counted, MB", "by formula, MB", "ratio"], rows)]


def _with(setting: Setting, override: str) -> Setting:
    return dataclasses.replace(setting, overrides=(*setting.overrides, override))


def _bytes_a_step(setting: Setting, jobs: dict[str, int]) -> float:
    """Starts one process a task; the one that counts answers, and then all are ended."""
    spawn = multiprocessing.get_context("spawn")
    answers, cluster = spawn.Queue(), _addresses(jobs)
    with contextlib.ExitStack() as stack:
        for job, count in jobs.items():
            for index in range(count):
                arguments = (setting, cluster, job, index, answers)
                process = spawn.Process(target=_task, args=arguments, daemon=True)
                with apart.quiet_stderr():  # which the process inherits
                    process.start()
                stack.callback(process.join)
                stack.callback(process.kill)
        answer = answers.get(timeout=_SECONDS)
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return answer


def _addresses(jobs: dict[str, int]) -> dict[str, list[str]]:
    with contextlib.ExitStack() as stack:
        sockets = iter(
            [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(9)]
        )
        return {
            job: [f"127.0.0.1:{next(sockets).getsockname()[1]}" for _ in range(count)]
            for job, count in jobs.items()
        }


def _task(
    setting: Setting, cluster: dict, job: str, index: int, answers: multiprocessing.Queue
) -> None:
    os.environ["TF_CONFIG"] = json.dumps(
        {"cluster": cluster, "task": {"type": job, "index": index}}
    )
    try:
        if "ps" in cluster:
            counted = _chief(setting, Cluster(cluster, job, index))
        else:
            counted = _worker(setting)
    except Exception as error:
        answers.put(f"{job} {index}: {type(error).__name__}: {error}")
        raise
    if counted is not None:
        answers.put(counted)
    time.sleep(_SECONDS)  # the others would take its end for a loss; it is killed


def _worker(setting: Setting) -> float | None:
    """Trains with the other workers; worker 0 returns the bytes."""
    distribution = strategy.from_config(setting.config)
    spread_over = distribution.strategy
    with spread_over.scope():
        model = build_model(setting)
    own = dataclasses.replace(setting, batch_size=setting.batch_size // WORKERS)
    batch = random_batch(own, distribution.place)
    endless = spread_over.distribute_datasets_from_function(
        lambda _: tf.data.Dataset.from_tensors((batch.inputs, batch.label)).repeat()
    )
    batches, step = iter(endless), TrainingStep(model, distribution)

    def train(steps: int) -> None:
        for _ in range(steps):
            losses, *_ = step(next(batches), endless.element_spec, Requests())
            losses["total_loss"].numpy()

    train(_FIRST_STEPS)
    counted = _counted(lambda: train(_STEPS))
    return counted if distribution.is_chief else None


def _chief(setting: Setting, tasks: Cluster) -> float:
    """Has the worker train; only the chief returns, with the bytes."""
    if tasks.job != "chief":
        servers.serve(tasks, lambda line: None)
    spread_over = servers.connect(tasks)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(spread_over)
    with spread_over.scope():
        model = RankingModel(setting.config, setting.schema, setting.rows)
        model.create_weights()
        optimizers.compile_model(model, setting.config)
    batch = random_batch(setting, 0)
    batch = tf.nest.map_structure(lambda x: x.numpy(), (batch.inputs, batch.label))

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64)])
    def train_on_worker(steps: tf.Tensor) -> None:
        for _ in tf.data.Dataset.range(steps):
            # Made on the worker, so that the batch does not come from the chief.
            spread_over.run(model.update, args=(tf.nest.map_structure(tf.constant, batch),))

    def train(steps: int) -> None:
        coordinator.schedule(train_on_worker, (tf.constant(steps, tf.int64),))
        coordinator.join()

    train(_FIRST_STEPS)
    return _counted(lambda: train(_STEPS))


def _counted(train: Callable[[], None]) -> float:
    before = _transmitted()
    train()
    return (_transmitted() - before) / _STEPS


def _transmitted() -> int:
    lines: Iterator[str] = (line.strip() for line in _COUNTERS.read_text().splitlines())
    (loopback,) = (line for line in lines if line.startswith("lo:"))
    return int(loopback.replace(":", " ").split()[_TRANSMITTED])
