"""Behaviours written as parallel lists, `"12;7;-99"` a cell: split, checked, newest first."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diffumin_tf.prepare import columns
from diffumin_tf.prepare.tables import ALWAYS_MISSING

SEPARATOR = ";"


@dataclasses.dataclass(frozen=True)
class BehaviourLists:
    """The lists of n rows, entry after entry.

    Attributes:
        entries: texts [total] by list name, dictionary-encoded, `""` where missing.
        splits: int64 [n + 1], row i holds the entries `splits[i]:splits[i + 1]`.
    """

    entries: dict[str, pa.DictionaryArray]
    splits: np.ndarray

    @classmethod
    def split(cls, cells: Mapping[str, pa.Array], missing: Sequence[str]) -> "BehaviourLists":
        """Splits cells [n] by list name whose lists `list_faults` found to be of equal length."""
        lengths = np.maximum(_lengths(cells).max(axis=0), 0)
        splits = np.concatenate([[0], np.cumsum(lengths)])
        return cls({n: _entries(c, lengths, missing) for n, c in cells.items()}, splits)

    def newest_first(
        self, age: np.ndarray, list_order: str, ids: Mapping[str, np.ndarray], max_len: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Puts the most recent behaviour first and leaves out positions where all is missing.

        Args:
            age: float64 [total], time since each behaviour; NaN where unknown.
            list_order: `"newest_first"`, `"oldest_first"`, or `"auto"`: a row is oldest first
                when its first known age is larger than its last.
            ids: int64 [total] by list name, 0 where missing.
            max_len: behaviours kept at most.

        Returns:
            positions of the kept entries and row splits int64 [n + 1].
        """
        rows = len(self.splits) - 1
        row = np.repeat(np.arange(rows), np.diff(self.splits))
        position = np.arange(self.splits[-1])
        reverse = {
            "newest_first": np.zeros(rows, bool),
            "oldest_first": np.ones(rows, bool),
            "auto": self._oldest_first(age, row),
        }[list_order]
        mirrored = self.splits[row] + self.splits[row + 1] - 1 - position
        order = np.where(reverse[row], mirrored, position)
        known = np.any([column != 0 for column in ids.values()], axis=0)[order]
        order, row = order[known], row[known]
        rank = np.arange(len(row)) - np.searchsorted(row, row, side="left")
        order, row = order[rank < max_len], row[rank < max_len]
        return order, np.searchsorted(row, np.arange(rows + 1), side="left")

    def _oldest_first(self, age: np.ndarray, row: np.ndarray) -> np.ndarray:
        rows = np.arange(len(self.splits) - 1)
        known = np.flatnonzero(~np.isnan(age))
        first = np.searchsorted(row[known], rows, side="left")
        last = np.searchsorted(row[known], rows, side="right") - 1
        oldest_first = first < last
        compared = np.flatnonzero(oldest_first)
        oldest_first[compared] = age[known[first[compared]]] > age[known[last[compared]]]
        return oldest_first


def list_faults(
    cells: Mapping[str, pa.Array], numeric: Sequence[str], missing: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """What makes the lists of a row unusable, as pairs of a reason and a mask bool [n].

    A cell that is missing as a whole fits lists of any length.

    Args:
        cells: texts [n] by list name.
        numeric: names of the lists whose entries must be numbers.
        missing: texts that mean a missing entry.
    """
    lengths = _lengths(cells)
    yield "lists of unequal length", ((lengths >= 0) & (lengths != lengths.max(axis=0))).any(axis=0)
    for name in numeric:
        split = pc.split_pattern(cells[name], SEPARATOR)
        wrong = columns.not_numbers(_without_missing(split.flatten(), missing))
        mask = np.zeros(len(split), bool)
        mask[pc.list_parent_indices(split).to_numpy()[wrong]] = True
        yield f"{name} holds an entry that is no number", mask


def _lengths(cells: Mapping[str, pa.Array]) -> np.ndarray:
    """Entries of every cell int64 [lists, n]; -1 for a cell that is missing."""
    counts = [pc.count_substring(cell, SEPARATOR).to_numpy() + 1 for cell in cells.values()]
    absent = [columns.is_missing(cell) for cell in cells.values()]
    return np.where(absent, -1, counts).astype(np.int64)


def _entries(cells: pa.Array, lengths: np.ndarray, missing: Sequence[str]) -> pa.DictionaryArray:
    absent = columns.is_missing(cells)
    flat = pc.split_pattern(cells.filter(pa.array(~absent)), SEPARATOR).flatten()
    if absent.any():
        there = np.repeat(~absent, lengths)
        flat = pc.fill_null(flat.take(pa.array(np.cumsum(there) - 1, mask=~there)), "")
    return _without_missing(flat, missing)


def _without_missing(flat: pa.Array, missing: Sequence[str]) -> pa.DictionaryArray:
    """The entries with `""` for every text that means a missing one."""
    encoded = flat.dictionary_encode()
    absent = pc.is_in(encoded.dictionary, value_set=pa.array([*ALWAYS_MISSING, *missing]))
    return pa.DictionaryArray.from_arrays(
        encoded.indices, pc.if_else(absent, "", encoded.dictionary)
    )
