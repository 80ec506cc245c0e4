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
        layer: the class.
        arguments: of its constructor; not the defaults, so that a lost one shows.
        inputs: call arguments of a batch of the given size, in their order.
        mask: the input that hides others; axis 1 of a mask of a sequence may have any length.
        masked: the inputs that it hides.
        oracle: `(layer, inputs, training) → outputs` in float64, or None where the test file of
            the layer compares it with one.
        variants: other arguments that the oracle is compared with.
        wrong: for each argument that is checked, values that are refused.
        any_shape: whether inputs of every rank and width are welcome.
    """

    layer: type
    arguments: dict[str, Any]
    inputs: Callable[[int], Inputs]
    mask: str | None = None
    masked: tuple[str, ...] = ()
    oracle: Callable[..., Any] | None = None
    variants: tuple[dict[str, Any], ...] = ()
    wrong: dict[str, tuple] = dataclasses.field(default_factory=dict)
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


def history(candidate_width: int = WIDTH) -> Callable[[int], Inputs]:
    return lambda batch: {
        "history": normal(0, batch, LENGTH, WIDTH),
        "candidate": normal(1, batch, candidate_width),
        "mask": some_true(batch, LENGTH),
    }


def channels(*names: str) -> Callable[[int], Inputs]:
    return lambda batch: {
        **{name: normal(seed, batch, CHANNELS, WIDTH) for seed, name in enumerate(names)},
        "live": some_true(batch, CHANNELS),
    }


def only(name: str, *shape: int) -> Callable[[int], Inputs]:
    return lambda batch: {name: normal(0, batch, *shape)}


def calibrator_inputs(batch: int) -> Inputs:
    return {
        **channels("interests", "generated")(batch),
        "user_ids": np.arange(batch) % 3 + 2**40,
    }


def denoiser_inputs(batch: int) -> Inputs:
    timestep = np.random.default_rng(3).integers(0, 100, [batch, CHANNELS])
    return {**channels("noisy", "context", "channels")(batch), "timestep": timestep}


def search_inputs(batch: int) -> Inputs:
    return {**history()(batch), "label": np.arange(batch, dtype=np.float32) % 2}


def token_inputs(*, keys: str | None = None, condition: bool = False) -> Callable[[int], Inputs]:
    def inputs(batch: int) -> Inputs:
        tokens = {"tokens": normal(0, batch, LENGTH, WIDTH)}
        if keys:
            tokens = {"query": normal(1, batch, 2, WIDTH), keys: normal(0, batch, LENGTH, WIDTH)}
        mask = "key_mask" if keys else "mask"
        last = {"condition": normal(2, batch, 1, WIDTH)} if condition else {}
        return {**tokens, mask: some_true(batch, LENGTH), **last}

    return inputs


DIFFUSION = {"timesteps": 40, "infer_timesteps": 2, "start_timestep": 10, "n_layers": 1}

CONTRACTS = {
    "BatchNorm": LayerContract(
        layers.BatchNorm,
        {"momentum": 0.5, "epsilon": 0.1},
        only("inputs", 4),
        oracle=layer_oracles.batch_norm,
        any_shape=True,
    ),
    "ChannelShare": LayerContract(
        layers.ChannelShare,
        {"floor": 0.3, "momentum": 0.5},
        lambda batch: {"shares": np.abs(normal(0, batch, CHANNELS))},
        oracle=layer_oracles.channel_share,
        wrong={"floor": (0,), "momentum": (1,)},
    ),
    "CMIC": LayerContract(
        layers.ContrastiveMultiInterestCalibrator,
        {"temp": 0.2, "loss_weight": 0.3, "hidden_factor": 2, "negatives": "replica"},
        calibrator_inputs,
        mask="live",
        masked=("interests", "generated"),
        oracle=lambda layer, inputs, training: inputs["generated"],
        wrong={
            "temp": (0,),
            "loss_weight": (-0.1,),
            "hidden_factor": (0,),
            "negatives": ("local", None),
        },
    ),
    "Denoiser": LayerContract(
        layers.Denoiser,
        {"n_layers": 1, "num_heads": 2, "dff_factor": 2, "dropout_rate": 0.1, "seed": 2},
        denoiser_inputs,
        mask="live",
        masked=("noisy", "context", "channels"),
        wrong={"n_layers": (0,), "num_heads": ("2", 4), "dff_factor": (0,), "dropout_rate": (-1,)},
    ),
    "Dice": LayerContract(
        layers.Dice,
        {"epsilon": 1e-4, "momentum": 0.5},
        only("inputs", 4),
        oracle=layer_oracles.dice,
        wrong={"epsilon": (0,), "momentum": (1.0,)},
        any_shape=True,
    ),
    "DMIG": LayerContract(
        layers.DiffusionMultiInterestGenerator,
        {**DIFFUSION, "num_heads": 3, "loss_weight": 0.2, "dropout_rate": 0.1, "seed": 9},
        channels("interests", "channels"),
        mask="live",
        masked=("interests", "channels"),
        wrong={
            "timesteps": (10.5,),
            "infer_timesteps": (0,),
            "start_timestep": (40,),
            "beta_sche": ("sqrt",),
            "beta_start": (0,),
            "n_layers": (0,),
            "prediction_type": ("velocity",),
            "loss_weight": (-1,),
            "seed": (None,),
        },
    ),
    "FieldAlignedProjection": LayerContract(
        layers.FieldAlignedProjection,
        {"partners": (1, None), "field_dim": 3, "noise": 0.2, "seed": 5},
        only("candidate", WIDTH),
        oracle=layer_oracles.projection,
        wrong={"field_dim": (0,), "noise": (-0.1,), "seed": (0.5,)},
    ),
    "IdEmbedding": LayerContract(
        layers.IdEmbedding,
        {"rows": 11, "dim": 3, "initializer": tf.keras.initializers.RandomUniform(seed=3)},
        lambda batch: {"row_ids": np.random.default_rng(0).integers(0, 11, [batch, 5])},
        oracle=layer_oracles.id_embedding,
        wrong={"rows": (0, True), "dim": (2.5,)},
        any_shape=True,
    ),
    "InterestSummary": LayerContract(
        layers.InterestSummary,
        {"floor": 0.3, "momentum": 0.5},
        only("interests", CHANNELS, WIDTH),
        oracle=layer_oracles.interest_summary,
        wrong={"floor": (0,), "momentum": (1, -0.5)},
    ),
    "MultiHeadAttention": LayerContract(
        layers.MultiHeadAttention,
        {"num_heads": 2},
        token_inputs(keys="keys"),
        mask="key_mask",
        masked=("keys",),
        wrong={"num_heads": (0, 4)},
    ),
    "OMIE": LayerContract(
        layers.OrthogonalMultiInterestExtractor,
        {"channels": 3, "top_p": 30, "seq_len": 12, "init_noise": 0.05, "seed": 3},
        history(),
        mask="mask",
        masked=("history",),
        wrong={
            "channels": (0, 7),
            "top_p": (0, 101),
            "seq_len": (-1,),
            "field_dim": (0,),
            "channel_init": ("zeros",),
            "init_noise": (-0.1,),
            "aggregation": ("max",),
        },
    ),
    "ActivationUnit": LayerContract(
        layers.ActivationUnit,
        {"units": [5, 3], "activation": "dice", "momentum": 0.5},
        history(),
        mask="mask",
        masked=("history",),
        oracle=layer_oracles.activation_unit,
        variants=({"activation": "prelu"},),
        wrong={"units": ([], [3, 0]), "activation": ("tanh",), "momentum": (1,)},
    ),
    "SampledHashAttention": LayerContract(
        layers.SampledHashAttention,
        {"bits": 12, "width": 3, "seed": 3},
        history(),
        mask="mask",
        masked=("history",),
        oracle=layer_oracles.sampled_hash_attention,
        variants=({"width": 1}, {"width": 12}, {"bits": 48}),
        wrong={"bits": (0,), "width": (5,)},
    ),
    "SeededDropout": LayerContract(
        layers.SeededDropout,
        {"rate": 0.3, "seed": 4},
        only("inputs", 4),
        oracle=lambda layer, inputs, training: inputs["inputs"],
        wrong={"rate": (-0.1, 1, "half", None, float("nan"))},
        any_shape=True,
    ),
    "SimHash": LayerContract(
        layers.SimHash,
        {"bits": 16, "seed": 4},
        only("vectors", LENGTH, WIDTH),
        oracle=layer_oracles.sim_hash,
        wrong={"bits": (0,), "seed": (0.5,)},
        any_shape=True,
    ),
    "SoftSearch": LayerContract(
        layers.SoftSearch,
        {
            "top_k": 3,
            "units": [4],
            "activation": "prelu",
            "momentum": 0.5,
            "loss_weight": 0.5,
        },
        search_inputs,
        mask="mask",
        masked=("history",),
        oracle=layer_oracles.soft_search,
        wrong={"top_k": (0,), "loss_weight": (-1,), "activation": ("tanh",)},
    ),
    "TokenNorm": LayerContract(
        TokenNorm,
        {"epsilon": 0.01},
        only("inputs", LENGTH, WIDTH),
        oracle=layer_oracles.token_norm,
        any_shape=True,
    ),
    "Tower": LayerContract(
        layers.Tower,
        {
            "units": [4, 3],
            "activation": "prelu",
            "batch_norm": False,
            "dropout_rate": 0.1,
            "momentum": 0.5,
            "seed": 3,
        },
        only("inputs", 5),
        oracle=layer_oracles.tower,
        variants=tuple(
            {"activation": activation, "batch_norm": batch_norm, "units": units}
            for activation, batch_norm, units in [
                ("dice", True, [8, 4]),
                ("dice", False, [3]),
                ("prelu", True, [3]),
                ("relu", True, [8, 4]),
                ("relu", False, [3]),
                ("relu", True, []),
            ]
        ),
        wrong={
            "units": (8, [8, 0]),
            "activation": ("gelu",),
            "dropout_rate": (1,),
            "momentum": (1.0,),
            "seed": ("a",),
        },
    ),
    "TransformerBlock": LayerContract(
        layers.TransformerBlock,
        {"num_heads": 2, "dff_factor": 3, "dropout_rate": 0.1, "conditioned": True, "seed": 4},
        token_inputs(keys="keys", condition=True),
        mask="key_mask",
        masked=("keys",),
        wrong={"dff_factor": (0,), "dropout_rate": (1.0,), "seed": (0.5,)},
    ),
    "TransformerEncoder": LayerContract(
        layers.TransformerEncoder,
        {"n_layers": 1, "num_heads": 2, "dff_factor": 3, "dropout_rate": 0.1, "seed": 7},
        token_inputs(),
        mask="mask",
        masked=("tokens",),
        oracle=layer_oracles.encoder,
        variants=({"n_layers": 2, "num_heads": 3}, {"num_heads": 1}),
        wrong={
            "n_layers": (0,),
            "num_heads": (0, 4),
            "dff_factor": (1.5,),
            "dropout_rate": (1.0,),
            "seed": (0.5,),
        },
    ),
    "TwinAttention": LayerContract(
        layers.TwinAttention,
        {"num_heads": 3, "top_k": 3, "field_dim": 2, "inherent": [2, 0]},
        history(candidate_width=4),
        mask="mask",
        masked=("history",),
        oracle=layer_oracles.twin_attention,
        variants=({"num_heads": 1}, {"top_k": 20}),
        wrong={"top_k": (0,), "inherent": ([], [1, 1], [3]), "num_heads": (4,), "field_dim": (5,)},
    ),
}
