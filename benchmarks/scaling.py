"""What a training step moves and takes on many devices, worked out from what its parts cost.

Formulas alone: `benchmarks.distribution` measures what they need, `docs/scaling.md` explains
them. Bytes are those that one device or machine receives; a ring sends as many at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_FLOAT = _INDEX = 4  # bytes; rows are int32
_LONG = 8
_ADAGRAD_COPIES = 2  # the table and its accumulators
_ADAM_COPIES = 3  # a weight and its two moments
_STATISTICS = 3  # of a batch norm: count, mean, squared deviations


class Sizes(NamedTuple):
    """What of a model decides its costs.

    Attributes:
        rows, dim: of the embedding table.
        trained: rows of the table that the gradient of one sample has, with repetitions.
        scanned: rows that one sample reads without a gradient, with repetitions.
        parameters: trained weights but for the table.
        looped: those among them that every sampling step without a gradient reads once more.
        loops: such sampling steps.
        norms: widths of the batch normalisations that pass a gradient on.
        inputs: width of that of the dense features, which does not; 0 without.
        interests: entries of the generated interests of one sample.
        channels: their number.
    """

    rows: int
    dim: int
    trained: int
    scanned: int
    parameters: int
    looped: int
    loops: int
    norms: tuple[int, ...]
    inputs: int
    interests: int
    channels: int

    @property
    def row_bytes(self) -> int:
        """One row of a gradient: its values and its number."""
        return _FLOAT * self.dim + _INDEX

    @property
    def table_bytes(self) -> int:
        """The table and its accumulators."""
        return _ADAGRAD_COPIES * _FLOAT * self.rows * self.dim

    @property
    def checkpoint_bytes(self) -> int:
        """What is saved: all weights and the state of both optimisers."""
        return self.table_bytes + _ADAM_COPIES * _FLOAT * self.parameters


class Exchange(NamedTuple):
    """Collectives of one kind in a step.

    Attributes:
        what: what they are for.
        count: how many there are.
        received: bytes that a replica receives in all of them.
    """

    what: str
    count: int
    received: float


class Device(NamedTuple):
    """What one device can do.

    Attributes:
        samples: samples a second that it trains, the update of table rows left out.
        rows: rows of a gradient a second that it adds up and applies to the table.
        link: bytes a second that it receives from others.
        latency: seconds that a collective, or a question to a server, takes however short it is.
    """

    samples: float
    rows: float
    link: float
    latency: float


class Servers(NamedTuple):
    """Parameter servers.

    Attributes:
        count: how many.
        rows: rows of a gradient a second that one of them applies.
        link: bytes a second that one of them sends or receives.
        hottest: share of all rows asked for that the one with the most frequent rows holds.
    """

    count: int
    rows: float
    link: float
    hottest: float


class Shares(NamedTuple):
    """Different rows as a share of all rows that a worker's batch scans and trains."""

    scanned: float
    trained: float


def exchanges(sizes: Sizes, batch: int, replicas: int, processes: int = 1) -> list[Exchange]:
    """All collectives of one synchronous step.

    Args:
        sizes: of the model.
        batch: samples of the global batch.
        replicas: N, that share it.
        processes: that hold the replicas; several ones also tell each other what to do next.
    """
    others = replicas - 1

    def reduced(payload: float) -> float:
        return 2 * others / replicas * payload

    statistics = replicas * _STATISTICS * _FLOAT  # each replica's own, side by side
    negatives = batch * (2 * _FLOAT * sizes.interests + _FLOAT * sizes.channels + _LONG)
    places, counts, losses = 2 * replicas * _LONG, 3 * _FLOAT, 2 * _FLOAT
    wishes = 3 * _FLOAT if processes > 1 else 0
    return [
        Exchange(
            "gradient of the table",
            3,  # lengths, values, rows
            others * (batch / replicas * sizes.trained * sizes.row_bytes + _INDEX),
        ),
        Exchange("gradients of all else", 1, reduced(_FLOAT * sizes.parameters)),
        Exchange(
            "batch normalisation, forward and backward",
            2 * len(sizes.norms) + (sizes.inputs > 0),
            reduced(statistics * (2 * sum(sizes.norms) + sizes.inputs)),
        ),
        Exchange("negatives, forward and backward", 4, reduced(negatives)),
        Exchange(
            "places in the batch, counts, losses",
            2 + 3 + 1 + (processes > 1),
            reduced(places + counts + losses + wishes),
        ),
    ]


