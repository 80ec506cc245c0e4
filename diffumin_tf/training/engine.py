"""The interface between the training loop and what makes the updates."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol


class Wishes(NamedTuple):
    """What is to be done after an update: save and end, save, print how training goes."""

    stop: bool = False
    save: bool = False
    report: bool = False


class Engine(Protocol):
    """Makes the updates of a run and keeps its `TrainingState` up to date."""

    def epoch(self, wishes: Callable[[], Wishes]) -> Iterator[Wishes]:
        """Makes the updates that are left of the epoch.

        Args:
            wishes: what this process wants done next.

        Yields:
            After one update or some of them: what all processes of the run do now.

        Raises:
            NotFiniteError: the loss is not finite.
        """

    def restart_metrics(self) -> None:
        """Lets the metrics begin anew with the next update."""

    def metrics(self) -> dict[str, float]:
        """Metrics since they began anew, and losses; every process asks at the same step."""

    def catch_up(self) -> None:
        """Brings the state up to date, where updates go on in other processes."""

    def end_updates(self) -> None:
        """Ends updates that are under way."""
