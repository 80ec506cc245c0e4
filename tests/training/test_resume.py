"""Going on with a scripted run: after an end at any place, after damage, after a bad loss."""

import math
import os
import pathlib
import signal

import pytest

from diffumin_tf.errors import Preempted, TrainingError
from diffumin_tf.training import checkpoints
from tests.training.scripted import Training


class Killed(Exception):
    """Stands for the end of the process: nothing of the trainer's runs after it."""


def killed():
    raise Killed


VALUES = [float(2**place) for place in range(5)]
AUCS = [0.6, 0.8, 0.7, 0.75, 0.9, 0.85]
SETTINGS = {"epoch": 2, "evaluate_every_steps": 2, "save_checkpoints_steps": 3}


def whole(folder):
    training = Training(folder, AUCS, **SETTINGS)
    return training, training.fit(VALUES)


@pytest.mark.parametrize("place", range(5))
def test_a_run_that_ended_between_steps_goes_on_as_if_it_had_not(tmp_path, place):
    complete, result = whole(tmp_path / "whole")
    with pytest.raises(Killed):
        Training(tmp_path / "cut", AUCS, **SETTINGS).fit(VALUES[:place] + [killed])
    # What the cut run had validated before its last checkpoint is not validated again.
    state = Training(tmp_path / "cut").state
    validated = [step for step in (2, 4) if step <= state.validated_step]
    again = Training(tmp_path / "cut", AUCS[len(validated) :], **SETTINGS)
    resumed = again.fit(VALUES)
    assert (resumed.steps, resumed.best_step) == (result.steps, result.best_step)
    assert again.state == complete.state
    assert again.model.seen.numpy() == complete.model.seen.numpy() == 2 * sum(VALUES)
    assert again.best_weight() == complete.best_weight()
    assert again.data.asked[0] == (state.epoch, state.batch)


@pytest.mark.parametrize("place", range(len(AUCS)))
def test_a_run_that_ended_while_validating_validates_again(tmp_path, place):
    complete, _ = whole(tmp_path / "whole")
    with pytest.raises(Killed):
        Training(tmp_path / "cut", [*AUCS[:place], killed], **SETTINGS).fit(VALUES)
    again = Training(tmp_path / "cut", AUCS[place:], **SETTINGS)
    again.fit(VALUES)
    assert again.asked == complete.asked[place:]
    assert again.state == complete.state
    assert again.model.seen.numpy() == complete.model.seen.numpy()


def test_early_stopping_remembers_what_it_waited_for(tmp_path):
    settings = {"epoch": 9, "early_stopping_patience": 2}
    with pytest.raises(Killed):
        Training(tmp_path, [0.9, 0.5, killed], **settings).fit()
    again = Training(tmp_path, [0.6], **settings)
    result = again.fit()
    assert (result.steps, result.best_step, result.best_auc) == (12, 4, 0.9)
    finished = Training(tmp_path, [0.6], **settings)  # its last state is that before validating
    result = finished.fit()
    assert (result.steps, result.best_step, result.best_auc) == (12, 4, 0.9)
    assert finished.data.asked == [(2, 4)]


def test_a_finished_run_may_be_given_more_epochs(tmp_path):
    Training(tmp_path, [0.6], epoch=1).fit()
    again = Training(tmp_path, [0.6, 0.7], epoch=2)
    result = again.fit()
    assert (result.steps, result.best_step) == (8, 8)
    assert again.data.asked == [(0, 4), (1, 0)]


