"""What is measured, and how often."""

from __future__ import annotations

import dataclasses
import functools

from diffumin_tf.config import task as config_lib
from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.input.features import FeatureLayout
from diffumin_tf.model import features_of
from diffumin_tf.run.find import find_experiment

LONG_TERM, ELEME = "Long_term_DiffuMIN", "Eleme_DiffuMIN"
_STANDARD = ("channel_num=4", "infer_timesteps=10", "deep_layers=[1024,512,256]")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One size of the problem; whatever it leaves open is as the experiment's config says.

    Attributes:
        length: L, behaviours of every history.
        batch_size: B, samples a batch, each of another user.
        exp: experiment under `exp/user1`, for schema and features.
        kept: k, behaviours that a channel keeps at most, whatever L is.
        recent: K, behaviours that the short-term encoder sees at most.
        rows: rows of the embedding table.
        overrides: `key=value` texts, as for `diffumin train --set`.
    """

    length: int
    batch_size: int = 64
    exp: str = LONG_TERM
    kept: int = 100
    recent: int = 50
    rows: int = 1_000_000
    overrides: tuple[str, ...] = ()

    def at(self, length: int) -> Setting:
        """The same with histories of another length."""
        return dataclasses.replace(self, length=length)

    def with_overrides(self, *overrides: str) -> Setting:
        """The same with more overrides."""
        return dataclasses.replace(self, overrides=(*self.overrides, *overrides))

    @functools.cached_property
    def config(self) -> TaskConfig:
        """The experiment's configuration at this size."""
        sizes = (
            f"seq_len={self.length}",
            f"batch_size={self.batch_size}",
            f"top_p={min(100.0 * self.kept / self.length, 100.0)}",
            f"subseq_len={min(self.recent, self.length)}",
            'embedding.kind="hash"',
            f"embedding.rows={self.rows}",
        )
        overrides = [*_STANDARD, *sizes, *self.overrides]
        return config_lib.load(find_experiment(self.exp), overrides)[0]

    @functools.cached_property
    def schema(self) -> DataStruct:
        """Columns of a record."""
        return DataStruct.load(f"{find_experiment(self.exp)}/data_struct.json")

    @functools.cached_property
    def layout(self) -> FeatureLayout:
        """The features that the model reads, in order."""
        return FeatureLayout.of(features_of(self.config), self.schema)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes and repetitions of all stages.

    Attributes:
        standard: long histories: three fields of width 8. The stages choose its length.
        eleme: the public Ele.me data, 50 behaviours of five fields; None leaves it out.
        lengths: L at which product and reference are compared.
        growth: L at which the product alone is measured.
        breakdown: L at which its step is taken apart.
        one_thread: (B, S) of the product on one thread.
        rounds: turns of every contender.
        round_seconds: how long a turn should take.
        records: samples in each data set for the input pipeline.
        passes: timed passes over a data set.
        impressions: samples of a user, of the stage that stores their history once.
        histories: L at which requests are served.
        candidates: N of a request.
        serve_seconds: how long the requests of one size are measured, and as long their samples.
    """

    standard: Setting = Setting(1000)
    eleme: Setting | None = Setting(50, batch_size=256, exp=ELEME, kept=10, recent=10)
    lengths: tuple[int, ...] = (50, 500, 1000, 5000)
    growth: tuple[int, ...] = (500, 1000, 2000, 5000, 10_000, 20_000)
    breakdown: tuple[int, ...] = (500, 5000)
    one_thread: tuple[tuple[int, int], ...] = ((64, 4), (64, 10), (256, 4), (256, 10))
    rounds: int = 5
    round_seconds: float = 0.5
    records: int = 512
    passes: int = 4
    impressions: int = 10
    histories: tuple[int, ...] = (50, 1000, 5000)
    candidates: tuple[int, ...] = (1, 100, 500, 1000)
    serve_seconds: float = 8.0

    def compared(self) -> dict[str, Setting]:
        """The settings at which product and reference are compared, by name."""
        settings = {str(length): self.standard.at(length) for length in self.lengths}
        return {**settings, "eleme": self.eleme} if self.eleme else settings


QUICK = Plan(
    eleme=None,
    lengths=(50, 1000),
    growth=(500, 5000, 10_000),
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
