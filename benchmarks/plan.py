"""How much a run of the benchmarks measures, and how often."""

from __future__ import annotations

import dataclasses

from benchmarks.settings import ELEME, Setting


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes and repetitions of all stages.

    Attributes:
        lengths: L at which product and reference are compared.
        with_eleme: whether they are compared on the sizes of Ele.me, too.
        curve: L at which the product alone is measured.
        breakdown: L at which its step is taken apart.
        one_thread: (B, S) of the runs on one thread.
        rounds: turns of every contender.
        round_seconds: how long a turn should take.
        records: samples in each synthetic data set.
        passes: timed passes over a data set.
        histories: L at which requests are served.
        candidates: N of a request.
        serve_seconds: how long requests, and their samples, of one size are measured.
        changes: attributes of `Setting` that differ from its defaults, for tests.
        overrides: `key=value` texts for every configuration.
    """

    lengths: tuple[int, ...] = (50, 500, 1000, 5000)
    with_eleme: bool = True
    curve: tuple[int, ...] = (500, 1000, 2000, 5000, 10_000, 20_000)
    breakdown: tuple[int, ...] = (500, 5000)
    one_thread: tuple[tuple[int, int], ...] = ((64, 4), (64, 10), (256, 4), (256, 10))
    rounds: int = 5
    round_seconds: float = 0.5
    records: int = 512
    passes: int = 4
    histories: tuple[int, ...] = (50, 1000, 5000)
    candidates: tuple[int, ...] = (1, 100, 500, 1000)
    serve_seconds: float = 8.0
    changes: tuple[tuple[str, object], ...] = ()
    overrides: tuple[str, ...] = ()

    def standard(self, length: int, **changes) -> Setting:
        """Long histories: three fields of width 8, 64 samples a batch."""
        return Setting(length, overrides=self.overrides, **{**dict(self.changes), **changes})

    def compared(self) -> dict[str, Setting]:
        """The settings at which product and reference are compared, by name."""
        settings = {str(length): self.standard(length) for length in self.lengths}
        return {**settings, "eleme": self.eleme()} if self.with_eleme else settings

    def eleme(self, **changes) -> Setting:
        """The public Ele.me data: 50 behaviours of five fields, 256 samples a batch."""
        sizes = {"batch_size": 256, "kept": 10, "recent": 10, **dict(self.changes), **changes}
        return Setting(50, exp=ELEME, overrides=self.overrides, **sizes)


QUICK = Plan(
    lengths=(50, 1000),
    with_eleme=False,
    curve=(500, 5000, 10_000),
    breakdown=(5000,),
    one_thread=((64, 10),),
    rounds=3,
    round_seconds=0.3,
    records=128,
    passes=2,
    histories=(5000,),
    candidates=(1, 500),
    serve_seconds=3.0,
)
