"""The training loop with a scripted model: what it keeps, when it stops, what it tells."""

import errno
import math
import re
import types

import pytest
import tensorflow as tf

from diffumin_tf.errors import NotFiniteError, Preempted, TrainingError
from diffumin_tf.training import checkpoints, progress
from diffumin_tf.training import loop as loop_module
from tests.training.events import scalars
from tests.training.scripted import BATCHES, SIZE, Training


@pytest.mark.parametrize(
    ("aucs", "settings", "validated", "best"),
    [
        ([0.6, 0.8, 0.7], {"epoch": 3}, [4, 8, 12], 8),
        ([0.6, 0.6], {"epoch": 2}, [4, 8], 4),  # equal is no improvement
        (
            [0.6, 0.5, 0.7, 0.6, 0.69, 0.99],
            {"epoch": 6, "early_stopping_patience": 2},
            [4, 8, 12, 16, 20],
            12,
        ),
        ([0.6, 0.5, 0.4, 0.3], {"epoch": 4}, [4, 8, 12, 16], 4),  # a patience of 0 never stops
        ([0.5, 0.6], {"evaluate_every_steps": 2}, [2, 4], 4),  # not again at the epoch's end
        ([0.5, 0.6], {"evaluate_every_steps": 3}, [3, 4], 4),
        ([0.5, 0.4], {"evaluate_every_steps": 1, "early_stopping_patience": 1}, [1, 2], 1),
    ],
)
def test_validation_keeps_the_best_weights_and_ends_a_run_that_gets_no_better(
    tmp_path, aucs, settings, validated, best
):
    training = Training(tmp_path, aucs, **settings)
    result = training.fit()
    assert training.asked == validated and result.steps == validated[-1]
    assert result.best_step == training.best_weight() == best
    assert result.best_auc == max(aucs[: len(validated)])
    assert training.saved_steps(checkpoints.BEST) == [best]
    stopped = f"stopping early: best was step {best}" in training.lines
    assert stopped == ("early_stopping_patience" in settings) == training.state.stopped
    assert sum("best so far" in line for line in training.lines) >= 1


def test_without_validation_the_last_weights_are_kept(tmp_path):
    training = Training(tmp_path, epoch=2)
    result = training.fit()
    assert (result.steps, result.best_step, result.best_auc) == (8, 8, None)
    assert training.best_weight() == 8 and training.saved_steps(checkpoints.BEST) == [8]


def test_no_more_checkpoints_are_kept_than_told(tmp_path):
    training = Training(tmp_path, [0.1, 0.2, 0.3, 0.4, 0.5], epoch=5, keep_checkpoint_max=2)
    training.fit()
    assert training.saved_steps() == [16, 20] and training.saved_steps(checkpoints.BEST) == [20]
    # TensorFlow's own tools find them too.
    latest = tf.train.latest_checkpoint(f"{training.folder}/{checkpoints.LATEST}")
    assert latest.endswith("ckpt-20")


@pytest.fixture
def clock(monkeypatch):
    """Time that passes in steps alone: each takes 2 s."""
    clock = types.SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(loop_module, "time", clock)
    monkeypatch.setattr(progress, "time", clock)

    def step_of(training):
        step = training.engine._step

        def slow(*arguments):
            clock.now += 2.0
            return step(*arguments)

        training.engine._step = slow

    clock.slow_down = step_of
    return clock


def test_checkpoints_are_written_by_time_and_by_steps(tmp_path, clock):
    training = Training(tmp_path / "time", save_checkpoints_secs=5, keep_checkpoint_max=50)
    clock.slow_down(training)
    training.fit((1.0,) * 11)
    assert training.saved_steps() == [4, 8, 11]
    every = {"save_checkpoints_steps": 3, "keep_checkpoint_max": 50, "epoch": 2}
    training = Training(tmp_path / "steps", **every)
    training.fit()
    assert training.saved_steps() == [3, 4, 6, 8]  # and at the end of an epoch


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_the_step_and_the_last_good_checkpoint(tmp_path, value):
    training = Training(tmp_path / "a")
    message = "step 3: the loss is not finite; lower learning_rate.*: none was saved yet"
    with pytest.raises(TrainingError, match=message):
        training.fit([1.0, 1.0, value, 1.0])
    assert training.model.weight.numpy() == 2 and training.saved_steps() == []
    training = Training(tmp_path / "b", [0.5, 0.6], evaluate_every_steps=2)
    with pytest.raises(TrainingError, match="step 4: .*good checkpoint: .*b/checkpoints/ckpt-2$"):
        training.fit([1.0, 1.0, 1.0, value])


def test_other_errors_of_a_step_are_not_taken_for_a_loss(tmp_path):
    training = Training(tmp_path, max_rollbacks=3)
    training.model.update = lambda batch: {"loss": tf.debugging.check_numerics(math.nan, "x")}
    with pytest.raises(tf.errors.InvalidArgumentError):
        training.fit()


