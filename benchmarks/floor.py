"""What a step cannot do without: bytes to move and products to compute, part by part.

The counts are those of the algorithm, not of this or that implementation: every behaviour is
looked up and scored once, only the kept ones are differentiated, the last block of an encoder
answers one query, and attention to a single key is a projection.
"""

from typing import NamedTuple

from benchmarks.machine import Rates
from benchmarks.settings import Setting

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
        streamed: bytes read or written in order.
        gathered: bytes of table rows.
        narrow: multiply-adds of products as narrow as a behaviour.
        wide: multiply-adds of wide products.
    """

    streamed: float = 0.0
    gathered: float = 0.0
    narrow: float = 0.0
    wide: float = 0.0

    def seconds(self, rates: Rates) -> float:
        """The longer of moving and multiplying."""
        moving = self.streamed / rates.streamed + self.gathered / rates.gathered
        return max(moving, self.narrow / rates.narrow + self.wide / rates.wide)


def works(setting: Setting, tower_weights: int, training: bool) -> dict[str, Work]:
    """The parts of one step on a batch, by the names of the breakdown.

    Args:
        setting: sizes.
        tower_weights: entries of the kernels of the tower.
        training: whether the step is one of training.
    """
    config, layout = setting.config, setting.layout
    samples, length, fields = setting.batch_size, setting.length, len(layout.behaviours)
    width, channels = fields * config.embed_dim, config.channel_num
    kept, recent = channels * min(setting.kept, length), config.subseq_len
    gradient = _WITH_GRADIENT if training else 1
    parts = {
        "look up all": Work(
            streamed=samples * length * (fields * _INT + 1),
            gathered=samples * length * width * _FLOAT,
        ),
        "score and choose": Work(
            streamed=2 * samples * channels * length * _FLOAT,
            narrow=samples * (channels * width * width + length * channels * width),
        ),
        "look up what trains": Work(
            streamed=samples * (kept + recent) * fields * _INT,
            gathered=samples * (kept + recent) * width * _FLOAT * (2 if training else 1),
        ),
        "aggregate the kept": Work(narrow=samples * kept * 2 * width * gradient),
        "denoise": Work(narrow=samples * channels * _denoising(setting, width, training)),
        "short-term encoder": Work(narrow=samples * _encoding(setting, width) * gradient),
        "tower": Work(
            streamed=tower_weights * _FLOAT * gradient, wide=samples * tower_weights * gradient
        ),
    }
    if training:
        rows = samples * ((kept + recent) * fields + len(layout.fields))
        parts["optimisers"] = Work(
            streamed=tower_weights * _FLOAT * _ADAM_TRAFFIC,
            gathered=rows * config.embed_dim * _FLOAT * _ADAGRAD_TRAFFIC,
        )
    return parts


def _denoising(setting: Setting, width: int, training: bool) -> float:
    """Multiply-adds for one channel of one sample: L_d, all sampling steps, what they share."""
    config, tokens = setting.config, setting.config.channel_num
    # Of a pass: the noisy token is projected to query, key and value; those of the others are
    # known. Then every block attends to C tokens, projects, and feeds forward.
    one = 3 * width**2
    for block in range(config.n_layers):
        queries = 1 if block == config.n_layers - 1 else tokens
        projected = queries + 2 * tokens if block else 0
        one += projected * width**2 + _attend_and_feed(setting, width, queries, tokens)
    shared, steps = (3 + config.n_layers) * width**2, config.infer_timesteps
    if not training:
        return shared + steps * one
    differentiated = min(config.sampler_grad_steps or steps, steps)
    constant = steps - differentiated
    return _WITH_GRADIENT * (shared + (1 + differentiated) * one) + constant * one


def _encoding(setting: Setting, width: int) -> int:
    """Multiply-adds of the short-term encoder for one sample."""
    config = setting.config
    tokens, total = config.subseq_len + 1, 0
    for block in range(config.n_layers if config.subseq_len else 0):
        queries = 1 if block == config.n_layers - 1 else tokens
        projected = (queries + 2 * tokens) * width**2
        total += projected + _attend_and_feed(setting, width, queries, tokens)
    return total


def _attend_and_feed(setting: Setting, width: int, queries: int, keys: int) -> int:
    factor = setting.config.dff_factor
    return 2 * queries * keys * width + queries * (1 + 2 * factor) * width**2
