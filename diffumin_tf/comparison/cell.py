"""One cell of a comparison, in a process: `python -m diffumin_tf.comparison.cell DIR JOBS`.

DIR holds `request.json`; the process leaves `cell.json`, and `scores.npz` where a split is
scored for the table. JOBS cells run at a time. Started again, it goes on from where it was. It ends
when its standard input does.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from diffumin_tf import __version__
from diffumin_tf.comparison.cells import REQUEST, RESULT, RUN, SCORES
from diffumin_tf.evaluation.report import metric_lines
from diffumin_tf.files import read_json, write_arrays, write_json
from diffumin_tf.input.splits import has_split
from diffumin_tf.model import RankingModel
from diffumin_tf.run import folder as run_folder
from diffumin_tf.run.lock import run_lock
from diffumin_tf.run.open import Run, create_run
from diffumin_tf.run.train import train_run
from diffumin_tf.terminal import exit_code
from diffumin_tf.training import checkpoints
from diffumin_tf.training.preemption import Preemption

_GRACE_SECONDS = 60.0
_ROOT = pathlib.Path(__file__).parents[2]


def run_cell(path: str, jobs: int = 1, report: Callable[[str], None] = print) -> None:
    """Trains, scores and measures what `request.json` of a folder asks for.

    What training cost is noted when it ends, so that it outlives a process that ends later.

    Raises:
        Preempted: the process was asked to end; the same call goes on.
    """
    request, model_dir = read_json(os.path.join(path, REQUEST)), os.path.join(path, RUN)
    goes_on = os.path.isdir(model_dir)
    with Preemption().watched(), run_lock(model_dir):
        began = time.monotonic()
        run = create_run(request["exp"], model_dir, request["overrides"], report)
        trained = run_folder.finished(model_dir)
        if trained is None:
            trained = {
                **dataclasses.asdict(train_run(run, report)),
                # Where a process went on, what earlier ones took is not known.
                "seconds": None if goes_on else time.monotonic() - began,
                "jobs": jobs,
                **_peak_memory(),
            }
            run_folder.mark_finished(model_dir, trained)
        else:
            checkpoints.restore_weights(model_dir, run.model)
        metrics = _metrics(run, path, request["scored"])
        for line in metric_lines({s: metrics[s] for s in ("valid", "test") if metrics.get(s)}):
            report(line)
        result = {
            **{key: request[key] for key in ("experiment", "seed", "scored")},
            **metrics,
            **trained,
            # None where a process that went on found nothing left to train.
            "training_samples_per_second": trained["samples_per_second"] or None,
            "parameters": _parameters(run.model),
            "machine": _machine(),
            "code": {"version": __version__, "commit": _commit()},
            "settings": run.config.model_dump(mode="json"),
        }
    write_json(os.path.join(path, RESULT), result)


def _metrics(run: Run, path: str, scored: str | None) -> dict[str, Any]:
    """Of the validation split, if there is one, and of the split that is scored for the table."""
    metrics: dict[str, Any] = {"valid": None}
    if scored != "valid" and has_split(run.config, "valid"):
        metrics["valid"] = run.score("valid").metrics()
    if scored is not None:
        scores = run.score(scored)
        began = time.monotonic()
        run.score(scored)  # again: the first pass compiles and fills the file cache
        speed = len(scores.labels) / (time.monotonic() - began)
        columns = {name: column for name, column in vars(scores).items() if column is not None}
        write_arrays(os.path.join(path, SCORES), columns)
        metrics |= {scored: scores.metrics(), "scoring_samples_per_second": speed}
    return metrics


def _parameters(model: RankingModel) -> dict[str, int]:
    """Numbers that are trained: `table` (rows × dim), and `dense`, all others."""
    table = {id(v) for v in model.embedding.trainable_variables}
    rows, dim = model.embedding.rows, model.embedding.dim
    dense = sum(int(np.prod(v.shape)) for v in model.trainable_variables if id(v) not in table)
    return {"dense": dense, "table_rows": rows, "table_dim": dim, "table": rows * dim}


def _peak_memory() -> dict[str, float | None]:
    """Megabytes (10⁶ bytes) of this process at most, in main memory and in that of its GPU."""
    gpu = None
    if tf.config.list_logical_devices("GPU"):
        gpu = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e6
    # The resource module would count in the process that started this one.
    kilobytes = _system_entry("/proc/self/status", "VmHWM")
    process = 1024 * int(kilobytes.split()[0]) / 1e6 if kilobytes else None
    return {"peak_memory_mb": process, "peak_gpu_memory_mb": gpu}


def _machine() -> str:
    """What speeds depend on."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        device = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    else:
        device = _system_entry("/proc/cpuinfo", "model name") or platform.machine()
    return f"{device}, {os.cpu_count()} CPUs, TensorFlow {tf.__version__}"


def _system_entry(path: str, key: str) -> str | None:
    """The value of the first line `key: value` of a file of the system, where there is one."""
    found = None
    with contextlib.suppress(OSError):
        text = pathlib.Path(path).read_text(encoding="utf-8")
        found = re.search(rf"^{key}\s*:\s*(.*)$", text, re.MULTILINE)
    return found and found[1]


def _commit() -> str | None:
    """The git commit that the package runs from, where it lies in a checkout of its own."""
    if not (_ROOT / ".git").exists():  # git would name that of a checkout further up
        return None
    command = "git --no-optional-locks describe --always --dirty --abbrev=40 --exclude=*".split()
    with contextlib.suppress(OSError):
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip() or None
    return None


def end_with_parent(descriptor: int) -> None:
    """Ends this process, which saves where it is, once the other end of a pipe is closed."""

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def main(argv: Sequence[str]) -> int:
    """Runs the cell of the folder `argv[0]`, while `argv[1]` cells share the processor."""
    path, jobs = argv[0], int(argv[1])
    # Not sys.stdin: a waiting thread would hold its lock when Python ends.
    end_with_parent(0)
    if jobs > 1:
        threads = max(1, (os.cpu_count() or 1) // jobs)
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    return exit_code(run_cell)(path, jobs, functools.partial(print, flush=True))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