@pytest.mark.parametrize("damage", ["torn data", "torn index", "flipped bit", "no data"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path, damage):
    settings = {"save_checkpoints_steps": 2, "epoch": 1}
    complete = Training(tmp_path / "whole", **settings)
    complete.fit(VALUES)
    training = Training(tmp_path / "cut", **settings)
    with pytest.raises(Killed):
        training.fit([*VALUES[:4], killed])
    assert training.saved_steps() == [2, 4]
    folder = pathlib.Path(training.folder) / checkpoints.LATEST
    data, index = folder / "ckpt-4.data-00000-of-00001", folder / "ckpt-4.index"
    if damage == "torn data":
        os.truncate(data, data.stat().st_size // 2)
    elif damage == "torn index":
        os.truncate(index, index.stat().st_size // 2)
    elif damage == "flipped bit":
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 1
        data.write_bytes(content)
    else:
        data.unlink()
    again = Training(training.folder, **settings)
    assert again.restored and again.state.step == 2
    assert "checkpoints/ckpt-4: cannot be read, trying the one before" in again.lines[0]
    assert again.saved_steps() == [2]
    again.fit(VALUES)
    assert again.model.seen.numpy() == complete.model.seen.numpy()
    assert again.state == complete.state


def test_checkpoints_none_of_which_can_be_read_stay_and_stop_the_run(tmp_path):
    training = Training(tmp_path, save_checkpoints_steps=2)
    training.fit()
    for file in pathlib.Path(tmp_path, checkpoints.LATEST).glob("*.data*"):
        os.truncate(file, 3)
    with pytest.raises(TrainingError, match="none of the 2 checkpoints can be read"):
        Training(tmp_path)
    assert training.saved_steps() == [2, 4]


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    training = Training(tmp_path)
    training.fit()
    folder = pathlib.Path(tmp_path, checkpoints.LATEST)
    before = sorted(os.listdir(folder))
    (folder / "ckpt-9.data-00000-of-00001.tempstate123").write_bytes(b"x")
    (folder / "ckpt-9.data-00000-of-00001").write_bytes(b"x")
    checkpoints.clean(str(tmp_path))
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_loss_may_go_back_to_the_last_checkpoint_and_skip_what_led_to_it(tmp_path, bad):
    training = Training(tmp_path, save_checkpoints_steps=2, max_rollbacks=1)
    result = training.fit([1.0, 2.0, 4.0, bad, 16.0, 32.0])
    assert result.steps == 4 and training.model.seen.numpy() == 1 + 2 + 16 + 32
    assert training.data.asked == [(0, 0), (0, 4)]
    assert training.lines[0] == (
        "step 4: the loss is not finite; back to the weights of step 2, 2 batches skipped "
        "(rollback 1 of 1)"
    )


def test_a_weight_that_is_not_finite_leads_back_as_well(tmp_path):
    training = Training(tmp_path, save_checkpoints_steps=2, max_rollbacks=1)

    def spoil():
        training.model.seen.assign(math.inf)
        return 4.0

    training.fit([1.0, 2.0, spoil, 8.0, 16.0, 32.0])
    assert training.model.seen.numpy() == 1 + 2 + 16 + 32
    assert training.lines[0].startswith("step 4: weight seen:0 is not finite; back to the weights")


def test_a_rollback_into_an_epoch_that_was_validated_keeps_what_was_found(tmp_path):
    training = Training(tmp_path, [0.9, 0.6], epoch=2, max_rollbacks=1)
    epochs = []

    def bad_in_the_second_epoch():
        epochs.append(0)
        return math.nan if len(epochs) == 2 else 1.0

    result = training.fit([bad_in_the_second_epoch, 1.0, 1.0, 1.0])
    assert (result.best_auc, result.best_step, training.state.without_improvement) == (0.9, 4, 1)
    assert training.best_weight() == 4


def test_rollbacks_end_when_they_are_used_up(tmp_path):
    training = Training(tmp_path, save_checkpoints_steps=1, max_rollbacks=2)
    with pytest.raises(TrainingError, match="step 2: .*or raise max_rollbacks 2; last good.*-1$"):
        training.fit([1.0, math.nan, math.nan, math.nan, 1.0])


def test_a_rollback_is_remembered(tmp_path):
    settings = {"save_checkpoints_steps": 2, "max_rollbacks": 1}
    training = Training(tmp_path, **settings)
    with pytest.raises(Killed):
        training.fit([1.0, 2.0, math.nan, 8.0, 16.0, killed])
    again = Training(tmp_path, **settings)
    assert (again.state.step, again.state.batch, again.state.rollbacks) == (4, 5, 1)
    with pytest.raises(TrainingError):
        again.fit([1.0, 2.0, math.nan, 8.0, 16.0, math.nan])


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGTERM, Preempted), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_saves_after_the_step_and_says_how_to_go_on(tmp_path, number, raised):
    training = Training(tmp_path, [0.5], epoch=1)
    before = signal.getsignal(number)

    def told_to_end():
        os.kill(os.getpid(), number)
        return 4.0

    with training.preemption.watched(), pytest.raises(raised) as ended:
        training.fit([1.0, 2.0, told_to_end, 8.0])
    assert signal.getsignal(number) == before
    message = str(ended.value) if raised is Preempted else training.lines[-1]
    assert message.startswith("step 3: ") and "ckpt-3; start the same command again" in message
    assert training.saved_steps() == [3]
    again = Training(tmp_path, [0.5], epoch=1)
    again.fit([1.0, 2.0, 4.0, 8.0])
    assert again.model.seen.numpy() == 15 and again.data.asked == [(0, 3)]


@pytest.mark.parametrize("numbers", [[signal.SIGINT, signal.SIGINT], [signal.SIGTERM]])
def test_a_second_interrupt_or_sigterm_while_validating_ends_at_once(tmp_path, numbers):
    def told_to_end():
        for number in numbers:
            os.kill(os.getpid(), number)
        raise AssertionError("the run went on")

    is_validating = len(numbers) == 1
    training = Training(tmp_path, [told_to_end] if is_validating else None, epoch=1)
    raised = Preempted if is_validating else KeyboardInterrupt
    with training.preemption.watched(), pytest.raises(raised):
        training.fit([1.0, 1.0] if is_validating else [1.0, told_to_end])
    assert training.saved_steps() == ([2] if is_validating else [])
