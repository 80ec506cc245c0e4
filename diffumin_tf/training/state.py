"""Where a run is: everything a checkpoint holds beside weights and optimisers."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from diffumin_tf.errors import DataError, TrainingError


@dataclasses.dataclass
class TrainingState(tf.train.experimental.PythonState):
    """Position in the data and what early stopping remembers; saved as one string."""

    step: int = 0
    epoch: int = 0  # the one under way, from 0
    batch: int = 0  # global batches of this epoch that are done with
    samples: int = 0  # trained on; of several workers, those of this one times their number
    best_auc: float | None = None
    best_step: int = 0  # 0 before the first validation
    without_improvement: int = 0  # validations since then
    validated_step: int = -1  # -1 before the first validation
    stopped: bool = False  # by early stopping
    rollbacks: int = 0

    def serialize(self) -> str:
        """All attributes as JSON; floats come back bit by bit."""
        return json.dumps(dataclasses.asdict(self))

    def deserialize(self, string_value: bytes | str) -> None:
        """Takes over what `serialize` wrote.

        Raises:
            DataError: the text is something else.
        """
        try:
            content = json.loads(string_value)
            for field in dataclasses.fields(self):
                setattr(self, field.name, content[field.name])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"training state {string_value!r}: {error}") from None

    def advance(self, steps: int, samples: int) -> None:
        """Counts updates, each of one batch."""
        self.step += steps
        self.batch += steps
        self.samples += samples

    def samples_in_epoch(self, batch_size: int, examples: int | None) -> int:
        """How many samples of this epoch are trained on; `examples` are those of an epoch."""
        return self.batch * batch_size

    def next_epoch(self) -> None:
        self.epoch += 1
        self.batch = 0

    def keep_judgement(self, other: "TrainingState") -> None:
        """Takes over the results of validation."""
        for name in ("best_auc", "best_step", "without_improvement", "validated_step", "stopped"):
            setattr(self, name, getattr(other, name))

    def judge(self, step: int, metrics: Mapping[str, Any], patience: int) -> tuple[bool, list[str]]:
        """Notes a validation, and whether it ends the run.

        Args:
            step: updates behind the weights that were validated.
            metrics: `auc`, `logloss` and `calibration`.
            patience: validations without a better AUC that end the run; 0: none do.

        Returns:
            Whether the weights are the best ones so far, and lines to print.

        Raises:
            TrainingError: there is no AUC.
        """
        auc = metrics["auc"]
        if auc is None:
            raise TrainingError("the validation split holds one class only; it has no AUC")
        improved = self.best_auc is None or auc > self.best_auc
        lines = [
            f"step {step}: validation auc {auc:.4f} logloss {metrics['logloss']:.4f} "
            f"calibration {metrics['calibration']:.3f}{' (best so far)' if improved else ''}"
        ]
        self.validated_step = step
        if improved:
            self.best_auc, self.best_step, self.without_improvement = auc, step, 0
            return True, lines
        self.without_improvement += 1
        if patience and self.without_improvement >= patience:
            lines.append(f"stopping early: best was step {self.best_step}")
            self.stopped = True
        return False, lines
