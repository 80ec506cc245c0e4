"""Predictions as text, `label<TAB>prediction` a line, and their way back."""

import csv
import itertools
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from diffumin_tf.errors import DataError
from diffumin_tf.evaluation.scoring import Scores
from diffumin_tf.files import staged_directory
from diffumin_tf.input.records import PART_PREFIX
from diffumin_tf.paths import from_where

_LINES_PER_PART = 1_000_000
_COLUMNS = ("label", "prediction", "user")


def metric_lines(results: dict[str, dict]) -> list[str]:
    """Metrics for people, a line a split."""
    lines = []
    for split, metrics in results.items():
        shown = (f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in metrics.items())
        lines.append(f"{split}: {'  '.join(shown)}")
    return lines


def prediction_table(
    scores: Scores, user: bool = False, further: Mapping[str, Sequence[str]] | None = None
) -> pd.DataFrame:
    """Columns `label` (where known), `prediction`, `user` (where asked for), and further text.

    Raises:
        DataError: the users are asked for but unknown, or a further column has the name of another.
    """
    if user and scores.users is None:
        raise DataError("--user: the records have no column user_column of the configuration")
    columns = {} if scores.labels is None else {"label": scores.labels.astype(np.int64)}
    columns["prediction"] = scores.pctr
    if user:
        columns["user"] = scores.users
    for name in further or ():
        if name in columns:
            raise DataError(f"--passthrough {name!r}: the output has a column of that name already")
    return pd.DataFrame({**columns, **(further or {})})


def write_predictions(
    tables: Iterable[pd.DataFrame], folder: str, header: bool = False
) -> tuple[int, int]:
    """Writes `<folder>/part-*`, which appear whole or not at all, table by table.

    Args:
        tables: of `prediction_table`, one of them in memory at a time.
        header: begin each part with the names of the columns.

    Returns:
        Numbers of lines, and of parts.

    Raises:
        ConfigError: another process is writing the folder.
        DataError: the folder exists.
    """
    lines = part = 0
    with staged_directory(folder) as staging:
        for part, pieces in itertools.groupby(_pieces(tables), key=lambda piece: piece[0]):
            path, first = posixpath.join(staging, f"{PART_PREFIX}{part:05d}"), True
            with tf.io.gfile.GFile(path, "w") as out:
                for _, rows in pieces:
                    names = header and first
                    out.write(
                        rows.to_csv(sep="\t", index=False, header=names, quoting=csv.QUOTE_NONE)
                    )
                    lines, first = lines + len(rows), False
    return lines, part + 1


def _pieces(tables: Iterable[pd.DataFrame]) -> Iterator[tuple[int, pd.DataFrame]]:
    """The number of a part, and rows of one table that belong to it, in order."""
    written = 0
    for table in tables:
        while len(table):
            part, used = divmod(written, _LINES_PER_PART)
            rows, table = table[: _LINES_PER_PART - used], table[_LINES_PER_PART - used :]
            written += len(rows)
            yield part, rows


def read_predictions(pattern: str) -> Scores:
    """Reads what `write_predictions` wrote, from a folder of `part-*`, a file, or a glob.

    Columns beside `label`, `prediction` and `user` are left out, and need a header.

    Raises:
        DataError: nothing is there, there is no label, or a line is malformed; names file and line.
    """
    if tf.io.gfile.isdir(pattern):
        pattern = posixpath.join(pattern, PART_PREFIX + "*")
    files = sorted(tf.io.gfile.glob(pattern))
    if not files:
        raise DataError(f"no file matches {pattern!r}{from_where(pattern)}")
    rows = []
    for file in files:
        names = None
        with tf.io.gfile.GFile(file, "rb") as lines:
            for number, raw in enumerate(lines, start=1):
                line = raw.decode("utf-8", errors="replace")
                if number == 1 and line.startswith(_COLUMNS):
                    names = line.rstrip("\n").split("\t")
                    if "label" not in names:
                        raise DataError(f"{file}: has no label, without which nothing is measured")
                else:
                    rows.append(_parsed(line, names, f"{file}: line {number}"))
    if not rows:
        raise DataError(f"{pattern}: no prediction")
    labels, pctr, users = zip(*rows, strict=True)
    users = None if None in users else np.array(users, np.int64)
    return Scores(np.array(labels, np.float32), np.array(pctr, np.float32), users)


def _parsed(line: str, names: list[str] | None, where: str) -> tuple[float, float, int | None]:
    """Label, prediction and user, if there is one, of a line."""
    cells = line.rstrip("\n").split("\t")
    try:
        named = dict(zip(names or _COLUMNS[: len(cells)], cells, strict=True))
        label, pctr = float(named["label"]), float(named["prediction"])
        user = int(named["user"]) if "user" in named else None
        if label in (0.0, 1.0) and 0.0 <= pctr <= 1.0:
            return label, pctr, user
    except (ValueError, KeyError):
        pass
    wanted = "<TAB>".join(names) if names else "label<TAB>prediction[<TAB>user]"
    raise DataError(
        f"{where}: must be {wanted} with a label of 0 or 1 and a prediction in [0, 1], got "
        f"{line.strip()[:80]!r}"
    )
