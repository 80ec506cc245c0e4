"""Rows of a file that is read block by block, and cannot all be used: counted, some quoted."""

import collections
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from diffumin_tf.errors import DataError
from diffumin_tf.prepare.tables.accounts import QUOTED, first_bad
from diffumin_tf.prepare.tables.sources import Source, count_lines


class FaultyRows:
    """The rows of one file of impressions: how many, and which have a fault."""

    def __init__(self) -> None:
        self._rows = 0
        self._reasons: collections.Counter[str] = collections.Counter()
        self._first: list[tuple[int, str, str]] = []  # number of a row, reason, text

    def sort_out(
        self, rows: np.ndarray, texts: pa.RecordBatch, faults: Iterable[tuple[str, np.ndarray]]
    ) -> pa.Array:
        """Counts each faulty row under the first of its faults.

        Args:
            rows: int64 [n], numbers of the rows, from 1, ascending.
            texts: the n rows as they were read.
            faults: reasons, each with its mask bool [n].

        Returns:
            The mask of the good rows, bool [n].
        """
        good = np.ones(len(rows), bool)
        for reason, mask in faults:
            found = np.flatnonzero(mask & good)
            self._reasons[reason] += len(found)
            for i in found[:QUOTED].tolist():
                text = ",".join(column[i].as_py() for column in texts.columns)
                self._first.append((int(rows[i]), reason, text))
            good &= ~mask
        self._first = sorted(self._first)[:QUOTED]
        self._rows += len(rows)
        return pa.array(good)

    def account(self, source: Source, rejects: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What the report says of the file, after its last block.

        Args:
            rejects: what does not parse, see `DuckDBEngine.rejects`.

        Raises:
            DataError: the file has lines that were neither read nor rejected.
        """
        blank, places = 0, {}
        if not source.is_parquet:
            lines, blank, places = count_lines(source, 0, [entry["at"] for entry in rejects])
            lost = lines - blank - source.has_header - self._rows - len(rejects)
            if lost > 0:
                raise DataError(f"{source.paths[0]}: {lost} of {lines} lines were not read")
        reasons = self._reasons + collections.Counter(entry["reason"] for entry in rejects)
        places = {(0, offset): line for offset, line in places.items()}
        return {
            "role": "impressions",
            "files": 1,
            "rows": self._rows + len(rejects),
            "bad": reasons.total(),
            "bad_by_reason": dict(reasons.most_common()),
            "first_bad": first_bad(source, rejects, places, self._first, not blank),
            "blank_lines": blank,
        }
