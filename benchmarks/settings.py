"""What is measured: settings, and models and random batches of them."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from diffumin_tf.config import task as config_lib
from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import Features, TaskConfig
from diffumin_tf.errors import ConfigError
from diffumin_tf.input.features import FeatureLayout, HistoryGroup
from diffumin_tf.model import RankingModel, features_of
from diffumin_tf.run.experiment import find_experiment
from diffumin_tf.run.setup import compute_reproducibly
from diffumin_tf.training import optimizers

LONG_TERM, ELEME = "Long_term_DiffuMIN", "Eleme_DiffuMIN"

# Keys that the benchmark varies or needs to know; `Setting` decides them.
_OWN_KEYS = (
    "seq_len batch_size top_p input_units features embedding embedding.kind embedding.rows".split()
)
# Popularity of rank r is about r^-0.8, so that the first r ranks draw a share of (r / rows)^0.2.
_POPULARITY_POWER = 5


@dataclasses.dataclass(frozen=True)
class Setting:
    """One size of the problem; whatever it leaves open is as the experiment's config says.

    Attributes:
        length: L, behaviours of every history.
        batch_size: B, samples a batch, each of another user.
        exp: experiment under `exp/user1`, for schema and features.
        kept: k, behaviours that a channel keeps at most, whatever L is.
        recent: K, behaviours that the short-term encoder sees at most.
        infer_timesteps: S, sampling steps.
        deep_layers: hidden widths of the tower.
        rows: rows of the embedding table.
        overrides: `key=value` texts, as for `diffumin train --set`.
    """

    length: int
    batch_size: int = 64
    exp: str = LONG_TERM
    kept: int = 100
    recent: int = 50
    infer_timesteps: int = 10
    deep_layers: tuple[int, ...] = (1024, 512, 256)
    rows: int = 1_000_000
    overrides: tuple[str, ...] = ()

    @functools.cached_property
    def config(self) -> TaskConfig:
        """The experiment's configuration at this size.

        Raises:
            ConfigError: an override is wrong, or changes what a setting decides.
        """
        for override in self.overrides:
            if override.partition("=")[0].strip() in _OWN_KEYS:
                raise ConfigError(f"--set {override!r}: the benchmark itself decides this key")
        own = {
            "seq_len": self.length,
            "batch_size": self.batch_size,
            "top_p": min(100.0 * self.kept / self.length, 100.0),
            "subseq_len": min(self.recent, self.length),
            "channel_num": 4,
            "infer_timesteps": self.infer_timesteps,
            "deep_layers": self.deep_layers,
            "embedding.kind": "hash",
            "embedding.rows": self.rows,
        }
        texts = [f"{key}={json.dumps(value)}" for key, value in own.items()]
        return config_lib.load(find_experiment(self.exp), [*texts, *self.overrides])[0]

    @functools.cached_property
    def schema(self) -> DataStruct:
        """Columns of a record."""
        return DataStruct.load(f"{find_experiment(self.exp)}/data_struct.json")

    @functools.cached_property
    def features(self) -> Features:
        """The features that the model reads, by role."""
        return features_of(self.config)

    @functools.cached_property
    def layout(self) -> FeatureLayout:
        """The features that the model reads, in order."""
        return FeatureLayout.of(self.features, self.schema)

    def differentiating_all_steps(self) -> Setting:
        """The setting with gradients through every sampling step."""
        overrides = (*self.overrides, "sampler_grad_steps=null")
        return dataclasses.replace(self, overrides=overrides)

    def describe(self) -> dict[str, object]:
        """What the results say about the setting."""
        keys = (
            "seq_len batch_size embed_dim channel_num top_p subseq_len n_layers num_heads "
            "dff_factor infer_timesteps start_timestep sampler_grad_steps deep_layers activation "
            "jit_compile"
        ).split()
        fields = len(self.layout.behaviours)
        described = {key: getattr(self.config, key) for key in keys}
        return {"exp": self.exp, **described, "behaviour_fields": fields, "rows": self.rows}


class Batch(NamedTuple):
    """The same samples for both contenders.

    Attributes:
        inputs: what the product takes, in one `HistoryGroup`.
        dense: what the reference takes.
        label: float32 [B].
    """

    inputs: dict
    dense: dict
    label: tf.Tensor


def draw_rows(rng: np.random.Generator, rows: int, shape: tuple[int, ...]) -> np.ndarray:
    """Rows int32 of a table as real ids hit it: few are frequent, and they lie anywhere.

    `row = permutation[⌊(rows − 1) u⁵⌋]` with u uniform in [0, 1); never row 0.
    """
    ranks = ((rows - 1) * rng.random(shape) ** _POPULARITY_POWER).astype(np.int32)
    return _places(rows)[ranks]


@functools.lru_cache(maxsize=2)
def _places(rows: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.arange(1, rows, dtype=np.int32))


def random_batch(setting: Setting, seed: int) -> Batch:
    """A batch with full histories."""
    rng = np.random.default_rng(seed)
    size, length, layout = setting.batch_size, setting.length, setting.layout
    rows = tf.constant(draw_rows(rng, setting.rows, (size, length, len(layout.behaviours))))
    mask = tf.ones([size, length], tf.bool)
    common = {
        "fields": tf.constant(draw_rows(rng, setting.rows, (size, len(layout.fields)))),
        "dense": tf.constant(rng.standard_normal([size, len(layout.dense)], np.float32)),
        "user": tf.range(1, size + 1, dtype=tf.int64),
    }
    return Batch(
        inputs={**common, "histories": (HistoryGroup(rows, mask, tf.range(size)),)},
        dense={**common, "behaviours": rows, "mask": mask},
        label=tf.constant(rng.integers(0, 2, size), tf.float32),
    )


def build_model(setting: Setting, plain_optimizers: bool = False) -> RankingModel:
    """A compiled model with fresh weights.

    Args:
        setting: its size.
        plain_optimizers: takes Adam and Adagrad of the library instead of those of the product.
    """
    config = setting.config
    _set_up_process(config.seed)
    model = RankingModel(config, setting.schema, setting.rows)
    model.create_weights()
    if plain_optimizers:
        adam = tf.keras.optimizers.Adam(config.lazyAdam_learning_rate)
        model.compile(adam, tf.keras.optimizers.Adagrad(config.learning_rate))
    else:
        model.compile(*optimizers.build(config))
    # A graph whose first run creates variables is traced twice.
    table = model.embedding.table
    model.table_optimizer.build([table])
    model.optimizer.build([v for v in model.trainable_variables if v is not table])
    return model


@functools.cache  # once: it also makes TensorFlow forget which graphs it has prepared
def _set_up_process(seed: int) -> None:
    """What `Experiment` does."""
    tf.keras.utils.set_random_seed(seed)
    compute_reproducibly()
