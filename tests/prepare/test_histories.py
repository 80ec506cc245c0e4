"""Point-in-time histories against a brute-force oracle."""

import numpy as np
import pandas as pd
import pytest

from diffumin_tf.prepare.histories import point_in_time


def found(event_user, event_time, sample_user, sample_time, max_len):
    events = pd.DataFrame({"user": event_user, "time": event_time})
    samples = pd.DataFrame({"user": sample_user, "time": sample_time})
    return point_in_time(events, samples, max_len)


def oracle(event_user, event_time, user, now, max_len):
    """Positions of the visible events, most recent first, the slow and obvious way."""
    visible = [i for i in range(len(event_user)) if event_user[i] == user and event_time[i] < now]
    return sorted(visible, key=lambda i: (event_time[i], i), reverse=True)[:max_len]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("max_len", [1, 4, 1000])
def test_histories_equal_a_brute_force_search(seed, max_len):
    rng = np.random.default_rng(seed)
    # Few distinct times: ties between events and between events and samples are the rule.
    event_user, event_time = rng.integers(0, 9, 200), rng.integers(-5, 12, 200)
    sample_user, sample_time = rng.integers(0, 12, 60), rng.integers(-6, 14, 60)
    chosen = rng.permutation(60)[:40]
    histories = found(event_user, event_time, sample_user, sample_time, max_len)
    events, splits = histories.gather(chosen)
    for row, sample in enumerate(chosen):
        expected = oracle(event_user, event_time, sample_user[sample], sample_time[sample], max_len)
        assert events[splits[row] : splits[row + 1]].tolist() == expected


def test_no_events_give_empty_histories():
    none = np.zeros(0, np.int64)
    events, splits = found(none, none, [1, 2], [5, 5], 3).gather(np.array([0, 1]))
    assert events.tolist() == [] and splits.tolist() == [0, 0, 0]


def test_extreme_ids_and_times_do_not_overflow():
    big = 2**63 - 2
    histories = found([big, big], [-big, big - 1], [big], [big], max_len=5)
    assert histories.gather(np.array([0]))[0].tolist() == [1, 0]
