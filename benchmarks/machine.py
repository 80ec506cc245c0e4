"""What the machine is, and what it can do at best."""

import os
import pathlib
import platform
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from benchmarks.measuring import seconds_of
from benchmarks.samples import draw_rows

_SECONDS = 1.0
_STREAM_FLOATS = 64 * 2**20  # 256 MB an array, more than a cache holds
# Results that fit a cache, as those of an ideal step do.
_GATHERS, _ROWS_AT_ONCE = 16, 2**16
_WIDE = 1024
_NARROW = (1024, 24, 72)
_NARROW_AT_ONCE = 32


class Rates(NamedTuple):
    """What the machine can do in a second.

    Attributes:
        streamed: bytes read or written in order.
        gathered: bytes of rows of 32 bytes, looked up in a table as ids hit it.
        wide: multiply-adds of float32 matrix products of 1024 × 1024.
        narrow: multiply-adds of float32 matrix products as narrow as a behaviour.
    """

    streamed: float
    gathered: float
    wide: float
    narrow: float


def describe() -> dict[str, object]:
    """Processor, devices and versions."""
    return {
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "devices": [
            tf.config.experimental.get_device_details(device).get("device_name", device.name)
            for device in tf.config.list_physical_devices()
        ],
        "system": platform.system(),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
    }


def rates(rows: int) -> Rates:
    """The best of several tries, with the threads that TensorFlow uses.

    Args:
        rows: rows of the embedding table.
    """
    return Rates(_streamed(), _gathered(rows), _wide(), _narrow())


def _streamed() -> float:
    total, more = tf.Variable(tf.ones([_STREAM_FLOATS])), tf.ones([_STREAM_FLOATS])
    best = _best(lambda: total.assign_add(more))
    return 3 * 4 * _STREAM_FLOATS / best  # two read, one written


def _gathered(rows: int) -> float:
    rng, table = np.random.default_rng(0), tf.Variable(tf.random.normal([rows, 8]))
    many = [tf.constant(draw_rows(rng, rows, (_ROWS_AT_ONCE,))) for _ in range(_GATHERS)]
    # Of each result one row, so that none is copied; a step needs them all but need not keep them.
    best = _best(lambda: [tf.gather(table, some)[0] for some in many])
    return 32 * _GATHERS * _ROWS_AT_ONCE / best


def _wide() -> float:
    matrix = tf.random.normal([_WIDE, _WIDE])
    return _WIDE**3 / _best(lambda: tf.matmul(matrix, matrix))


def _narrow() -> float:
    count, width, outputs = _NARROW
    tokens = tf.random.normal([count, width])
    kernels = [tf.random.normal([width, outputs]) for _ in range(_NARROW_AT_ONCE)]
    best = _best(lambda: [tf.matmul(tokens, kernel) for kernel in kernels])
    return _NARROW_AT_ONCE * count * width * outputs / best


def _best(function: Callable) -> float:
    """Seconds of the fastest of the calls that fit into a second or so."""
    compiled = tf.function(function)

    def run() -> None:
        compiled()
        tf.test.experimental.sync_devices()

    run()
    taken = []
    while sum(taken) < _SECONDS:
        taken.append(seconds_of(run))
    return min(taken)


def _processor() -> str:
    information = pathlib.Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