def test_a_weight_that_is_not_finite_is_never_saved(tmp_path):
    training = Training(tmp_path)
    training.checkpoints.save()
    training.state.step = 7
    training.model.weight.assign(math.inf)
    with pytest.raises(NotFiniteError, match=r"step 7: weight weight:0 is not finite"):
        training.checkpoints.save()
    assert training.saved_steps() == [0]


def test_a_full_disk_leaves_the_checkpoint_before_and_the_run_goes_on_from_it(
    tmp_path, monkeypatch
):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    def disk_is_full():
        monkeypatch.setattr(checkpoints, "sync", full)
        return 1.0

    training = Training(tmp_path, save_checkpoints_steps=2)
    told = "ckpt-4: no space left on the disk; .*last good checkpoint: .*ckpt-2; make room"
    with pytest.raises(TrainingError, match=told):
        training.fit((1.0, 1.0, disk_is_full, 1.0))
    assert training.saved_steps() == [2] and not list(tmp_path.glob("checkpoints/ckpt-4*"))
    monkeypatch.undo()
    again = Training(tmp_path, save_checkpoints_steps=2)
    again.fit()
    assert again.state.step == BATCHES and again.saved_steps()[-1] == BATCHES


def test_a_validation_split_of_one_class_is_one_clear_error(tmp_path):
    with pytest.raises(TrainingError, match="validation split holds one class only"):
        Training(tmp_path, [None]).fit()


def test_a_line_of_progress_tells_loss_auc_speed_and_time_left(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "PROGRESS_SECONDS", -1.0)
    training = Training(tmp_path, epoch=2)
    training.fit((2.0,) * BATCHES)
    number = r"[\d,]+ samples/s"
    assert re.fullmatch(
        rf"epoch 1/2 step 2  auc 1\.0000  loss 2\.0000  {number}  \d+:\d\d left", training.lines[1]
    )
    assert training.lines[-1].startswith("epoch 2/2 step 8") and "0:00 left" in training.lines[-1]
    assert training.model.resets == 2  # each epoch begins anew


def test_metrics_are_of_the_steps_between_two_summaries_however_often_a_line_tells_them(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(progress, "PROGRESS_SECONDS", -1.0)
    training = Training(tmp_path, save_summary_steps=2)
    training.fit((2.0, 4.0, 6.0, 8.0))
    assert scalars(tmp_path / "logs")["train/auc"] == {2: 1.5, 4: 3.5}
    assert [
        float(re.search(r"auc (\S+)", line)[1]) for line in training.lines if "auc" in line
    ] == [1.0, 1.5, 3.0, 3.5]


def test_metrics_begin_anew_after_a_summary_also_where_a_run_goes_on_there(tmp_path):
    def interrupted():
        training.preemption.requested = True
        return 4.0

    every = {"save_summary_steps": 2, "save_checkpoints_steps": 2}
    training = Training(tmp_path / "cut", **every)
    with pytest.raises(Preempted):
        training.fit((2.0, interrupted, 6.0, 8.0))
    Training(tmp_path / "cut", **every).fit((2.0, 4.0, 6.0, 8.0))
    assert scalars(tmp_path / "cut" / "logs")["train/auc"] == {2: 1.5, 4: 3.5}

    back = Training(tmp_path / "back", max_rollbacks=1, **every)
    back.fit((2.0, 4.0, math.nan, 6.0, 8.0))
    assert scalars(tmp_path / "back" / "logs")["train/auc"] == {2: 1.5, 4: 3.5}


def test_without_a_known_size_the_time_left_is_told_from_the_second_epoch_on(tmp_path):
    training = Training(tmp_path, epoch=2)
    training.fit(examples=None)
    assert ["left" in line for line in training.lines] == [False, True]


def test_the_speed_leaves_validation_out(tmp_path, clock):
    training = Training(tmp_path, [0.5, 0.6], evaluate_every_steps=2)
    clock.slow_down(training)
    validate = training.validate

    def slow_validate():
        clock.now += 1000.0
        return validate()

    training.loop.validation._validate = slow_validate
    assert training.fit().samples_per_second == pytest.approx(SIZE / 2.0)


def test_tensorboard_gets_the_scalars_of_training_and_validation(tmp_path):
    Training(tmp_path, [0.5, 0.6], epoch=2, save_summary_steps=2).fit((3.0,) * BATCHES)
    found = scalars(f"{tmp_path}/logs")
    assert found["train/loss"] == {2: 3.0, 4: 3.0, 6: 3.0, 8: 3.0}
    assert found["train/auc"].keys() == found["train/samples_per_second"].keys() == {2, 4, 6, 8}
    assert found["valid/auc"] == pytest.approx({4: 0.5, 8: 0.6})
    assert "valid/gauc" not in found and found["valid/logloss"] == {4: 0.5, 8: 0.5}
