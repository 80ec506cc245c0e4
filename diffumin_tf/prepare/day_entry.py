"""What a day's samples amount to, as JSON whose sums are that of all samples."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.input.records import SampleColumns, spans

_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


def describe(schema: DataStruct, samples: SampleColumns) -> pd.DataFrame:
    """A row a sample: what it adds to the sums, by column.

    Columns `click`, `length` of its history, `record`: 1 for the first sample of each.

    Columns `("missing", field)` and `("of", field)`; a field of several values misses one when it
    has none.
    """
    sequences = {name: spans(lists) for name, lists in samples.sequences.items()}
    _, start, stop = sequences[schema.variable_sequences[0]]
    columns: dict[Any, np.ndarray] = {"click": samples.label, "length": stop - start}
    columns["record"] = np.zeros(len(samples), np.int64)
    columns["record"][samples.edges[:-1]] = 1
    absent = dict(zip(schema.cat_feature, (samples.cat_feature == 0).T, strict=True))
    absent |= zip(schema.dense_feature, np.isnan(samples.dense_feature).T, strict=True)
    for name, lists in samples.multi.items():
        _, start, stop = spans(lists)
        absent[name] = start == stop
    for name, missing in absent.items():
        columns["missing", name] = missing.astype(np.int64)
        columns["of", name] = np.ones(len(samples), np.int64)
    for name, (ids, start, stop) in sequences.items():
        before = np.concatenate([[0], np.cumsum(ids == 0)])
        columns["missing", name] = before[stop] - before[start]
        columns["of", name] = stop - start
    return pd.DataFrame(columns)


def entry_of(described: pd.DataFrame) -> dict[str, Any]:
    """The entry of samples that `describe` described."""
    sums = {name: int(column.sum()) for name, column in described.items()}
    fields = [name[1] for name in sums if name[0] == "of"]
    lengths, counts = np.unique(described["length"], return_counts=True)
    pairs = zip(lengths.tolist(), counts.tolist(), strict=True)
    return {
        "examples": len(described),
        "records": sums["record"],
        "clicks": sums["click"],
        "click_rate": sums["click"] / max(len(described), 1),
        "history_lengths": {str(length): count for length, count in pairs},
        "missing": {name: [sums["missing", name], sums["of", name]] for name in fields},
    }


def combined(entries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The entry of all samples of several entries."""
    examples = records = clicks = 0
    lengths: dict[int, int] = {}
    missing: dict[str, list[int]] = {}
    for entry in entries:
        examples += entry["examples"]
        records += entry["records"]
        clicks += entry["clicks"]
        for length, count in entry["history_lengths"].items():
            lengths[int(length)] = lengths.get(int(length), 0) + count
        for name, (absent, of) in entry["missing"].items():
            before = missing.get(name, [0, 0])
            missing[name] = [before[0] + absent, before[1] + of]
    return {
        "examples": examples,
        "records": records,
        "clicks": clicks,
        "click_rate": clicks / max(examples, 1),
        "history_lengths": {str(length): lengths[length] for length in sorted(lengths)},
        "missing": missing,
    }


def shares(missing: dict[str, Sequence[int]]) -> dict[str, float]:
    """The share of missing values by field."""
    return {name: absent / max(of, 1) for name, (absent, of) in missing.items()}


def length_quantiles(lengths: dict[str, int]) -> dict[str, float]:
    """Mean, least, greatest and quantiles of a histogram of lengths, in ascending order."""
    values = np.array([int(length) for length in lengths])
    counts = np.array(list(lengths.values()))
    cumulative = np.cumsum(counts)
    ranks = np.searchsorted(cumulative, np.multiply(_QUANTILES, cumulative[-1]))
    quantiles = zip(_QUANTILES, values[ranks].tolist(), strict=True)
    return {
        "mean": float(values @ counts / cumulative[-1]),
        "min": int(values[0]),
        **{f"p{round(100 * q)}": length for q, length in quantiles},
        "max": int(values[-1]),
    }
