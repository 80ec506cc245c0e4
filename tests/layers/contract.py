"""What the tests need to know of each layer: how to build it, what goes in, what must come out.

`test_contract.py` holds every layer of this table to the same rules. A new layer needs one entry.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from diffumin_tf import layers
from diffumin_tf.layers.token_norm import TokenNorm
from tests.layers import layer_oracles
from tests.layers.helpers import normal, randomise

LENGTH, CHANNELS, WIDTH = 7, 3, 6
Inputs = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class LayerContract:
    """A layer and how to try it.

    Attributes:
        arguments: of its constructor; not the defaults, so that a lost one shows.
        inputs: call arguments of a batch of the given size, in their order.
        mask: the input that hides others; axis 1 of a mask of a sequence may have any length.
        masked: the inputs that it hides.
        oracle: `(layer, inputs, training) → outputs` in float64, or None where the test file of
            the layer compares it with one.
        variants: other arguments that the oracle is compared with.
        wrong: for each argument that is checked, a value that is refused.
        any_shape: whether inputs of every rank and width are welcome.
    """

    layer: type
    arguments: dict[str, Any]
    inputs: Callable[[int], Inputs]
    mask: str | None = None
    masked: tuple[str, ...] = ()
    oracle: Callable[..., Any] | None = None
    variants: tuple[dict[str, Any], ...] = ()
    wrong: dict[str, Any] = dataclasses.field(default_factory=dict)
    any_shape: bool = False

    def build(self, inputs: Inputs, **changes: Any) -> tf.keras.layers.Layer:
        """A layer with weights and statistics that are not those of the start."""
        layer = self.layer(**{**self.arguments, **changes})
        call(layer, inputs)
        randomise(layer)
        call(layer, {**inputs, **{n: 2 * x for n, x in inputs.items() if is_float(x)}}, True)
        return layer

    @property
    def sequences(self) -> tuple[str, ...]:
        """The inputs whose axis 1 is a length that may vary."""
        return () if self.mask in (None, "live") else (*self.masked, self.mask)

    @property
    def without_dropout(self) -> dict[str, float]:
        return {"dropout_rate": 0.0} if "dropout_rate" in self.arguments else {}


def call(layer: tf.keras.layers.Layer, inputs: Inputs, training: bool = False) -> Any:
    first, *others = inputs
    known = inspect.signature(layer.call).parameters
    mode = {"training": training} if "training" in known else {}
    return layer(inputs[first], **{name: inputs[name] for name in others}, **mode)


def is_float(x: np.ndarray) -> bool:
    return x.dtype == np.float32


def some_true(batch: int, size: int) -> np.ndarray:
    """A mask [B, size] whose second row is False."""
    mask = np.random.default_rng(batch).random([batch, size]) < 0.6
    mask[:, 0] = True
    mask[1:2] = False
    return mask


def only(name: str, *shape: int) -> Callable[[int], Inputs]:
    return lambda batch: {name: normal(0, batch, *shape)}


def history(batch: int, candidate_width: int = WIDTH) -> Inputs:
    return {
        "history": normal(0, batch, LENGTH, WIDTH),
        "candidate": normal(1, batch, candidate_width),
        "mask": some_true(batch, LENGTH),
    }


def tokens(batch: int) -> Inputs:
    return {"tokens": normal(0, batch, LENGTH, WIDTH), "mask": some_true(batch, LENGTH)}


def attention(batch: int) -> Inputs:
    keys, mask = tokens(batch).values()
    return {"query": normal(1, batch, 2, WIDTH), "keys": keys, "key_mask": mask}


def channels(batch: int, *names: str) -> Inputs:
    vectors = {name: normal(seed, batch, CHANNELS, WIDTH) for seed, name in enumerate(names)}
    return {**vectors, "live": some_true(batch, CHANNELS)}


def calibrator(batch: int) -> Inputs:
    users = np.arange(batch) % 3 + 2**40
    return {**channels(batch, "interests", "generated"), "user_ids": users}


def denoiser(batch: int) -> Inputs:
    timestep = np.random.default_rng(3).integers(0, 100, [batch, CHANNELS])
    return {**channels(batch, "noisy", "context", "channels"), "timestep": timestep}


def unchanged(layer: Any, inputs: Inputs, training: bool) -> np.ndarray:
    return inputs["generated" if "generated" in inputs else "inputs"]


OF_HISTORY = dict(mask="mask", masked=("history",))
OF_KEYS = dict(mask="key_mask", masked=("keys",))

CONTRACTS = {
    "ActivationUnit": LayerContract(
        layers.ActivationUnit,
        dict(units=[5, 3], activation="dice", momentum=0.5),
        history,
        **OF_HISTORY,
        oracle=layer_oracles.activation_unit,
        variants=(dict(activation="prelu"),),
        wrong=dict(units=[], activation="tanh", momentum=1),
    ),
    "BatchNorm": LayerContract(
        layers.BatchNorm,
        dict(momentum=0.5, epsilon=0.1),
        only("inputs", 4),
        oracle=layer_oracles.batch_norm,
        wrong=dict(momentum=1),
        any_shape=True,
    ),
    "ChannelShare": LayerContract(
        layers.ChannelShare,
        dict(floor=0.3, momentum=0.5),
        lambda batch: {"shares": np.abs(normal(0, batch, CHANNELS))},
        oracle=layer_oracles.channel_share,
        wrong=dict(floor=0, momentum=1),
    ),
    "CMIC": LayerContract(
        layers.ContrastiveMultiInterestCalibrator,
        dict(temp=0.2, loss_weight=0.3, hidden_factor=2, negatives="replica"),
        calibrator,
        mask="live",
        masked=("interests", "generated"),
        oracle=unchanged,
        wrong=dict(temp=0, loss_weight=-0.1, hidden_factor=0, negatives="local"),
    ),
    "Denoiser": LayerContract(
        layers.Denoiser,
        dict(n_layers=1, num_heads=2, dff_factor=2, dropout_rate=0.1, seed=2),
        denoiser,
        mask="live",
        masked=("noisy", "context", "channels"),
        wrong=dict(n_layers=0, num_heads=4, dff_factor=0, dropout_rate=-0.1),
    ),
    "Dice": LayerContract(
        layers.Dice,
        dict(epsilon=1e-4, momentum=0.5),
        only("inputs", 4),
        oracle=layer_oracles.dice,
        wrong=dict(epsilon=0, momentum=1.0),
        any_shape=True,
    ),
    "DMIG": LayerContract(
        layers.DiffusionMultiInterestGenerator,
        dict(
            diffusion=layers.Diffusion(timesteps=40, infer_timesteps=2, start_timestep=10),
            denoiser=layers.DenoiserConfig(n_layers=1, num_heads=3),
            loss_weight=0.2,
            seed=9,
        ),
        lambda batch: channels(batch, "interests", "channels"),
        mask="live",
        masked=("interests", "channels"),
        wrong=dict(loss_weight=-1, parts=0, seed=None),
    ),
    "FieldAlignedProjection": LayerContract(
        layers.FieldAlignedProjection,
        dict(partners=(1, None), field_dim=3, noise=0.2, seed=5),
        only("candidate", WIDTH),
        oracle=layer_oracles.projection,
        wrong=dict(field_dim=0, noise=-0.1, seed=0.5),
    ),
    "IdEmbedding": LayerContract(
        layers.IdEmbedding,
        dict(rows=11, dim=3, initializer=tf.keras.initializers.RandomUniform(seed=3)),
        lambda batch: {"row_ids": np.random.default_rng(0).integers(0, 11, [batch, 5])},
        oracle=layer_oracles.id_embedding,
        wrong=dict(rows=0, dim=2.5),
        any_shape=True,
    ),
    "InterestSummary": LayerContract(
        layers.InterestSummary,
        dict(floor=0.3, momentum=0.5),
        only("interests", CHANNELS, WIDTH),
        oracle=layer_oracles.interest_summary,
        wrong=dict(floor=0, momentum=1),
    ),
    "MultiHeadAttention": LayerContract(
        layers.MultiHeadAttention, dict(num_heads=2), attention, **OF_KEYS, wrong=dict(num_heads=4)
    ),
    "OMIE": LayerContract(
        layers.OrthogonalMultiInterestExtractor,
        dict(channels=3, top_p=30, seq_len=12, init_noise=0.05, seed=3),
        history,
        **OF_HISTORY,
        wrong=dict(
            channels=7,
            top_p=101,
            seq_len=-1,
            field_dim=0,
            channel_init="zeros",
            init_noise=-0.1,
            aggregation="max",
        ),
    ),
    "SampledHashAttention": LayerContract(
        layers.SampledHashAttention,
        dict(bits=12, width=3, seed=3),
        history,
        **OF_HISTORY,
        oracle=layer_oracles.sampled_hash_attention,
        variants=(dict(width=1), dict(width=12), dict(bits=48)),
        wrong=dict(bits=0, width=5),
    ),
    "SeededDropout": LayerContract(
        layers.SeededDropout,
        dict(rate=0.3, seed=4),
        only("inputs", 4),
        oracle=unchanged,
        wrong=dict(rate=1),
        any_shape=True,
    ),
    "SimHash": LayerContract(
        layers.SimHash,
        dict(bits=16, seed=4),
        only("vectors", LENGTH, WIDTH),
        oracle=layer_oracles.sim_hash,
        wrong=dict(bits=0, seed=0.5),
        any_shape=True,
    ),
    "SoftSearch": LayerContract(
        layers.SoftSearch,
        dict(top_k=3, units=[4], activation="prelu", momentum=0.5, loss_weight=0.5),
        lambda batch: {**history(batch), "label": np.arange(batch, dtype=np.float32) % 2},
        **OF_HISTORY,
        oracle=layer_oracles.soft_search,
        wrong=dict(top_k=0, loss_weight=-1, activation="tanh"),
    ),
    "TokenNorm": LayerContract(
        TokenNorm,
        dict(epsilon=0.01),
        only("inputs", LENGTH, WIDTH),
        oracle=layer_oracles.token_norm,
        any_shape=True,
    ),
    "Tower": LayerContract(
        layers.Tower,
        dict(
            units=[4, 3],
            activation="prelu",
            batch_norm=False,
            dropout_rate=0.1,
            momentum=0.5,
            seed=3,
        ),
        only("inputs", 5),
        oracle=layer_oracles.tower,
        variants=(
            dict(activation="dice", batch_norm=True),
            dict(activation="dice", units=[3]),
            dict(activation="prelu", batch_norm=True),
            dict(activation="relu", batch_norm=True),
            dict(activation="relu", units=[]),
        ),
        wrong=dict(units=[8, 0], activation="gelu", dropout_rate=1, momentum=1.0, seed="a"),
    ),
    "TransformerBlock": LayerContract(
        layers.TransformerBlock,
        dict(num_heads=2, dff_factor=3, dropout_rate=0.1, conditioned=True, seed=4),
        lambda batch: {**attention(batch), "condition": normal(2, batch, 1, WIDTH)},
        **OF_KEYS,
        wrong=dict(dff_factor=0, dropout_rate=1.0, seed=0.5),
    ),
    "TransformerEncoder": LayerContract(
        layers.TransformerEncoder,
        dict(n_layers=1, num_heads=2, dff_factor=3, dropout_rate=0.1, seed=7),
        tokens,
        mask="mask",
        masked=("tokens",),
        oracle=layer_oracles.encoder,
        variants=(dict(n_layers=2, num_heads=3), dict(num_heads=1)),
        wrong=dict(n_layers=0, num_heads=4, dff_factor=1.5, dropout_rate=1.0, seed=0.5),
    ),
    "TwinAttention": LayerContract(
        layers.TwinAttention,
        dict(num_heads=3, top_k=3, field_dim=2, inherent=[2, 0]),
        lambda batch: history(batch, candidate_width=4),
        **OF_HISTORY,
        oracle=layer_oracles.twin_attention,
        variants=(dict(num_heads=1), dict(top_k=20)),
        wrong=dict(top_k=0, inherent=[1, 1], num_heads=4, field_dim=5),
    ),
}
