"""What `diffumin compare` does: choose settings, run every cell, sum them up."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import tensorflow as tf

from diffumin_tf.comparison import cells, plots, slices, table
from diffumin_tf.comparison.cells import LOG, RUN, Cell
from diffumin_tf.comparison.study import Study
from diffumin_tf.comparison.summary import summarise
from diffumin_tf.comparison.table import number
from diffumin_tf.errors import ConfigError, DiffuminError
from diffumin_tf.files import write_json, write_text
from diffumin_tf.run.lock import run_lock
from diffumin_tf.terminal import LOG_LEVEL
from diffumin_tf.training.preemption import Preemption

# Runs the cell of a folder, while `jobs` of them run at a time, and returns its exit code. The
# process ends, and saves where it is, once the other end of the pipe `tie` is closed.
RunCell = Callable[[str, int, int], int]


class CellsFailed(DiffuminError):
    """Some runs of a comparison did not come to their end; all others did."""


def leave_gpu_to_runs(report: Callable[[str], None] = print) -> None:
    """Keeps this process from taking the GPU, whose memory its runs need."""
    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:
        report("this process has taken the GPU already; its runs may find too little of its memory")


def compare(
    study: Study,
    output: str,
    jobs: int = 1,
    keep_runs: bool = False,
    command: str = "diffumin compare",
    report: Callable[[str], None] = print,
    run_cell: RunCell | None = None,
) -> dict[str, Any]:
    """Runs what a study asks for and is not finished yet, and writes its tables.

    Args:
        output: local folder for `cells/`, `comparison.json` and `comparison.md`.
        jobs: cells that run at a time.
        keep_runs: whether checkpoints and weights of a finished cell stay.
        command: how a person asked for this, for the table.

    Returns:
        What `comparison.json` holds.

    Raises:
        ConfigError, DataError: something is wrong with the study; nothing was started.
        CellsFailed: a cell failed; the others are in the tables.
        Preempted, KeyboardInterrupt: asked to end; the same call goes on.
    """
    leave_gpu_to_runs(report)
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}: give 1 or more")
    config, schema = cells.check(study)
    column = slices.popularity_column(config, schema, study.popularity_feature)
    with Preemption().watched(), run_lock(output, "--output"):
        runs = _Runs(jobs, keep_runs, report, run_cell or _run_in_process)
        choosing = cells.choosing_cells(study, output)
        runs.run(choosing)
        chosen, tried = cells.choose(study, choosing)
        for cell in choosing:
            if cell.is_finished and cell.valid_auc is None:
                why = "no validation AUC: the labels of that split are all alike"
                runs.failed[cell.slug] = why
        final = cells.final_cells(study, output, chosen)
        runs.run(final, trained_before=choosing)
        runs.clear(choosing)
        report(f"counting histories, and sightings of {column} …")
        facts = slices.read_facts(config, schema, study.split, column, report)
        report("resampling …")
        comparison = {
            "command": command,
            "popularity_feature": column,
            "failed": runs.failed,
            **summarise(study, final, chosen, tried, facts),
            "study": study.model_dump(mode="json"),
        }
        write_json(os.path.join(output, "comparison.json"), comparison)
        pictures = plots.draw(comparison, output, report)
        path = os.path.join(output, "comparison.md")
        write_text(path, table.markdown(comparison, pictures))
        report(f"wrote {path}")
    if runs.failed:
        why = "\n".join(f"  {slug}: {why}" for slug, why in runs.failed.items())
        raise CellsFailed(f"{len(runs.failed)} runs failed:\n{why}")
    return comparison


class _Runs:
    """Runs cells; `failed` says by slug why one failed, or where to read why."""

    def __init__(
        self, jobs: int, keep_runs: bool, report: Callable[[str], None], run_cell: RunCell
    ) -> None:
        self.failed: dict[str, str] = {}
        self._jobs = jobs
        self._keep_runs = keep_runs
        self._report = report
        self._run_cell = run_cell

    def run(self, wanted: Sequence[Cell], trained_before: Sequence[Cell] = ()) -> None:
        """Runs those that are not finished; what was trained before is not trained again."""
        for cell in wanted:
            cell.prepare(self._report)
            for other in trained_before:
                same = (other.experiment, other.choice, other.seed)
                if same == (cell.experiment, cell.choice, cell.seed):
                    cell.take_run_of(other)
        left = [cell for cell in wanted if not cell.is_finished]
        if len(left) < len(wanted):
            self._report(f"{len(wanted) - len(left)} of {len(wanted)} runs were finished before")
        tie, end = os.pipe()
        try:
            with ThreadPoolExecutor(self._jobs) as pool:
                futures = {pool.submit(self._start, cell, tie): cell for cell in left}
                try:
                    for index, future in enumerate(as_completed(futures), start=1):
                        count = f"[{index}/{len(left)}]"
                        self._ended(futures[future], future.result(), count)
                finally:  # after an interruption, nothing starts and what runs ends
                    pool.shutdown(wait=False, cancel_futures=True)
                    os.close(end)
        finally:
            os.close(tie)

    def clear(self, finished: Sequence[Cell]) -> None:
        """Removes checkpoints, weights and logs of finished cells, unless they are to be kept."""
        for cell in finished:
            if not self._keep_runs and cell.is_finished:
                shutil.rmtree(cell.file(RUN), ignore_errors=True)

    def _start(self, cell: Cell, tie: int) -> int:
        self._report(f"running {cell.slug}")
        return self._run_cell(cell.path, self._jobs, tie)

    def _ended(self, cell: Cell, code: int, count: str) -> None:
        if code or not cell.is_finished:
            self.failed[cell.slug] = f"see {cell.file(LOG)}"
            why = f"failed with exit code {code}; see {cell.file(LOG)}"
            self._report(f"{count} {cell.slug}: {why}")
            return
        auc, seconds = cell.result[cell.split]["auc"], cell.result["seconds"]
        figures = f"{cell.split} auc {number(auc)}, {number(seconds and seconds / 60, 1)} minutes"
        self._report(f"{count} {cell.slug}: {figures}")
        if cell.is_final:  # the run of another one may become that of a final cell
            self.clear([cell])


def _run_in_process(path: str, jobs: int, tie: int) -> int:
    environment = {LOG_LEVEL: "3", **os.environ}
    if jobs > 1:  # the first one would take all memory of a GPU otherwise
        environment.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    with open(os.path.join(path, LOG), "a", encoding="utf-8") as log:
        done = subprocess.run(
            [sys.executable, "-m", "diffumin_tf.comparison.cell", path, str(jobs)],
            env=environment,
            stdin=tie,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the others
            check=False,
        )
    return done.returncode
