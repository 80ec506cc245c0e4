"""Text columns → ids and numbers, by the rules that a spec gives to a field.

Texts are Arrow arrays of strings in which `""` is a missing value.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from diffumin_tf.input.fingerprint import fingerprint


def text_ids(space: str, texts: pa.Array) -> np.ndarray:
    """Ids int64 [n] of texts [n]; every distinct text is fingerprinted once."""
    distinct, inverse = _distinct(texts)
    return fingerprint(space, distinct)[inverse]


def integer_ids(space: str, values: np.ndarray) -> np.ndarray:
    """Ids int64 [n] of whole numbers [n]; 0 for NaN."""
    distinct, inverse = np.unique(values, return_inverse=True)
    texts = ["" if np.isnan(value) else str(int(value)) for value in distinct]
    return fingerprint(space, texts)[inverse]


def numbers(texts: pa.Array) -> np.ndarray:
    """Texts [n] as float64 [n]; NaN where a text is missing or no finite number."""
    encoded = texts.dictionary_encode()
    present = pc.if_else(pc.equal(encoded.dictionary, ""), None, encoded.dictionary)
    try:
        parsed = present.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:  # Some text is no number: the slow way finds out which.
        parsed = pd.to_numeric(np.array(present.to_pylist(), object), errors="coerce")
    parsed = np.asarray(parsed, np.float64)
    return np.where(np.isfinite(parsed), parsed, np.nan)[encoded.indices.to_numpy()]


def not_numbers(texts: pa.Array) -> np.ndarray:
    """Whether a text is neither missing nor a finite number, bool [n]."""
    return np.isnan(numbers(texts)) & ~is_missing(texts)


def is_missing(texts: pa.Array) -> np.ndarray:
    """Whether a text is missing, bool [n]."""
    return pc.equal(texts, "").to_numpy(zero_copy_only=False)


def buckets(values: np.ndarray, edges: Sequence[float] | None = None) -> np.ndarray:
    """Bucket of numbers [n]: how many `edges` are at most x, or ⌊log₂(1 + max(x, 0))⌋.

    As float64 [n], and NaN stays NaN.
    """
    if edges is None:
        return np.floor(np.log2(1 + np.maximum(values, 0)))
    return np.where(np.isnan(values), np.nan, np.searchsorted(edges, values, side="right"))


def local_time(time_ms: np.ndarray, utc_offset_hours: float) -> pd.DatetimeIndex:
    """Epoch milliseconds int64 [n] on the local clock."""
    local_ms = time_ms + round(utc_offset_hours * 3_600_000)
    return pd.DatetimeIndex(local_ms.astype("datetime64[ms]"))


def named_days(texts: pa.Array) -> np.ndarray:
    """Days written `yyyymmdd` or `yyyy-mm-dd` as numbers int64 [n]; 0 for no such day."""
    distinct, inverse = _distinct(texts)
    digits = pd.Series(distinct, dtype=object).str.replace("-", "")
    days = pd.to_datetime(digits, format="%Y%m%d", errors="coerce").dt.strftime("%Y%m%d")
    return days.fillna("0").to_numpy(dtype=np.int64)[inverse]


def _distinct(texts: pa.Array) -> tuple[list[str], np.ndarray]:
    encoded = texts.dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
