"""The chief's loop with scripted workers."""

import contextlib
import math
import threading

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.errors import DataError, Preempted, TrainingError
from diffumin_tf.input.batch import Batch
from diffumin_tf.training import loop as loop_module
from diffumin_tf.training.asynchronous import engine as engine_module
from diffumin_tf.training.asynchronous.engine import AsynchronousEngine
from diffumin_tf.training.asynchronous.piece_work import AsynchronousState, Counts
from diffumin_tf.training.validation import BackgroundValidation
from tests.training.events import scalars
from tests.training.forks import wait_until
from tests.training.scripted import Counting, Scripted

PIECES, STEPS, SIZE = 4, 10, 8  # pieces of data, updates by one of them, samples of an update
EPOCH = PIECES * STEPS


class Ranked(Counting):
    """Counts its updates; the AUC that it reaches on `batches` is scripted, in tenths."""

    def __init__(self, tenths):
        super().__init__()
        self.tenths = tf.constant(tenths, tf.float32)

    def predict_click(self, batch):
        reached = tf.gather(self.tenths, tf.cast(self.weight, tf.int32) // STEPS)
        return {"pctr": tf.where(batch.dense < 0, reached / 10.0, batch.dense)}


class Work:
    """Workers that are through with one piece whenever the chief looks."""

    def __init__(self, model, on_piece=lambda steps: None):
        self.model, self.on_piece = model, on_piece
        self.begun, self.steps, self.left, self.ended = [], 0, [], set()
        self.is_stopped = False

    def start(self, epoch, done):
        self.begun.append((epoch, list(done)))
        self.left = [piece for piece in range(PIECES) if piece not in done]
        self.ended = set(done)

    def finished(self):
        if not self.left:
            return True
        self.ended.add(self.left.pop(0))
        self.steps += STEPS
        self.model.weight.assign_add(STEPS)
        self.on_piece(self.steps)
        return False

    def stop(self):
        self.left, self.is_stopped = [], True

    def counts(self):
        return Counts(
            self.steps, self.steps * SIZE, self.steps * SIZE * 0.5, np.array([self.steps])
        )

    def done(self):
        return sorted(self.ended)

    def raise_if_damaged(self, error):
        if "damaged" in str(error):
            raise DataError("part-00000: torn")


class Attendance:
    """Everybody is there, or a server is for so many checks."""

    checks_left = math.inf

    def look(self):
        pass

    def check_servers(self):
        self.checks_left -= 1
        if self.checks_left < 0:
            raise TrainingError("ps 1 is gone")


class Run(Scripted):
    """A chief with scripted workers in a folder; `tenths` script the AUC after each piece."""

    def __init__(self, folder, tenths=None, on_piece=lambda steps: None, **changes):
        super().__init__(folder, Counting(), AsynchronousState(), **changes)
        self.plain, self.scored = Ranked(tenths or [0]), []
        self.gate = threading.Event()
        self.gate.set()
        self.attendance, self.work = Attendance(), Work(self.model, on_piece)
        self.engine = AsynchronousEngine(self.model, self.state, self.work, self.attendance)
        self.validation = tenths and BackgroundValidation(self.folder, self.plain, self.batches)
        self.loop = self.loop_of(self.engine, self.validation)

    def batches(self):
        self.scored.append(int(self.plain.weight))
        assert self.gate.wait(10)
        # One click, and ten samples without, as many of which score less as the model knows.
        values = tf.constant([-1.0, *np.arange(0.05, 1.0, 0.1)])
        yield Batch((), (), values, label=tf.one_hot(0, 11))

    def fit(self):
        with self.engine.explained(), self.validation or contextlib.nullcontext():
            return self.loop.fit(EPOCH * SIZE)

    def saved(self):
        """Step and place in the data of the last checkpoint."""
        return Run(self.folder).state


@pytest.fixture(autouse=True)
def busy_chief(monkeypatch):
    monkeypatch.setattr(engine_module, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(loop_module, "_POLL_SECONDS", 0.001)


def wait_for_validation(run, count):
    """Lets the scripted workers wait until so many validations have begun and ended."""
    wait_until(lambda: len(run.scored) >= count and run.loop._validating[1].done(), 5, "validation")


def test_every_piece_is_done_in_every_epoch(tmp_path):
    run = Run(tmp_path, epoch=3)
    result = run.fit()
    assert run.work.begun == [(0, []), (1, []), (2, [])]
    assert (result.steps, result.best_step, result.best_auc) == (3 * EPOCH, 3 * EPOCH, None)
    assert run.best_weight() == 3 * EPOCH
    assert run.state.samples == 3 * EPOCH * SIZE


def test_workers_go_on_while_a_checkpoint_is_validated(tmp_path):
    seen = {}

    def on_piece(steps):
        if steps == 2 * EPOCH:
            seen["scored"] = list(run.scored)
            run.gate.set()

    run = Run(tmp_path, [5] * 12 + [7], on_piece, epoch=3, evaluate_every_steps=STEPS)
    run.gate.clear()
    result = run.fit()
    # One validation was under way all the time; those due meanwhile became one of the newest.
    assert len(seen["scored"]) == 1
    assert len(run.scored) < 12 and run.scored[-1] == 3 * EPOCH
    assert (result.best_step, result.best_auc) == (3 * EPOCH, pytest.approx(0.7))
    assert run.best_weight() == 3 * EPOCH
    valid = scalars(f"{run.folder}/logs")["valid/auc"]
    assert sorted(valid) == run.scored


def test_the_best_weights_are_those_that_were_validated(tmp_path):
    run = Run(tmp_path, [0] * 4 + [9, 0, 0, 0, 4], epoch=2)
    run.work.on_piece = lambda steps: steps == 2 * EPOCH and wait_for_validation(run, 1)
    result = run.fit()
    assert run.scored == [EPOCH, 2 * EPOCH]
    assert (result.best_step, result.best_auc) == (EPOCH, pytest.approx(0.9))
    assert run.best_weight() == EPOCH


def test_early_stopping_ends_the_steps_under_way(tmp_path):
    run = Run(tmp_path, [8] * 5 + [6] * 20, epoch=25, early_stopping_patience=1)

    def on_piece(steps):
        if steps == 2 * EPOCH:
            wait_for_validation(run, 1)
            run.gate.clear()
        if steps == 2 * EPOCH + 2 * STEPS:
            run.gate.set()
            wait_for_validation(run, 2)

    run.work.on_piece = on_piece
    result = run.fit()
    assert run.state.stopped and any("stopping early" in line for line in run.lines)
    assert result.steps == 2 * EPOCH + 2 * STEPS and run.work.is_stopped
    assert run.best_weight() == EPOCH


def test_a_checkpoint_knows_the_pieces_that_are_done(tmp_path):
    def on_piece(steps):
        if steps == EPOCH + 2 * STEPS:
            run.preemption.requested = True

    run = Run(tmp_path, on_piece=on_piece, epoch=3)
    with pytest.raises(Preempted, match=f"step {EPOCH + 2 * STEPS}: stopped .* saved .*ckpt-60;"):
        run.fit()
    state = run.saved()
    assert (state.step, state.epoch, state.pieces_done) == (EPOCH + 2 * STEPS, 1, [0, 1])

    again = Run(tmp_path, epoch=3)
    result = again.fit()
    assert again.work.begun == [(1, [0, 1]), (2, [])]
    assert (result.steps, again.best_weight()) == (3 * EPOCH, 3 * EPOCH)
    assert again.state.samples == 3 * EPOCH * SIZE


def test_more_epochs_may_follow_later(tmp_path):
    Run(tmp_path, epoch=1).fit()
    again = Run(tmp_path, epoch=2)
    assert again.fit().steps == 2 * EPOCH
    assert again.work.begun == [(0, [0, 1, 2, 3]), (1, [])]


def test_the_position_is_older_than_the_weights_that_are_saved_with_it(tmp_path, monkeypatch):
    run = Run(tmp_path, epoch=1, save_checkpoints_steps=2 * STEPS)
    save = run.checkpoints.save

    def while_workers_go_on():
        if run.work.left:
            run.work.finished()
        return save()

    monkeypatch.setattr(run.checkpoints, "save", while_workers_go_on)
    run.work.on_piece = lambda steps: None
    found = []

    def serialize():
        found.append((list(run.state.pieces_done), run.state.step, int(run.model.weight)))
        return "{}"

    monkeypatch.setattr(run.state, "serialize", serialize)
    run.fit()
    assert found[0] == ([0, 1], 2 * STEPS, 3 * STEPS)


def test_a_restored_checkpoint_is_validated_before_the_next_one(tmp_path):
    tenths = [0, 0, 9, 0, 0, 0, 0, 0, 5]

    def on_piece(steps):
        run.preemption.requested = steps == 2 * STEPS

    run = Run(tmp_path, tenths, on_piece, epoch=2)
    with pytest.raises(Preempted):
        run.fit()
    again = Run(tmp_path, tenths, epoch=2)
    result = again.fit()
    assert again.scored[0] == result.best_step == again.best_weight() == 2 * STEPS


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        ("training loss : Tensor had NaN values", TrainingError, "step 10: the loss is not finite"),
        ("damaged", DataError, "part-00000: torn"),
        ("Socket closed", TrainingError, "Socket closed; start all tasks again"),
    ],
)
def test_errors_of_workers_become_one_sentence(tmp_path, raised, expected, words):
    def on_piece(steps):
        if steps == 2 * STEPS:
            raise tf.errors.InvalidArgumentError(None, None, raised)

    with pytest.raises(expected, match=words):
        Run(tmp_path, on_piece=on_piece).fit()


def test_a_server_that_dies_is_named_although_it_still_listened_when_its_connection_broke(
    tmp_path, monkeypatch
):
    def fail(steps):
        raise tf.errors.UnknownError(None, None, "Connection reset by peer")

    monkeypatch.setattr(engine_module, "_DYING_SECONDS", 0.0)
    run = Run(tmp_path, on_piece=fail)
    run.attendance.checks_left = 1
    with pytest.raises(TrainingError, match="ps 1 is gone"):
        run.fit()
