"""Predictions as text, `label<TAB>prediction` a line, and their way back."""

import posixpath

import numpy as np
import pandas as pd
import tensorflow as tf

from diffumin_tf.errors import DataError
from diffumin_tf.evaluation.scoring import Scores
from diffumin_tf.files import staged_directory
from diffumin_tf.input.records import PART_PREFIX

_LINES_PER_PART = 1_000_000


def metric_lines(results: dict[str, dict]) -> list[str]:
    """Metrics for people, a line a split."""
    lines = []
    for split, metrics in results.items():
        shown = (f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in metrics.items())
        lines.append(f"{split}: {'  '.join(shown)}")
    return lines


def write_predictions(scores: Scores, folder: str, header: bool = False, user: bool = False) -> int:
    """Writes `<folder>/part-*`, which appear whole or not at all; returns how many there are.

    Args:
        header: begin each part with `label<TAB>prediction`.
        user: add the user as a third column.

    Raises:
        DataError: the folder exists, or the users are asked for but unknown.
    """
    if user and scores.users is None:
        raise DataError("--user: the records have no column user_column of the configuration")
    columns = {"label": scores.labels.astype(np.int64), "prediction": scores.pctr}
    if user:
        columns["user"] = scores.users
    frame = pd.DataFrame(columns)
    starts = range(0, len(frame), _LINES_PER_PART)
    with staged_directory(folder) as staging:
        for part, start in enumerate(starts):
            rows = frame.iloc[start : start + _LINES_PER_PART]
            with tf.io.gfile.GFile(posixpath.join(staging, f"{PART_PREFIX}{part:05d}"), "w") as out:
                out.write(rows.to_csv(sep="\t", index=False, header=header))
    return len(starts)


def read_predictions(pattern: str) -> Scores:
    """Reads what `write_predictions` wrote, from a folder of `part-*`, a file, or a glob.

    Raises:
        DataError: nothing is there, or a line is malformed; names file and line.
    """
    if tf.io.gfile.isdir(pattern):
        pattern = posixpath.join(pattern, PART_PREFIX + "*")
    files = sorted(tf.io.gfile.glob(pattern))
    if not files:
        raise DataError(f"no file matches {pattern!r}")
    rows = []
    for file in files:
        with tf.io.gfile.GFile(file, "rb") as lines:
            for number, raw in enumerate(lines, start=1):
                line = raw.decode("utf-8", errors="replace")
                if number > 1 or not line.startswith("label\t"):
                    rows.append(_parsed(line, f"{file}: line {number}"))
    if not rows:
        raise DataError(f"{pattern}: no prediction")
    labels, pctr, users = zip(*rows, strict=True)
    users = None if None in users else np.array(users, np.int64)
    return Scores(np.array(labels, np.float32), np.array(pctr, np.float32), users)


def _parsed(line: str, where: str) -> tuple[float, float, int | None]:
    """Label, prediction and user, if there is one, of a line."""
    cells = line.rstrip("\n").split("\t")
    try:
        label, pctr, user = float(cells[0]), float(cells[1]), [*map(int, cells[2:])]
        if len(user) <= 1 and label in (0.0, 1.0) and 0.0 <= pctr <= 1.0:
            return label, pctr, user[0] if user else None
    except (ValueError, IndexError):
        pass
    raise DataError(
        f"{where}: must be label<TAB>prediction[<TAB>user] with a label of 0 or 1 and a "
        f"prediction in [0, 1], got {line.strip()[:80]!r}"
    )
