"""Learning rates that rise and fall."""

import math

import numpy as np
import pytest

from diffumin_tf.training.warmup_decay import WarmupDecay


def rates(kind, warmup, decay, steps):
    schedule = WarmupDecay(0.5, kind, warmup, decay)
    copy = WarmupDecay.from_config(schedule.get_config())
    return [float(copy(step)) for step in range(steps)]


@pytest.mark.parametrize(
    ("kind", "falling"),
    [
        ("constant", lambda x: 1.0),
        ("linear", lambda x: 1 - x),
        ("cosine", lambda x: 0.5 + 0.5 * math.cos(math.pi * x)),
    ],
)
def test_rises_to_the_peak_and_falls_as_its_kind_says(kind, falling):
    expected = [0.5 * (step + 1) / 4 for step in range(4)]
    expected += [0.5 * falling(min((step - 4) / 10, 1)) for step in range(4, 20)]
    np.testing.assert_allclose(rates(kind, 4, 10, 20), expected, atol=1e-7)


def test_begins_at_the_peak_without_warmup():
    assert rates("linear", 0, 2, 3) == [0.5, 0.25, 0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, "linear", 0, 3), "`peak` .* received 0.0"),
        ((0.1, "exponential", 0, 3), "`kind` .* received 'exponential'"),
        ((0.1, "linear", 0, 0), "`decay_steps` .* received 0"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        WarmupDecay(*arguments)
