"""One cell of a comparison, in a process of its own: ``python -m diffumin_tf.comparison.cell DIR``.

DIR holds ``request.json``; the process leaves ``cell.json``, and ``scores.npz`` where the test
split is scored. Started again, it goes on from where it was.
"""

import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from diffumin_tf import run_folder
from diffumin_tf.comparison import measures
from diffumin_tf.comparison.cell_folder import RESULT, RUN, CellFolder
from diffumin_tf.errors import DiffuminError
from diffumin_tf.evaluation.report import metric_lines
from diffumin_tf.experiment import Experiment
from diffumin_tf.splits import has_split
from diffumin_tf.training import checkpoints
from diffumin_tf.training.preemption import Preemption
from diffumin_tf.training.run_lock import run_lock

THREADS = "DIFFUMIN_CELL_THREADS"
TIED = "--tied"


def run_cell(folder: str, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Trains, scores and measures what ``request.json`` of a folder asks for.

    Returns:
      What ``cell.json`` holds.

    Raises:
      Preempted: the process was told to end; the same call goes on.
      DiffuminError: something is wrong.
    """
    cell, began = CellFolder(folder), time.monotonic()
    request = cell.request()
    with Preemption().watched(), run_lock(cell.file(RUN)):
        experiment = Experiment.create(request["exp"], cell.file(RUN), request["overrides"], report)
        trained = _train(experiment, report)
        metrics = _valid(experiment)
        if request["scores_test"]:
            metrics |= _test(experiment, cell)
        for line in metric_lines({s: metrics[s] for s in ("valid", "test") if metrics.get(s)}):
            report(line)
        result = {
            **{k: request[k] for k in ("experiment", "seed", "scores_test")},
            **metrics,
            **trained,
            "parameters": measures.parameters(experiment.model),
            **measures.peak_memory(),
            "seconds": time.monotonic() - began,
            "machine": measures.machine(),
            "code": measures.code(),
            "settings": experiment.config.model_dump(mode="json"),
        }
    cell.write(RESULT, result)
    return result


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


def _valid(experiment: Experiment) -> dict[str, Any]:
    if not has_split(experiment.config, "valid"):
        return {"valid": None}
    return {"valid": experiment.score("valid").metrics()}


def _test(experiment: Experiment, cell: CellFolder) -> dict[str, Any]:
    """Metrics, and the speed of a second pass: the first compiles and fills the file cache."""
    scores = experiment.score("test")
    began = time.monotonic()
    experiment.score("test")
    seconds = time.monotonic() - began
    cell.write_scores(scores)
    return {
        "test": scores.metrics(),
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
      argv: the folder, and perhaps ``--tied``: end when standard input does.
    """
    if TIED in argv[1:]:
        # Not sys.stdin: a waiting thread would hold its lock when Python ends.
        end_with_parent(0)
    threads = int(os.environ.get(THREADS, 0))
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
