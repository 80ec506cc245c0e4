"""What lies in the folder of a cell: what was asked for, what came of it, and whether to go on."""

import dataclasses
import itertools
import os
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from diffumin_tf.comparison.cells import Cell
from diffumin_tf.config.strict import validate
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError
from diffumin_tf.evaluation.scoring import Scores
from diffumin_tf.files import read_json, write_arrays, write_json
from diffumin_tf.run import folder as run_folder

REQUEST, RESULT, SCORES, LOG, RUN = "request.json", "cell.json", "scores.npz", "log.txt", "run"
PROCESSES = "processes.json"

# Where results go is no matter of what is learned.
_ANYWHERE = "model_path"


@dataclasses.dataclass(frozen=True)
class CellFolder:
    """The folder of one cell.

    Attributes:
        path: where it is.
    """

    path: str

    def file(self, name: str) -> str:
        """Path of something in it."""
        return os.path.join(self.path, name)

    @property
    def is_finished(self) -> bool:
        """Whether the cell came to its end."""
        return os.path.exists(self.file(RESULT))

    def request(self) -> dict[str, Any]:
        """What was asked for."""
        return read_json(self.file(REQUEST))

    def result(self) -> dict[str, Any]:
        """What came of it."""
        return read_json(self.file(RESULT))

    def prepare(self, cell: Cell, report: Callable[[str], None]) -> None:
        """Readies the folder for a cell; what a cell with other settings left is put aside.

        Raises:
            ConfigError: the cell's configuration is wrong.
        """
        wanted = cell.config().model_dump(mode="json")
        if os.path.isdir(self.path):
            differing = self._differing(wanted)
            if differing:
                kept = self._put_aside()
                report(
                    f"{self.path}: holds a run with other settings ({differing}); kept as {kept}, "
                    "run anew"
                )
        os.makedirs(self.path, exist_ok=True)
        request = {
            "experiment": cell.experiment,
            "exp": cell.exp,
            "overrides": list(cell.overrides),
            "seed": cell.seed,
            "scored": cell.split if cell.is_final else None,
            "settings": wanted,
        }
        self.write(REQUEST, request)

    def take_run_of(self, other: "CellFolder") -> None:
        """Copies what another cell trained, unless this one has begun.

        Args:
            other: a cell whose settings differ in the test split alone. What it took counts for
                this one too.
        """
        if self.is_finished or os.path.exists(self.file(RUN)):
            return
        if not (other.is_finished and run_folder.finished(other.file(RUN))):
            return
        incomplete = self.file(f"{RUN}.incomplete")
        shutil.rmtree(incomplete, ignore_errors=True)
        shutil.copytree(other.file(RUN), incomplete)
        settings = validate(TaskConfig, self.request()["settings"], self.file(REQUEST))
        run_folder.write_config(incomplete, settings)
        self.write(PROCESSES, {"processes": other.processes()})
        os.rename(incomplete, self.file(RUN))

    def processes(self) -> list[dict[str, Any]]:
        """What each process that worked on it noted of itself, the first one first."""
        path = self.file(PROCESSES)
        return read_json(path)["processes"] if os.path.exists(path) else []

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Writes a JSON file; it appears whole or not at all."""
        write_json(self.file(name), content)

    def write_scores(self, scores: Scores) -> None:
        """Keeps labels, predictions and users (absent where unknown) of a split."""
        columns = {"labels": scores.labels, "pctr": scores.pctr}
        if scores.users is not None:
            columns["users"] = scores.users
        write_arrays(self.file(SCORES), columns)

    def scores(self) -> Scores:
        """What `write_scores` kept."""
        with np.load(self.file(SCORES)) as arrays:
            return Scores(
                arrays["labels"], arrays["pctr"], arrays["users"] if "users" in arrays else None
            )

    def _put_aside(self) -> str:
        """Renames the folder, so that hours of work are not lost by a slip; returns the name."""
        names = (f"{self.path}.before-{number}" for number in itertools.count(1))
        free = next(name for name in names if not os.path.exists(name))
        os.rename(self.path, free)
        return os.path.basename(free)

    def _differing(self, wanted: dict[str, Any]) -> str:
        """In which settings the cell that is here differs, in words; empty when in none."""
        if not os.path.exists(self.file(REQUEST)):
            return ""
        before = self.request()["settings"]
        try:  # a key that came into being since then had its default
            before = validate(TaskConfig, before, self.file(REQUEST)).model_dump(mode="json")
        except ConfigError:
            pass
        keys = sorted(before.keys() | wanted.keys())
        return ", ".join(
            f"{key} {before.get(key)!r}, now {wanted.get(key)!r}"
            for key in keys
            if key != _ANYWHERE and before.get(key) != wanted.get(key)
        )
