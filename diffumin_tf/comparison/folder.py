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


@dataclasses.dataclass(frozen=True)
class CellFolder:
    """The folder of one cell, by its path."""

    path: str

    def file(self, name: str) -> str:
        """Path of something in it."""
        return os.path.join(self.path, name)

    @property
    def is_finished(self) -> bool:
        """Whether the cell came to its end."""
        return os.path.exists(self.file(RESULT))

    @property
    def request(self) -> dict[str, Any]:
        """What was asked for."""
        return read_json(self.file(REQUEST))

    @property
    def result(self) -> dict[str, Any]:
        """What came of it."""
        return read_json(self.file(RESULT))

    @property
    def scores(self) -> Scores:
        """Labels, predictions and users of the scored split."""
        with np.load(self.file(SCORES)) as arrays:
            return Scores(**arrays)

    def write_scores(self, scores: Scores) -> None:
        """Keeps scores; users are absent where they are unknown."""
        columns = {k: v for k, v in vars(scores).items() if v is not None}
        write_arrays(self.file(SCORES), columns)

    def prepare(self, cell: Cell, report: Callable[[str], None]) -> None:
        """Readies the folder for a cell; what a cell with other settings left is put aside."""
        settings = cell.config().model_dump(mode="json")
        differing = self._differing(settings)
        if differing:
            # Hours of work are not lost by a slip.
            names = (f"{self.path}.before-{number}" for number in itertools.count(1))
            aside = next(name for name in names if not os.path.exists(name))
            os.rename(self.path, aside)
            report(
                f"{self.path}: holds a run with other settings ({differing}); kept as "
                f"{os.path.basename(aside)}, run anew"
            )
        os.makedirs(self.path, exist_ok=True)
        request = {
            "experiment": cell.experiment,
            "exp": cell.exp,
            "overrides": cell.overrides,
            "seed": cell.seed,
            "scored": cell.split if cell.is_final else None,
            "settings": settings,
        }
        write_json(self.file(REQUEST), request)

    def take_run_of(self, other: "CellFolder") -> None:
        """Copies what a cell trained whose settings differ in the test split alone.

        Nothing is copied if this cell has begun, or the other one has no finished run.
        """
        if self.is_finished or os.path.exists(self.file(RUN)):
            return
        if not (other.is_finished and run_folder.finished(other.file(RUN))):
            return
        incomplete = self.file(f"{RUN}.incomplete")
        shutil.rmtree(incomplete, ignore_errors=True)
        shutil.copytree(other.file(RUN), incomplete)
        settings = validate(TaskConfig, self.request["settings"], self.file(REQUEST))
        run_folder.write_config(incomplete, settings)
        os.rename(incomplete, self.file(RUN))

    def _differing(self, settings: dict[str, Any]) -> str:
        """In which settings the cell that is in the folder differs, in words."""
        if not os.path.exists(self.file(REQUEST)):
            return ""
        before = self.request["settings"]
        try:  # a key that is new since then had its default
            before = validate(TaskConfig, before, self.file(REQUEST)).model_dump(mode="json")
        except ConfigError:
            pass
        return ", ".join(
            f"{key} {before.get(key)!r}, now {settings.get(key)!r}"
            for key in sorted(before.keys() | settings.keys())
            # Where results go changes nothing of what is learned.
            if key != "model_path" and before.get(key) != settings.get(key)
        )
