"""What a process can tell of its model, its memory, its machine and its code."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess

import numpy as np
import tensorflow as tf

from diffumin_tf.model import RankingModel

_STATUS, _CPU = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/cpuinfo")
_ROOT = pathlib.Path(__file__).parents[2]


def parameters(model: RankingModel) -> dict[str, int]:
    """Numbers that are trained: `table` (rows × dim), and `dense`, all others."""
    table = {id(v) for v in model.embedding.trainable_variables}
    rest = [v for v in model.trainable_variables if id(v) not in table]
    return {
        "dense": sum(int(np.prod(v.shape)) for v in rest),
        "table_rows": model.embedding.rows,
        "table_dim": model.embedding.dim,
        "table": model.embedding.rows * model.embedding.dim,
    }


def peak_memory() -> dict[str, float | None]:
    """Megabytes (10⁶ bytes) of this process at most, in main memory and in that of its GPU.

    What the resource module tells instead would count in the process that started this one.
    """
    gpu = None
    if tf.config.list_logical_devices("GPU"):
        gpu = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e6
    kilobytes = _entry(_STATUS, "VmHWM")
    process = 1024 * int(kilobytes.split()[0]) / 1e6 if kilobytes else None
    return {"peak_memory_mb": process, "peak_gpu_memory_mb": gpu}


def machine() -> dict[str, str | int | None]:
    """What speeds depend on."""
    gpus = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    return {
        "processor": _entry(_CPU, "model name") or platform.machine(),
        "cpus": os.cpu_count(),
        "gpu": details.get("device_name", "GPU") if gpus else None,
        "tensorflow": tf.__version__,
    }


def code() -> dict[str, str | None]:
    """Version of the package and the git commit it runs from, where they can be told."""
    try:
        version = importlib.metadata.version("diffumin_tf")
    except importlib.metadata.PackageNotFoundError:
        version = None
    commit = None
    # Installed into an environment that lies in somebody else's checkout, its commit is not ours.
    if (_ROOT / ".git").exists():
        commit = _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return {"version": version, "commit": commit}


def _git(*arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(_ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def _entry(file: pathlib.Path, key: str) -> str | None:
    """The value of the first line `key: value`."""
    if not file.exists():
        return None
    for line in file.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None
