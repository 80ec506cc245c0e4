"""What `diffumin compare` does: choose settings, run every cell, sum them up."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from diffumin_tf.comparison import cells, plots, sample_facts, table
from diffumin_tf.comparison.cell_folder import LOG, RUN, CellFolder
from diffumin_tf.comparison.cells import Cell
from diffumin_tf.comparison.markdown import number
from diffumin_tf.comparison.processes import Start, run_all, start_cell
from diffumin_tf.comparison.study import Study
from diffumin_tf.comparison.summary import summarise
from diffumin_tf.errors import ConfigError, DiffuminError
from diffumin_tf.files import write_text
from diffumin_tf.run.lock import run_lock
from diffumin_tf.training.preemption import Preemption

CELLS, JSON, MARKDOWN = "cells", "comparison.json", "comparison.md"


class CellsFailed(DiffuminError):
    """Some runs of a comparison did not come to their end; all others did."""


def leave_gpu_to_runs(report: Callable[[str], None] = print) -> None:
    """Keeps this process from taking the GPU, whose memory its runs need.

    Args:
        report: takes a line where it comes too late.
    """
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
    start: Start = start_cell,
) -> dict[str, Any]:
    """Runs what a study asks for and is not there yet, and writes its tables.

    Args:
        study: what to compare.
        output: local folder for `cells/`, `comparison.json` and `comparison.md`.
        jobs: cells that run at a time.
        keep_runs: whether checkpoints, weights and logs of a finished cell stay.
        command: how a person asked for this, for the table.
        report: takes a line of progress.
        start: starts the process of a cell.

    Returns:
        What `comparison.json` holds.

    Raises:
        ConfigError, DataError: something is wrong with the study; nothing was started.
        CellsFailed: a cell failed; the others are in the tables.
        Preempted, KeyboardInterrupt: told to end; the same call goes on.
    """
    leave_gpu_to_runs(report)
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}: give 1 or more")
    config, schema = cells.check(study)[study.baseline]
    column = sample_facts.popularity_column(config, schema, study.popularity_feature)
    with Preemption().watched(), run_lock(output, "--output"):
        runs = _Runs(output, jobs, keep_runs, report, start)
        choosing = cells.choosing_cells(study)
        runs.run(choosing)
        runs.fail_without_auc(choosing)
        chosen, tried = cells.choose(study, runs.valid_auc)
        final = cells.final_cells(study, chosen)
        runs.run(final, trained_before=choosing)
        runs.clear(choosing)
        facts = sample_facts.read_facts(config, schema, study.split, column, output, report)
        report("resampling …")
        comparison = {
            "command": command,
            "popularity_feature": column,
            "failed": runs.failed,
            **summarise(study, runs.finished(final), chosen, tried, facts),
            "study": study.model_dump(mode="json"),
        }
        _write(output, comparison, report)
    if runs.failed:
        told = "\n".join(f"  {slug}: {why}" for slug, why in runs.failed.items())
        raise CellsFailed(f"{len(runs.failed)} runs failed:\n{told}")
    return comparison


def _write(output: str, comparison: dict[str, Any], report: Callable[[str], None]) -> None:
    text = json.dumps(comparison, indent=2, ensure_ascii=False)
    write_text(os.path.join(output, JSON), text + "\n")
    pictures = plots.draw(comparison, output, report)
    path = os.path.join(output, MARKDOWN)
    write_text(path, table.markdown(comparison, pictures))
    report(f"wrote {path}")


class _Runs:
    """Runs cells, and knows what became of them.

    Attributes:
        failed: by slug, why, or where to read why; also those that came to their end without a
            validation AUC to choose by.
    """

    def __init__(
        self,
        output: str,
        jobs: int,
        keep_runs: bool,
        report: Callable[[str], None],
        start: Start,
    ) -> None:
        self.failed: dict[str, str] = {}
        self._output = output
        self._jobs = jobs
        self._keep_runs = keep_runs
        self._report = report
        self._start = start

    def run(self, wanted: Sequence[Cell], trained_before: Sequence[Cell] = ()) -> None:
        """Runs those that are not finished; what was trained before is not trained again."""
        trained = {(c.experiment, str(c.choice), c.seed): c for c in trained_before}
        for cell in wanted:
            folder = self._folder(cell)
            folder.prepare(cell, self._report)
            if same := trained.get((cell.experiment, str(cell.choice), cell.seed)):
                folder.take_run_of(self._folder(same))
        left = [cell for cell in wanted if not self._folder(cell).is_finished]
        if len(left) < len(wanted):
            self._report(f"{len(wanted) - len(left)} of {len(wanted)} runs were finished before")
        self._left, self._count = len(left), len(left)
        by_folder = {self._folder(cell).path: cell for cell in left}
        run_all(
            list(by_folder),
            self._jobs,
            lambda folder, code: self._ended(by_folder[folder], code),
            self._starting,
        )

    def finished(self, wanted: Sequence[Cell]) -> dict[str, dict[int, CellFolder]]:
        """Folders of those that came to their end, by experiment and seed."""
        found: dict[str, dict[int, CellFolder]] = {}
        for cell in wanted:
            if self._folder(cell).is_finished:
                found.setdefault(cell.experiment, {})[cell.seed] = self._folder(cell)
        return found

    def valid_auc(self, cell: Cell) -> float | None:
        """Validation AUC of a cell; None when it failed, or the labels are all alike."""
        folder = self._folder(cell)
        return folder.result()["valid"]["auc"] if folder.is_finished else None

    def fail_without_auc(self, cells: Sequence[Cell]) -> None:
        """Counts finished cells as failed by which nothing can be chosen."""
        for cell in cells:
            if self._folder(cell).is_finished and self.valid_auc(cell) is None:
                self.failed[cell.slug] = "no validation AUC: the labels of that split are all alike"

    def clear(self, cells: Sequence[Cell]) -> None:
        """Removes checkpoints, weights and logs of finished cells, unless they are to be kept."""
        for cell in cells:
            if not self._keep_runs and self._folder(cell).is_finished:
                shutil.rmtree(self._folder(cell).file(RUN), ignore_errors=True)

    def _folder(self, cell: Cell) -> CellFolder:
        return CellFolder(os.path.join(self._output, CELLS, cell.slug))

    def _starting(self, folder: str, jobs: int) -> Any:
        self._report(f"running {os.path.basename(folder)}")
        return self._start(folder, jobs)

    def _ended(self, cell: Cell, code: int) -> None:
        folder = self._folder(cell)
        self._left -= 1
        done = f"[{self._count - self._left}/{self._count}] {cell.slug}:"
        if code or not folder.is_finished:
            self.failed[cell.slug] = f"see {folder.file(LOG)}"
            self._report(f"{done} failed with exit code {code}; see {folder.file(LOG)}")
            return
        result = folder.result()
        area, minutes = number(result[cell.split]["auc"], 4), number(result["seconds"], 1, per=60)
        self._report(f"{done} {cell.split} auc {area}, {minutes} minutes")
        if cell.is_final:  # what others may be made of stays for now
            self.clear([cell])
