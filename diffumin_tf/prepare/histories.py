"""Point-in-time histories: which events a sample may know, most recent first."""

import dataclasses

import numpy as np
import pandas as pd


@dataclasses.dataclass(frozen=True)
class EventWindows:
    """For every sample, a window into the events sorted by user and time.

    Attributes:
        order: int64 [events], positions of the events, sorted by user, then time.
        start, stop: int64 [samples], the sample's events are `order[start:stop]`, oldest first.
    """

    order: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def gather(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the events of some samples, most recent first.

        Args:
            samples: int64 [n], positions of the samples.

        Returns:
            int64 [total] and row splits int64 [n + 1].
        """
        lengths = self.stop[samples] - self.start[samples]
        splits = np.concatenate([[0], np.cumsum(lengths)])
        # Entry p of a row that begins at split s is the (p − s)-th event back from `stop`.
        newest = np.repeat(self.stop[samples] + splits[:-1], lengths) - 1
        return self.order[newest - np.arange(splits[-1])], splits


def point_in_time(events: pd.DataFrame, samples: pd.DataFrame, max_len: int) -> EventWindows:
    """The last `max_len` events of each sample's user strictly before the sample's time.

    Of events with equal user and time, the later in the input is the more recent.

    Args:
        events, samples: int64 columns `user` and `time`, the times of both in one unit.
    """
    both = pd.concat([events, samples])
    users, user = np.unique(both["user"], return_inverse=True)
    times, time = np.unique(both["time"], return_inverse=True)
    # Ranks instead of raw times: the combined key cannot overflow.
    key = user * len(times) + time
    event_key, sample_key = key[: len(events)], key[len(events) :]
    order = np.argsort(event_key, kind="stable")
    sorted_key = event_key[order]
    stop = np.searchsorted(sorted_key, sample_key, side="left")
    first_of_user = np.searchsorted(sorted_key, np.arange(len(users)) * len(times), side="left")
    start = np.maximum(first_of_user[user[len(events) :]], stop - max_len)
    return EventWindows(order, start, stop)
