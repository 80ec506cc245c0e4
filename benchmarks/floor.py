"""What a step cannot do without: bytes to move, products to compute, and the time that takes.

The counts are those of the algorithm, not of this or that implementation: every behaviour is
looked up and scored once, only the kept ones are differentiated, the last block of an encoder
answers one query, the only key of a cross-attention makes it a projection.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from benchmarks import machine
from benchmarks.contenders import SCORING, TRAINING
from benchmarks.machine import Rates
from benchmarks.plan import Plan
from benchmarks.settings import Setting
from benchmarks.tables import table
from benchmarks.timing import product_alone

_LENGTH = 5000
_FLOAT = _INT = 4  # bytes
# A product has two more in its gradient: for its input and for its kernel.
_WITH_GRADIENT = 3
# Adam reads gradient, weight and two moments, and writes the last three.
_ADAM_TRAFFIC = 7
# Adagrad reads gradient, row and accumulator, and writes the last two.
_ADAGRAD_TRAFFIC = 5


class Work(NamedTuple):
    """What a part of a step must do.

    Attributes:
        part: its name.
        streamed: bytes read or written in order.
        gathered: bytes of table rows.
        narrow: multiply-adds of products as narrow as a behaviour.
        wide: multiply-adds of wide products.
    """

    part: str
    streamed: float = 0.0
    gathered: float = 0.0
    narrow: float = 0.0
    wide: float = 0.0

    def seconds(self, rates: Rates, narrow: float) -> float:
        """The longer of moving and multiplying, at `narrow` multiply-adds a second."""
        moving = self.streamed / rates.streamed + self.gathered / rates.gathered
        return max(moving, self.narrow / narrow + self.wide / rates.wide)


def measure(plan: Plan, say: Callable[[str], None]) -> dict:
    """Rates of the machine, least times of the parts of a step, and how far it is above them."""
    setting = plan.standard(_LENGTH)
    say("floor: what memory and processor can do")
    rates = machine.rates(setting.rows)
    say(f"floor: product at L={_LENGTH:,}")
    times = product_alone(plan, setting)
    result = {"length": _LENGTH, "rates": rates._asdict()}
    for kind in (TRAINING, SCORING):
        parts = works(setting, training=kind == TRAINING)
        # At the rate of products this narrow, and at that of the best products there are.
        least = [(w.seconds(rates, rates.narrow), w.seconds(rates, rates.wide)) for w in parts]
        floor_ms, best_ms = (1000 * sum(column) for column in zip(*least, strict=True))
        measured_ms = 1000 * min(times[kind].seconds)
        result[kind] = {
            "parts": [
                {**work._asdict(), "floor_ms": 1000 * narrow, "best_ms": 1000 * wide}
                for work, (narrow, wide) in zip(parts, least, strict=True)
            ],
            "floor_ms": floor_ms,
            "best_ms": best_ms,
            "measured_ms": measured_ms,
            "above": measured_ms / floor_ms,
            "above_best": measured_ms / best_ms,
        }
    return result


def tables(result: dict) -> list[str]:
    """The rates, and a table of parts for each kind of step."""
    rates = Rates(**result["rates"])
    out = [
        "\nthis machine at best: "
        f"{rates.streamed / 1e9:.1f} GB/s in order, {rates.gathered / 1e9:.1f} GB/s of table rows, "
        f"{2 * rates.wide / 1e9:.0f} GFLOP/s in products of 1024 × 1024, "
        f"{2 * rates.narrow / 1e9:.0f} GFLOP/s in products of 1024 × 24 × 72"
    ]
    for kind in (TRAINING, SCORING):
        entry = result[kind]
        rows = [
            [
                part["part"],
                f"{(part['streamed'] + part['gathered']) / 1e6:,.1f}",
                f"{2 * (part['narrow'] + part['wide']) / 1e6:,.0f}",
                f"{part['floor_ms']:.2f}",
                f"{part['best_ms']:.2f}",
            ]
            for part in entry["parts"]
        ]
        rows.append(["sum", "", "", f"{entry['floor_ms']:.2f}", f"{entry['best_ms']:.2f}"])
        above = (f"{entry[key]:.1f} times" for key in ("above", "above_best"))
        rows.append([f"measured {entry['measured_ms']:.2f} ms, above", "", "", *above])
        header = ["part", "MB", "MFLOP", "floor, ms", "at the best rate, ms"]
        title = f"least a {kind} step must do at L={result['length']:,}"
        out.append(table(title, header, rows))
    return out


def works(setting: Setting, training: bool) -> list[Work]:
    """The parts of one step on a batch."""
    config, layout = setting.config, setting.layout
    samples, length, fields = setting.batch_size, setting.length, len(layout.behaviours)
    width, channels = fields * config.embed_dim, config.channel_num
    kept = channels * min(max(math.ceil(config.top_p * length / 100 - 1e-6), 1), length)
    recent = config.subseq_len
    gradient = _WITH_GRADIENT if training else 1
    parameters = tower_parameters(setting)
    parts = [
        Work(
            "look up all behaviours",
            streamed=samples * length * (fields * _INT + 1),
            gathered=samples * length * width * _FLOAT,
        ),
        Work(
            "score and choose",
            streamed=2 * samples * channels * length * _FLOAT,
            narrow=samples * (channels * width * width + length * channels * width),
        ),
        Work(
            "aggregate the kept",
            streamed=samples * kept * fields * _INT,
            gathered=samples * kept * width * _FLOAT * (2 if training else 1),
            narrow=samples * kept * 2 * width * gradient,
        ),
        Work("denoise", narrow=samples * channels * _denoising(setting, training)),
        Work(
            "short-term encoder",
            streamed=samples * recent * fields * _INT,
            gathered=samples * recent * width * _FLOAT * (2 if training else 1),
            narrow=samples * short_term_pass(setting) * gradient,
        ),
        Work(
            "tower",
            streamed=parameters * _FLOAT * gradient,
            wide=samples * parameters * gradient,
        ),
    ]
    if training:
        rows = samples * ((kept + recent) * fields + len(layout.fields))
        parts.append(
            Work(
                "optimisers",
                streamed=parameters * _FLOAT * _ADAM_TRAFFIC,
                gathered=rows * config.embed_dim * _FLOAT * _ADAGRAD_TRAFFIC,
            )
        )
    return parts


def denoiser_pass(setting: Setting) -> int:
    """Multiply-adds for one channel of one sample at one timestep.

    Its own token is projected to query, key and value; those of the other tokens are known. Then
    every block has attention among C tokens, its output projection, and feed-forward.
    """
    config = setting.config
    tokens, width = config.channel_num, _width(setting)
    total = 3 * width**2
    for block in range(config.n_layers):
        queries = 1 if block == config.n_layers - 1 else tokens
        projected = queries + 2 * tokens if block else 0
        total += projected * width**2 + _attend_and_feed(setting, queries, tokens)
    return total


def short_term_pass(setting: Setting) -> int:
    """Multiply-adds of the short-term encoder for one sample."""
    config, width = setting.config, _width(setting)
    if not config.subseq_len:
        return 0
    tokens, total = config.subseq_len + 1, 0
    for block in range(config.n_layers):
        queries = 1 if block == config.n_layers - 1 else tokens
        total += (queries + 2 * tokens) * width**2 + _attend_and_feed(setting, queries, tokens)
    return total


def tower_width(setting: Setting) -> int:
    """What the tower reads: e_other, interests and their lengths, r*, e*_s."""
    config, layout, features = setting.config, setting.layout, setting.features
    ids = len(features.user) + len(features.candidate) + len(features.context)
    width, channels = _width(setting), config.channel_num
    interests = channels * (width + 1) + channels * width
    interests += 2 * channels if config.channel_share else 0
    short_term = width if config.subseq_len else 0
    return ids * config.embed_dim + interests + short_term + len(layout.dense)


def tower_parameters(setting: Setting) -> int:
    """Entries of the kernels of the tower."""
    widths = [tower_width(setting), *setting.config.deep_layers, 1]
    return sum(one * other for one, other in zip(widths[:-1], widths[1:], strict=True))


def _denoising(setting: Setting, training: bool) -> float:
    """Multiply-adds for one channel of one sample: L_d, all sampling steps, what they share."""
    config, width = setting.config, _width(setting)
    shared = (3 + config.n_layers) * width**2
    one, steps = denoiser_pass(setting), config.infer_timesteps
    if not training:
        return shared + steps * one
    differentiated = min(config.sampler_grad_steps or steps, steps)
    constant = steps - differentiated
    return _WITH_GRADIENT * (shared + (1 + differentiated) * one) + constant * one


def _attend_and_feed(setting: Setting, queries: int, keys: int) -> int:
    width, factor = _width(setting), setting.config.dff_factor
    return 2 * queries * keys * width + queries * (1 + 2 * factor) * width**2


def _width(setting: Setting) -> int:
    return len(setting.layout.behaviours) * setting.config.embed_dim
