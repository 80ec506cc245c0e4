"""Training commands as processes on this machine, alone or as the tasks of a cluster."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def free_ports(count):
    """Ports of 127.0.0.1 that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def cluster_of(**jobs):
    """Addresses for so many tasks by job."""
    ports = iter(free_ports(sum(jobs.values())))
    return {job: [f"127.0.0.1:{next(ports)}" for _ in range(n)] for job, n in jobs.items()}


def start(log, exp, model_dir, *overrides, task=None, cluster=None):
    """Starts `diffumin train`, as one task of a cluster or alone; its output goes to a file."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CONFIG": "",
    }
    if cluster:
        job, index = task
        content = {"cluster": cluster, "task": {"type": job, "index": index}}
        environment["TF_CONFIG"] = json.dumps(content)
    command = [sys.executable, "-m", "diffumin_tf.cli", "train", f"--exp={exp}"]
    command += [f"--model_dir={model_dir}", *(f"--set={o}" for o in overrides)]
    with open(log, "a", encoding="utf-8") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)


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


def codes_of(processes, seconds=240):
    """Exit codes, after waiting for all."""
    return [process.wait(timeout=seconds) for process in processes]
