"""Raw values as Arrow columns → ids and numbers, whatever type an engine gave them."""

import datetime
import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from diffumin_tf.input.fingerprint import fingerprint
from diffumin_tf.input.raw_text import MISSING, canonical, canonical_float

_TYPES = pa.types
_ODD = frozenset(".eE")  # only a text that has one of these is not canonical
_DAY = re.compile(r"([0-9]{4})(-?)([0-9]{2})\2([0-9]{2})")


def is_value(kind: pa.DataType) -> bool:
    """Whether values of this type make a category."""
    if _TYPES.is_dictionary(kind):
        return is_value(kind.value_type)
    return is_number(kind) or any(
        test(kind)
        for test in (
            *(_TYPES.is_string, _TYPES.is_large_string, _TYPES.is_string_view),
            *(_TYPES.is_binary, _TYPES.is_large_binary, _TYPES.is_date, _TYPES.is_timestamp),
        )
    )


def is_number(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (
            *(_TYPES.is_integer, _TYPES.is_floating, _TYPES.is_boolean),
            *(_TYPES.is_decimal, _TYPES.is_null),
        )
    )


def value_ids(space: str, values: pa.Array, missing: Sequence[str] = ()) -> np.ndarray:
    """Ids int64 [n] of values [n]: the fingerprints of their canonical texts.

    Null, NaN, `""` and the texts of `missing` are 0.

    Raises:
        pa.ArrowInvalid: bytes are no UTF-8 text.
    """
    return of_distinct(values, lambda texts: _ids(space, texts, missing))


def of_distinct(
    values: pa.Array, function: Callable[[list[str]], np.ndarray], of_null: int = 0
) -> np.ndarray:
    """A function of the canonical texts of values, called with the distinct ones."""
    encoded = values if _TYPES.is_dictionary(values.type) else values.dictionary_encode()
    results = np.append(function(_texts(encoded.dictionary)), of_null)
    return results[pc.fill_null(encoded.indices.cast(pa.int64()), len(results) - 1).to_numpy()]


def numbers(values: pa.Array) -> np.ndarray:
    """Numbers [n] as float64 [n]; NaN where one is null."""
    return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def parse_numbers(texts: pa.Array) -> np.ndarray:
    """Texts [n] as float64 [n]; NaN where one is empty or no finite number."""
    encoded = texts.dictionary_encode()
    present = pc.if_else(pc.equal(encoded.dictionary, ""), None, encoded.dictionary)
    try:
        parsed = numbers(present)
    except pa.ArrowInvalid:  # Some text is no number: the slow way finds out which.
        parsed = pd.to_numeric(np.array(present.to_pylist(), object), errors="coerce")
    parsed = np.asarray(parsed, np.float64)
    return np.where(np.isfinite(parsed), parsed, np.nan)[encoded.indices.to_numpy()]


def missing_as_empty(texts: pa.Array, missing: Sequence[str]) -> pa.Array:
    """The texts with `""` for every one that means a missing value."""
    absent = pc.is_in(texts, value_set=pa.array([*MISSING, *missing], pa.string()))
    return pc.if_else(absent, "", texts)


def is_empty(texts: pa.Array) -> np.ndarray:
    """Whether a text is `""`, bool [n]."""
    return pc.equal(texts, "").to_numpy(zero_copy_only=False)


def days(values: pa.Array) -> np.ndarray:
    """Days as numbers yyyymmdd, int64 [n]; 0 where a value is no day.

    Dates, or `yyyymmdd` and `yyyy-mm-dd` as text or number.
    """
    if _TYPES.is_timestamp(values.type):
        values = values.cast(pa.date32(), safe=False)
    return of_distinct(values, lambda texts: np.array([day(text) for text in texts], np.int64))


def day(text: str) -> int:
    """A day `yyyymmdd` or `yyyy-mm-dd` as a number; 0 for any other text."""
    if not (match := _DAY.fullmatch(text)):
        return 0
    year, _, month, day_of_month = match.groups()
    try:
        return int(datetime.date(int(year), int(month), int(day_of_month)).strftime("%Y%m%d"))
    except ValueError:
        return 0


def _ids(space: str, texts: list[str], missing: Sequence[str]) -> np.ndarray:
    none = {*MISSING, *missing, *map(canonical, missing)}
    if not none.isdisjoint(texts):
        texts = ["" if text in none else text for text in texts]
    return fingerprint(space, texts)


def _texts(distinct: pa.Array) -> list[str]:
    """Canonical texts of distinct values; `""` for null."""
    texts = pc.fill_null(distinct.cast(pa.string()), "").to_pylist()
    if _TYPES.is_floating(distinct.type):
        floats = (numbers(distinct) + 0.0).tolist()  # makes −0 a 0
        return [canonical_float(value, text) for value, text in zip(floats, texts, strict=True)]
    together = "".join(texts)
    if not any(sign in together for sign in _ODD):
        return texts
    return [canonical(text) if _ODD.intersection(text) else text for text in texts]
