"""Measurements in processes of their own, so that one leaves no trace in another."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
from collections.abc import Callable, Sequence

from diffumin_tf.terminal import quiet_stderr


def in_fresh_processes(
    function: Callable,
    arguments: Sequence[tuple],
    at_once: int = 1,
    threads: int | None = None,
    variables: dict[str, str] | None = None,
) -> list:
    """Results of a function of a module, each call in a process of its own.

    Args:
        function: what to call.
        arguments: one tuple a call.
        at_once: how many processes may run at a time.
        threads: threads of TensorFlow there; None leaves it to TensorFlow.
        variables: what to set in their environment before TensorFlow is loaded.
    """
    setup = (threads, variables or {})
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        calls = [pool.submit(_in_fresh_process, function, a, setup) for a in arguments]
        return [call.result() for call in calls]


def load_tensorflow(threads: int | None = None, variables: dict[str, str] | None = None) -> None:
    """Imports TensorFlow without its notices, for a number of threads."""
    os.environ.update(variables or {})
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr():
        import diffumin_tf  # noqa: F401  (first, so that Keras 2 is settled)

        # isort: split
        import tensorflow as tf

        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        tf.constant(0)
    # It takes functions that are made on purpose, each with a graph of its own, for a mistake.
    tf.get_logger().setLevel("ERROR")


def _in_fresh_process(function: Callable, arguments: tuple, setup: tuple) -> object:
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        1, spawn, initializer=load_tensorflow, initargs=setup
    ) as pool:
        return pool.submit(function, *arguments).result()