def synchronous(
    sizes: Sizes, device: Device, batch: int, replicas: int, processes: int = 1
) -> dict[str, float]:
    """Seconds of the parts of one step of N replicas on a global batch, one after the other."""
    table, *rest = exchanges(sizes, batch, replicas, processes)
    count = table.count + sum(exchange.count for exchange in rest)
    return {
        "compute": batch / replicas / device.samples,
        "apply rows of all": batch * sizes.trained / device.rows,
        "receive rows": table.received / device.link,
        "receive all else": sum(exchange.received for exchange in rest) / device.link,
        "latency": count * device.latency if replicas > 1 else 0.0,
    }


def ceiling(sizes: Sizes, device: Device) -> float:
    """Samples a second that no number of synchronous replicas exceeds.

    `1 / (R (w / link + 1 / rows))`: every replica receives and applies the R rows, w bytes each,
    of every sample of the global batch.
    """
    return 1 / (sizes.trained * (sizes.row_bytes / device.link + 1 / device.rows))


def worthwhile(sizes: Sizes, device: Device) -> float:
    """N at which synchronous replicas spend as much time on the rows of others as on their own."""
    return ceiling(sizes, device) / device.samples


def exchanged(sizes: Sizes, batch: int, shares: Shares) -> tuple[float, float]:
    """Bytes that an asynchronous worker receives and sends in a step on its batch.

    It asks for different rows when it scans, for all rows when it trains, and sends the gradient of
    different ones. Dense weights come whole and their gradients go whole.
    """
    scanned, trained = batch * sizes.scanned * shares.scanned, batch * sizes.trained
    weights = sizes.parameters + sizes.loops * sizes.looped
    received = _FLOAT * sizes.dim * (scanned + trained) + _FLOAT * weights
    sent = _INDEX * (scanned + trained) + shares.trained * trained * sizes.row_bytes
    return received, sent + _FLOAT * sizes.parameters


def asynchronous(
    sizes: Sizes, device: Device, servers: Servers, batch: int, workers: int, shares: Shares
) -> dict[str, float]:
    """Samples a second to which workers, links of servers and updates by servers limit training.

    Args:
        sizes: of the model.
        device: a worker.
        servers: where the table lies, in parts; dense weights lie evenly.
        batch: samples of a worker's batch.
        workers: how many.
        shares: of different rows in such a batch.
    """
    received, sent = exchanged(sizes, batch, shares)
    waits = (4 + sizes.loops) * device.latency  # fields, scan, what trains, updates
    step = batch / device.samples + (received + sent) / device.link + waits
    hottest = servers.hottest * max(received, sent) / batch
    updated = servers.hottest * sizes.trained * shares.trained
    return {
        "workers": workers * batch / step,
        "links of servers": servers.link / hottest,
        "updates by servers": servers.rows / updated,
    }


def overhead(save_seconds: float, interval: float) -> float:
    """Share of training time that goes into checkpoints every `interval` seconds of training."""
    return save_seconds / interval


def save_line(bytes_written: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """(seconds of a save whatever its size, bytes a second), by the smallest and the largest."""
    (small, quick), *_, (large, slow) = sorted(zip(bytes_written, seconds, strict=True))
    rate = (large - small) / max(slow - quick, 1e-9)
    return max(quick - small / rate, 0.0), rate
