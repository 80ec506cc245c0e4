"""Faults of single values: numbers, flags, lists, structs."""

import pytest

from tests.prepare.faults import (
    case,
    cells,
    check,
    column,
    counted,
    equal_to,
    key,
    parquet,
    refused,
    tolerant,
    warned,
)

PRICE = "items.price"
VALUES = [
    *(
        case(
            f"a price of {price}",
            [cells(PRICE, [3], price), tolerant(0.1)],
            equal_to(cells(PRICE, [3], "")),
            counted("items.csv", bad=0, bad_values={"price": 1}),
        )
        for price in ("cheap", "Infinity", "-inf", "1e999", "1,234.5", "12,5", "$5", "--")
    ),
    *(
        case(
            f"a price of {price!r} is missing",
            [cells(PRICE, [3], price), tolerant(0.1)],
            equal_to(cells(PRICE, [3], "")),
        )
        for price in ("NaN", "nan", None)
    ),
    case(
        "a missing word as a float",
        [cells(PRICE, [3], -1.0), key("missing", ["-1"])],
        equal_to(cells(PRICE, [3], "")),
    ),
    case(
        "a NaN in Parquet",
        [cells(PRICE, [3], None), parquet("items")],
        equal_to(cells(PRICE, [3], "")),
    ),
    case(
        "all prices with a comma",
        column(PRICE, lambda prices: [str(p).replace(".", ",") for p in prices]),
        refused(r"items\.csv", "60 of 60", "price", r"'\d+,\d+'"),
    ),
    case(
        "many prices null",
        cells(PRICE, slice(0, None, 10), "null"),
        refused(r"items\.csv", "price", "'null'", "max_bad_fraction"),
    ),
    case(
        "all brands missing",
        column("items.brand", lambda brand: ""),
        warned(r"items\.csv", "brand"),
    ),
    case(
        "flags as numbers",
        column(PRICE, lambda p: p > 50),
        equal_to(column(PRICE, lambda p: (p > 50) * 1)),
    ),
    case(
        "flags of Parquet as numbers",
        [column(PRICE, lambda p: p > 50), parquet("items")],
        equal_to(column(PRICE, lambda p: (p > 50) * 1)),
    ),
]


@pytest.mark.parametrize(("steps", "expectations"), VALUES)
def test_no_faulty_value_passes_in_silence(tmp_path, steps, expectations):
    check(tmp_path, steps, expectations)
