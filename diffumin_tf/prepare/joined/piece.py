"""Samples of a file of the joined form, and the order in which they are written."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diffumin_tf.input.records import SampleColumns, spans

_DAYS = 10**8  # more than a day yyyymmdd
_MATRICES, _LISTED = (
    ("label", "auxiliary_info", "cat_feature", "dense_feature"),
    ("sequences", "multi"),
)


class Piece(NamedTuple):
    """Samples of a file.

    Attributes:
        days: int64 [n], yyyymmdd.
        order: int64 [n], by which samples that share no record stand in the file; or None.
        shown: the columns that lie within the impressions.
        read_bytes: how much of the file this piece is, about.
    """

    samples: SampleColumns
    days: np.ndarray
    order: np.ndarray | None
    shown: frozenset[str]
    read_bytes: float


def grouped(piece: Piece, row: np.ndarray) -> Piece:
    """The samples of a row and day side by side, in ascending order; so are those that are first.

    Args:
        row: int64 [n], of the file.
    """
    order = np.arange(len(row)) if piece.order is None else piece.order
    _, group = np.unique(row * _DAYS + piece.days, return_inverse=True)
    by_group = np.lexsort((order, group))
    first = order[by_group[np.unique(group[by_group], return_index=True)[1]]]
    place = np.lexsort((order, group, first[group]))
    taken = _taken(piece, place)
    taken.samples.group = group[place]
    return taken._replace(order=None)


def in_order(found: Sequence[Piece]) -> Piece:
    """The samples of pieces in ascending order; the ids of histories stay as they are."""

    def joined(arrays) -> np.ndarray:
        return np.concatenate(list(arrays))

    def lists(kind: str) -> dict[str, tuple[np.ndarray, ...]]:
        result = {}
        for name in getattr(found[0].samples, kind):
            each = [spans(getattr(piece.samples, kind)[name]) for piece in found]
            before = itertools.accumulate((len(ids) for ids, _, _ in each), initial=0)
            shifted = [(a + n, b + n) for (_, a, b), n in zip(each, before, strict=False)]
            start, stop = (joined(edges) for edges in zip(*shifted, strict=True))
            result[name] = joined(ids for ids, _, _ in each), start, stop
        return result

    columns = {g: joined(getattr(piece.samples, g) for piece in found) for g in _MATRICES}
    columns |= {kind: lists(kind) for kind in _LISTED}
    whole = found[0]._replace(
        samples=SampleColumns(**columns),
        days=joined(piece.days for piece in found),
        order=joined(piece.order for piece in found),
        read_bytes=sum(piece.read_bytes for piece in found),
    )
    return _taken(whole, np.argsort(whole.order, kind="stable"))


def _taken(piece: Piece, place: np.ndarray) -> Piece:
    """Some samples of a piece."""
    samples = piece.samples
    columns: dict[str, Any] = {group: getattr(samples, group)[place] for group in _MATRICES}
    for kind in _LISTED:
        each = ((name, spans(lists)) for name, lists in getattr(samples, kind).items())
        columns[kind] = {name: (ids, a[place], b[place]) for name, (ids, a, b) in each}
    order = None if piece.order is None else piece.order[place]
    return piece._replace(samples=SampleColumns(**columns), days=piece.days[place], order=order)
