"""One cell of a comparison, in a process of its own: `python -m diffumin_tf.comparison.cell DIR`.

DIR holds `request.json`; the process leaves `cell.json`, and `scores.npz` where a split is
scored for the table. Started again, it goes on from where it was.
"""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from diffumin_tf.comparison import measures
from diffumin_tf.comparison.cell_folder import PROCESSES, RESULT, RUN, CellFolder
from diffumin_tf.errors import DiffuminError
from diffumin_tf.evaluation.report import metric_lines
from diffumin_tf.input.splits import has_split
from diffumin_tf.run import folder as run_folder
from diffumin_tf.run.experiment import Experiment
from diffumin_tf.run.lock import run_lock
from diffumin_tf.training import checkpoints
from diffumin_tf.training.preemption import Preemption

JOBS, THREADS = "DIFFUMIN_CELL_JOBS", "DIFFUMIN_CELL_THREADS"
TIED = "--tied"


def run_cell(folder: str, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Trains, scores and measures what `request.json` of a folder asks for.

    Returns:
        What `cell.json` holds.

    Raises:
        Preempted: the process was told to end; the same call goes on.
        DiffuminError: something is wrong.
    """
    cell = CellFolder(folder)
    request = cell.request()
    with Preemption().watched(), run_lock(cell.file(RUN)), _noted(cell) as note:
        experiment = Experiment.create(request["exp"], cell.file(RUN), request["overrides"], report)
        trained = _train(experiment, report)
        note()
        metrics = _metrics(experiment, cell, request["scored"])
        note()
        for line in metric_lines({s: metrics[s] for s in ("valid", "test") if metrics.get(s)}):
            report(line)
        result = {
            **{k: request[k] for k in ("experiment", "seed", "scored")},
            **metrics,
            **trained,
            "parameters": measures.parameters(experiment.model),
            **_spent(cell.processes()),
            "machine": measures.machine(),
            "code": measures.code(),
            "settings": experiment.config.model_dump(mode="json"),
        }
    cell.write(RESULT, result)
    return result


@contextlib.contextmanager
def _noted(cell: CellFolder) -> Iterator[Callable[[], None]]:
    """Keeps what this process takes beside what earlier ones took, and yields what notes it.

    One that is killed before its first note leaves None: what it took is not known.
    """
    began, before = time.monotonic(), cell.processes()
    here = {"jobs": _number(JOBS), "threads": _number(THREADS)}
    unknown = {"seconds": None, "peak_memory_mb": None, "peak_gpu_memory_mb": None}

    def keep(taken: dict[str, Any]) -> None:
        cell.write(PROCESSES, {"processes": [*before, {**here, **taken}]})

    def note() -> None:
        keep({"seconds": time.monotonic() - began, **measures.peak_memory()})

    keep(unknown)
    try:
        yield note
    finally:
        note()


def _number(variable: str) -> int | None:
    text = os.environ.get(variable)
    return int(text) if text else None


def _spent(processes: list[dict[str, Any]]) -> dict[str, Any]:
    """What all processes of a cell took together; None where it is not known of each."""

    def over_all(key: str, total: Callable) -> Any:
        values = [process[key] for process in processes]
        return None if None in values else total(values)

    return {
        "seconds": over_all("seconds", sum),
        "peak_memory_mb": over_all("peak_memory_mb", max),
        "peak_gpu_memory_mb": over_all("peak_gpu_memory_mb", max),
        "processes": processes,
    }


def _train(experiment: Experiment, report: Callable[[str], None]) -> dict[str, Any]:
    """Steps and speed of the training; noted, so that they outlive a process that ends later."""
    done = run_folder.finished(experiment.model_dir)
    if done is None:
        done = dataclasses.asdict(experiment.train(report))
        run_folder.mark_finished(experiment.model_dir, done)
    else:
        checkpoints.restore_weights(experiment.model_dir, experiment.model)
    return {
        "steps": done["steps"],
        "best_step": done["best_step"],
        # None where a process that went on found nothing left to train.
        "training_samples_per_second": done["samples_per_second"] or None,
    }


def _metrics(experiment: Experiment, cell: CellFolder, scored: str | None) -> dict[str, Any]:
    """Of the validation split, if there is one, and of the split that is scored for the table."""
    found: dict[str, Any] = {"valid": None}
    if scored != "valid" and has_split(experiment.config, "valid"):
        found["valid"] = experiment.score("valid").metrics()
    if scored is not None:
        found |= _score(experiment, cell, scored)
    return found


def _score(experiment: Experiment, cell: CellFolder, split: str) -> dict[str, Any]:
    """Metrics, and the speed of a second pass: the first compiles and fills the file cache."""
    scores = experiment.score(split)
    began = time.monotonic()
    experiment.score(split)
    seconds = time.monotonic() - began
    cell.write_scores(scores)
    return {
        split: scores.metrics(),
        "scoring_samples_per_second": len(scores.labels) / seconds,
    }


def end_with_parent(descriptor: int) -> None:
    """Ends this process, which saves where it is, once nobody holds the other end of a pipe."""

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def main(argv: Sequence[str]) -> int:
    """Runs the cell of a folder; exit code 0 when it is finished.

    Args:
        argv: the folder, and perhaps `--tied`: end when standard input does.
    """
    if TIED in argv[1:]:
        # Not sys.stdin: a waiting thread would hold its lock when Python ends.
        end_with_parent(0)
    threads = _number(THREADS)
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    try:
        run_cell(argv[0], lambda line: print(line, flush=True))
    except DiffuminError as error:
        print(f"error: {error}", flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
