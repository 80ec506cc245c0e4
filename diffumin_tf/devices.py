"""What a configuration leaves to the devices of this machine, and how they compute."""

import os
from typing import Any

import tensorflow as tf

from diffumin_tf.config.task import TaskConfig

# Quarters pad a history to four times its length at most; below 64 there is little to save.
_BUCKET_FACTOR, _SHORTEST_BUCKET = 4, 64


def gpus() -> int:
    """The number of GPUs that TensorFlow sees."""
    return len(tf.config.list_physical_devices("GPU"))


def with_defaults(config: TaskConfig) -> TaskConfig:
    """A configuration with a value for each key whose default depends on the device.

    What is set stays. A run's folder keeps what was left open, since a run may be trained on one
    kind of device and scored on another.
    """
    defaults = _of_gpu(config) if gpus() else _of_cpu(config)
    left_open = {key: value for key, value in defaults.items() if getattr(config, key) is None}
    return config.model_copy(update=left_open)


def describe(config: TaskConfig) -> str:
    """The devices, and what is in force on them; `(set)` is what the configuration says itself."""
    count, resolved = gpus(), with_defaults(config)
    found = f"{count or 'no'} GPU{'s' if count > 1 else ''}"
    if count > 1 and config.strategy == "one_device":
        found += ", of which strategy 'one_device' uses one"
    values = []
    for key in _of_cpu(config):
        value = getattr(resolved, key)
        text = list(value) if isinstance(value, tuple) else str(value).lower()
        values.append(f"{key} {text}" + ("" if getattr(config, key) is None else " (set)"))
    compiles = "; XLA compiles the first step, which takes a minute or so"
    return f"{found}: {', '.join(values)}" + (compiles if resolved.jit_compile else "")


def compute_reproducibly(deterministic: bool = True) -> None:
    """Settles, for this process, how TensorFlow computes on whatever device it finds.

    Products stay those of float32: a GPU would round what it multiplies to TF32, which leaves
    channels orthonormal to 6e-4 only, and lets other behaviours be kept than on a CPU.

    Args:
        deterministic: whether the same seed gives the same bits on the same machine; a GPU sums in
            an order of its own otherwise.
    """
    tf.config.experimental.enable_tensor_float_32_execution(False)
    if deterministic:
        # TensorFlow would carry the whole table and its accumulator to the host and back in every
        # step, since a scatter on a GPU depends on chance where indices repeat. It reads this at
        # the first scatter. What reads it: ResourceScatter{Update, Add, …}, ScatterNd,
        # ScatterNd{Add, …}, ResourceScatterNd{Update, …}, TensorScatter{Update, Add, …}. A step
        # has the first for rows that tf.unique made different, and ScatterNd for the places that
        # tf.where finds (`ActivationUnit`), as tests/test_scatters.py checks. Sums over repeated
        # rows are segment sums, which stay deterministic.
        os.environ.setdefault("TF_DISABLE_SCATTER_OP_DETERMINISM", "1")
        tf.config.experimental.enable_op_determinism()


def _of_cpu(config: TaskConfig) -> dict[str, Any]:
    """Work in proportion to what there is to do, and on several cores at a time."""
    lengths = [config.seq_len]
    while lengths[0] >= _BUCKET_FACTOR * _SHORTEST_BUCKET:
        lengths.insert(0, lengths[0] // _BUCKET_FACTOR)
    return {"jit_compile": False, "parallel_parts": 2, "length_buckets": tuple(lengths)}


def _of_gpu(config: TaskConfig) -> dict[str, Any]:
    """Few kernels: to start one costs more than to compute with padding."""
    compiles = config.strategy != "parameter_server"  # which keeps weights on other machines
    lengths = (config.seq_len,)
    return {"jit_compile": compiles, "parallel_parts": 1, "length_buckets": lengths}
