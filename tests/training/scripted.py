"""A model without arithmetic and a trainer of it, to test the loop around a step."""

import tensorflow as tf

from diffumin_tf.config.task import TaskConfig
from diffumin_tf.input.batch import Batch
from diffumin_tf.training import checkpoints, strategy
from diffumin_tf.training.loop import Schedule, TrainingLoop
from diffumin_tf.training.preemption import Preemption
from diffumin_tf.training.state import TrainingState
from diffumin_tf.training.summaries import Summaries
from diffumin_tf.training.synchronous import SynchronousEngine
from diffumin_tf.training.validation import WaitingValidation

BATCHES, SIZE = 4, 8


class Counting(tf.Module):
    """A model whose weight is the number of its updates, as long as its input is finite."""

    def __init__(self):
        super().__init__()
        self.weight = tf.Variable(0.0, name="weight")
        self.seen = tf.Variable(0.0, name="seen")
        self.optimizer = tf.keras.optimizers.Adam()
        self.table_optimizer = tf.keras.optimizers.Adagrad()
        self.metrics = [tf.keras.metrics.Mean(name="auc")]
        self.resets = 0

    def update(self, batch):
        loss = tf.debugging.check_numerics(tf.reduce_mean(batch.dense), "training loss")
        with tf.control_dependencies([loss]):
            self.weight.assign_add(1.0)
            self.seen.assign_add(loss)
        self.metrics[0].update_state(loss / 2.0)
        return {"loss": loss}

    def reset_metrics(self):
        self.metrics[0].reset_states()
        self.resets += 1


class Values:
    """Epochs of batches that hold one number each; an exception among them is raised."""

    spec = Batch((), (), tf.TensorSpec([None]), label=tf.TensorSpec([None]))

    def __init__(self):
        self.values, self.asked = (), []

    def epoch(self, number, skip):
        self.asked.append((number, skip))
        for value in self.values[skip:]:
            if callable(value):
                value = value()
            yield Batch((), (), tf.fill([SIZE], value), label=tf.zeros([SIZE]))


class Scripted:
    """A training loop around an engine, in a folder where an earlier one may have been.

    Args:
        folder: of the run.
        model: what is saved.
        state: where training is.
        changes: to the configuration.
    """

    def __init__(self, folder, model, state, **changes):
        self.folder, self.lines, self.model, self.state = str(folder), [], model, state
        self.config, self.preemption = TaskConfig(input_units=["x:Y"], **changes), Preemption()
        keep = self.config.keep_checkpoint_max
        self.checkpoints = checkpoints.Checkpoints(self.folder, model, state, keep)
        self.restored = self.checkpoints.restore(self.lines.append)

    def loop_of(self, engine, validation):
        return TrainingLoop(
            engine,
            Schedule.of(self.config),
            self.state,
            self.checkpoints,
            Summaries(f"{self.folder}/logs"),
            validation,
            strategy.one_device(),
            self.preemption,
            self.lines.append,
        )

    def saved_steps(self, name=checkpoints.LATEST):
        paths = checkpoints.complete(f"{self.folder}/{name}")
        return [int(path.rpartition("-")[2]) for path in paths]

    def best_weight(self):
        """The number of updates of the best weights."""
        other = Counting()
        checkpoints.restore_weights(self.folder, other)
        return int(other.weight)


class Training(Scripted):
    """Synchronous training of that model; `aucs` are what its validations find, one by one."""

    def __init__(self, folder, aucs=None, **changes):
        super().__init__(folder, Counting(), TrainingState(), **changes)
        self.asked, self.aucs, self.data = [], iter(aucs or ()), Values()
        self.engine = SynchronousEngine(self.model, self.data, self.state, strategy.one_device())
        validation = WaitingValidation(self.validate, self.checkpoints) if aucs else None
        self.loop = self.loop_of(self.engine, validation)

    def validate(self):
        self.asked.append(int(self.model.weight))
        auc = next(self.aucs)
        if callable(auc):
            auc = auc()
        return {"auc": auc, "logloss": 0.5, "calibration": 1.0, "gauc": None}

    def fit(self, values=(1.0,) * BATCHES, examples=BATCHES * SIZE):
        self.data.values = values
        return self.loop.fit(examples)
