"""Faults of lines: quotes, blank ones, cells too many, bytes of another encoding, rows twice."""

import re

import pandas as pd
import pytest

from tests.prepare.faults import (
    EQUAL,
    case,
    check,
    column,
    content,
    counted,
    equal_to,
    file,
    frame,
    key,
    parquet,
    refused,
    tolerant,
    warned,
)

QUERIES = ["shoes", '"red shoes', 'a 5" pipe', "shirt, blue", 'blue "shirt', "'"]
SEARCHED = [
    column("shown.query", lambda shown: [QUERIES[n % 6] for n in range(len(shown))]),
    key("shown.fields", ["page", "query", {"name": "hour", "time": "hour"}]),
    key("cat_feature", ["uid", "city", "sku", "brand", "page", "query", "hour"]),
]


def plain(sep=","):
    """Writes no quotes at all, as log writers do."""

    def write(table, path):
        rows = [table.columns, *table.astype(str).itertuples(index=False)]
        path.write_text("".join(sep.join(row) + "\n" for row in rows))

    return write


def quoted(first, last, end=""):
    """A quote before the last cell of one line and, before or at its end, of another."""

    def change(text):
        lines = text.splitlines()
        for n, left, right in ((first, '"', ""), (last, "" if end else '"', end)):
            head, cell = lines[n].rsplit(",", 1)
            lines[n] = f"{head},{left}{cell}{right}"
        return "\n".join(lines) + "\n"

    return change


LINES = [
    case("quotes in quoted cells", SEARCHED, equal_to(*SEARCHED, parquet("shown"))),
    case(
        "quotes in a log without quoting",
        [*SEARCHED, file("shown", "shown.tsv", plain("\t")), key("shown.quoting", "none")],
        equal_to(*SEARCHED),
    ),
    case("a stray quote", content("shown", quoted(100, 300)), refused(r"shown\.csv", "quoting")),
    case(
        "quotes around many lines",
        content("shown", quoted(100, 130, '"')),
        refused(r"shown\.csv", "30 of 600", "quoting", allow="swallowed_lines"),
    ),
    case(
        "quotes around two lines",
        content("shown", quoted(100, 101, '"')),
        warned(r"shown\.csv", "1 line"),
    ),
    case(
        "a stray quote in a TSV",
        [*SEARCHED, file("shown", "shown.tsv", plain("\t"))],
        refused(r"shown\.tsv", "quoting"),
    ),
    case(
        "blank lines inside",
        content("views", lambda text: text.replace("\n", "\n\n", 3)),
        EQUAL,
        counted("views.csv", blank_lines=3, rows=1200, bad=0),
    ),
    case(
        "lines with a cell too many",
        content("shown", lambda text: re.sub(r"(?m)^(9,.*)home$", r"\1ho,me", text, count=3)),
        counted("shown.csv", bad=3),
    ),
    case(
        "a byte of another encoding",
        content("shown", lambda text: text.replace("home", "hom\xe9", 1).encode("latin-1")),
        counted("shown.csv", bad=1),
    ),
    case(
        "items twice",
        [frame("items", lambda i: pd.concat([i, i[:3].assign(brand="b9")])), tolerant(0.1)],
        EQUAL,
        counted("items.csv", bad=3),
    ),
    case(
        "many items twice",
        frame("items", lambda items: pd.concat([items, items])),
        refused(r"items\.csv", "sku", "twice", "max_bad_fraction"),
    ),
    *(
        case(
            f"rows twice in {t}",
            frame(t, lambda rows: pd.concat([rows, rows[:60]])),
            counted(f"{t}.csv", duplicates=60),
            warned(rf"{t}\.csv", "60"),
        )
        for t in ("shown", "views")
    ),
]


@pytest.mark.parametrize(("steps", "expectations"), LINES)
def test_no_faulty_line_passes_in_silence(tmp_path, steps, expectations):
    check(tmp_path, steps, expectations)
