"""A training command as a process of this machine, and ports for those of a cluster."""

import contextlib
import functools
import itertools
import os
import pathlib
import random
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
# Below those that Linux gives to connections: a port stays free until its task listens. Each
# process of tests has its own.
_PORTS = 250
_FIRST_PORT = 20_000 + _PORTS * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])


@functools.cache
def _ports():
    start = random.SystemRandom().randrange(_PORTS)
    return itertools.cycle([_FIRST_PORT + (start + i) % _PORTS for i in range(_PORTS)])


def free_ports(count):
    """Ports of 127.0.0.1 that nobody uses now, and that nobody else was given here."""
    found = []
    for port in itertools.islice(_ports(), _PORTS):
        if len(found) == count:
            break
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            found.append(port)
    assert len(found) == count, f"no {count} free ports from {_FIRST_PORT}"
    return found


def cluster_of(**jobs):
    """Addresses for so many tasks by job."""
    ports = iter(free_ports(sum(jobs.values())))
    return {job: [f"127.0.0.1:{next(ports)}" for _ in range(n)] for job, n in jobs.items()}


def environment():
    """Of a process that trains by itself, on the CPU, by the code that is tested."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CONFIG": "",
    }


def start(log, exp, model_dir):
    """Starts `diffumin train`; its output goes to a file."""
    command = [sys.executable, "-m", "diffumin_tf.cli", "train", f"--exp={exp}"]
    command.append(f"--model_dir={model_dir}")
    with open(log, "a", encoding="utf-8") as file:
        return subprocess.Popen(command, env=environment(), stdout=file, stderr=subprocess.STDOUT)


@contextlib.contextmanager
def ended(*processes):
    """Kills what is left of some processes at the end of the block, however it ends."""
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
