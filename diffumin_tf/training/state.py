"""Where a run is: everything a checkpoint holds beside weights and optimisers."""

import dataclasses
import json

import tensorflow as tf

from diffumin_tf.errors import DataError


@dataclasses.dataclass
class TrainingState(tf.train.experimental.PythonState):
    """Position in the data and what early stopping remembers; saved as one string.

    Attributes:
      step: updates done.
      epoch: epoch that is under way, from 0.
      batch: global batches of this epoch that are done with.
      samples: samples the updates were made from; under several workers, as many as if all had
        those of this one.
      best_auc: best validation AUC so far.
      best_step: its step; 0 before the first.
      without_improvement: validations since then.
      validated_step: step of the last validation; -1 before the first.
      stopped: whether early stopping ended the run.
      rollbacks: how often training went back to a checkpoint.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    samples: int = 0
    best_auc: float | None = None
    best_step: int = 0
    without_improvement: int = 0
    validated_step: int = -1
    stopped: bool = False
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

    def advance(self, samples: int) -> None:
        """Counts one update."""
        self.step += 1
        self.batch += 1
        self.samples += samples

    def next_epoch(self) -> None:
        """Moves to the start of the next epoch."""
        self.epoch += 1
        self.batch = 0
