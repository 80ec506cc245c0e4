"""What was read of each table, and what of it cannot be used: counted, quoted, bounded."""

import collections
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from diffumin_tf.errors import DataError
from diffumin_tf.prepare.report.words import bad_row
from diffumin_tf.prepare.sql.plan import Plan
from diffumin_tf.prepare.tables.duckdb_engine import DuckDBEngine
from diffumin_tf.prepare.tables.sources import Source, count_lines

QUOTED = 5  # bad lines
_QUOTE_LENGTH = 120
_REMEDIES = {  # by a part of the reason
    "quote found": 'if no cell is quoted, set "quoting": "none"',
    "is neither 0 nor 1": 'for other labels say from which on it is a click: "at_least"',
    "is no time in": 'is its "time_unit" right?',
}


def account(plan: Plan, engine: DuckDBEngine, k: int, source: Source) -> dict[str, Any]:
    """Counts the rows of the k-th table, after `Plan.rows` ran.

    Raises:
        DataError: the table holds nothing, or more of it is bad than `max_bad_fraction` allows.
    """
    spec = plan.spec
    groups = engine.rows(f"SELECT _kept, _fault, count(*) AS n FROM row_{k} GROUP BY _kept, _fault")
    rejects = engine.rejects(k, source)
    rows = sum(g["n"] for g in groups)
    reasons = collections.Counter()
    for entry in rejects:
        reasons[entry["reason"]] += entry["lines"]
    for group in groups:
        if group["_kept"] and group["_fault"]:
            reasons[group["_fault"]] += group["n"]
    facts = {
        "role": role(plan, k),
        "files": len(source.files),
        "rows": rows + sum(entry["lines"] for entry in rejects),
        "bad": reasons.total(),
        "bad_by_reason": dict(reasons.most_common()),
        "dropped_by_filter": sum(g["n"] for g in groups if not g["_kept"]),
    }
    lines = {} if source.is_parquet else _lines(source, rows, rejects)
    facts |= {key: n for key, n in lines.items() if key != "at"}
    if reasons:
        plain = not lines.get("blank_lines") and not lines.get("lines_within_quotes")
        faulty = _faulty(plan, engine, k, source)
        places = lines.get("at", {}) if plan.dialect.row_is_number else {}
        facts["first_bad"] = first_bad(source, rejects, places, faulty, plain)
    bad_values = _bad_values(plan, engine, k)
    facts["bad_values"] = {name: n for name, n in bad_values.items() if n}
    check(source.where, facts, spec.max_bad_fraction, facts["dropped_by_filter"])
    for field in plan.numeric_fields(k):
        n = facts["bad_values"].get(field.name, 0)
        if n > spec.max_bad_fraction * rows:
            raise DataError(
                f"{source.where}: {n} of {rows} values of {field.source} are no number, more "
                f"than max_bad_fraction {spec.max_bad_fraction:g} allows: "
                f"{', '.join(map(repr, _bad_examples(plan, engine, k, field)))}"
            )
    return facts


def role(plan: Plan, k: int) -> str:
    spec = plan.spec
    if k == 0:
        return "impressions"
    if k <= len(spec.events):
        return "events"
    return "users" if spec.tables[k] is spec.users else "items"


def check(path: str, facts: dict[str, Any], max_bad_fraction: float, dropped: int = 0) -> None:
    """Fails where a table has no rows, no good one, or too many bad ones.

    Args:
        facts: "rows", "bad", "bad_by_reason" and "first_bad" of the table.
        dropped: rows that do not count.

    Raises:
        DataError: one message with the counts and the quoted lines.
    """
    rows, bad = facts["rows"], facts["bad"]
    if not rows:
        raise DataError(f"{path}: holds no rows")
    used = rows - dropped
    if not bad or (bad < used and bad <= max_bad_fraction * used):
        return
    counts = ", ".join(f"{reason}: {n}" for reason, n in facts["bad_by_reason"].items())
    quotes = "".join(f"\n  {bad_row(entry)}" for entry in facts["first_bad"])
    remedies = "".join(f"{r}; " for part, r in _REMEDIES.items() if part in counts)
    raise DataError(
        f"{path}: {bad} of {used} rows are bad, more than max_bad_fraction {max_bad_fraction:g} "
        f"allows ({counts}); {remedies}nothing of it was kept{quotes}"
    )


def _lines(source: Source, rows: int, rejects: list[dict[str, Any]]) -> dict[str, Any]:
    """Blank lines, and those that lie inside of quoted cells."""
    total = blank = 0
    at = {}
    for number in range(len(source.files)):
        offsets = [entry["at"] for entry in rejects if entry["file"] == number]
        lines, blanks, found = count_lines(source, number, offsets)
        total, blank = total + lines - source.has_header, blank + blanks
        at |= {(number, offset): line for offset, line in found.items()}
    if len(source.header) == 1:
        blank = 0  # a blank line is a row whose one value is missing
    within = total - blank - rows - sum(entry["lines"] for entry in rejects)
    return {"blank_lines": blank, "lines_within_quotes": max(within, 0), "at": at}


def _faulty(
    plan: Plan, engine: DuckDBEngine, k: int, source: Source
) -> Iterator[tuple[int | None, str, str]]:
    """The first rows that parse and have a fault: number, reason, text."""
    good = f"SELECT _row, _fault FROM row_{k} WHERE _kept AND _fault IS NOT NULL"
    there = list(source.columns)
    in_file = sorted(plan.columns(k), key=lambda name: there.index(source.position(name)[0]))
    columns = [plan.dialect.column([f"raw {name}"]) for name in in_file]
    texts = ", ".join(f"coalesce(CAST({c} AS {plan.dialect.text_type}), '')" for c in columns)
    for row in engine.rows(
        f"SELECT f._row, f._fault, concat_ws(',', {texts}) AS text FROM "
        f"({good} ORDER BY _row LIMIT {QUOTED}) f JOIN ({plan.texts(k)}) t ON t._row = f._row"
    ):
        yield row["_row"] if plan.dialect.row_is_number else None, row["_fault"], row["text"]


def first_bad(
    source: Source,
    rejects: Sequence[dict[str, Any]],
    lines: Mapping[tuple[int, int], int],
    faulty: Iterable[tuple[int | None, str, str]],
    plain: bool,
) -> list[dict[str, Any]]:
    """The first bad rows of a table, each with what is known of its place.

    Args:
        rejects: what does not parse, see `DuckDBEngine.rejects`.
        lines: of the rejects, by file and offset; empty where no place is known.
        faulty: what parses and has a fault: number among the rows that parse, reason, text.
        plain: whether no line is blank and no row spans several.

    Returns:
        "reason", "text", and the "line", or the "row" as in `faulty`, or neither.
    """
    found, skipped = [], [1] * source.has_header
    for entry in rejects:
        bad = {"reason": entry["reason"], "text": quote(entry["text"])}
        if lines:
            line = lines[entry["file"], entry["at"]]
            skipped += range(line, line + entry["lines"])
            several = len(source.files) > 1
            file = {"file": posixpath.basename(source.paths[entry["file"]])} if several else {}
            bad = {**file, "line": line, **bad}
        found.append(bad)
    has_lines = plain and len(source.files) == 1 and not source.is_parquet
    for row, reason, text in faulty:
        place = {} if row is None else {"row": row}
        if place and has_lines:
            place = {"line": _line(row, skipped)}
        found.append({**place, "reason": reason, "text": quote(text)})
    return sorted(found, key=lambda bad: bad.get("line", bad.get("row", 0)))[:QUOTED]


def _line(row: int, skipped: Iterable[int]) -> int:
    """The line of a row, where the lines `skipped`, ascending, are none."""
    for line in skipped:
        row += line <= row
    return row


def _bad_values(plan: Plan, engine: DuckDBEngine, k: int) -> dict[str, int]:
    names = [f.name for f in plan.numeric_fields(k)]
    if not names:
        return {}
    column = plan.dialect.column
    sums = (
        f"sum(CASE WHEN {column([f'_bad {n}'])} THEN 1 ELSE 0 END) AS {column([n])}" for n in names
    )
    (found,) = engine.rows(f"SELECT {', '.join(sums)} FROM row_{k} WHERE _kept")
    return {name: int(n or 0) for name, n in found.items()}


def _bad_examples(plan: Plan, engine: DuckDBEngine, k: int, field) -> list[str]:
    raw, bad = (
        plan.dialect.column([f"{w} {n}"]) for w, n in (("raw", field.source), ("_bad", field.name))
    )
    rows = engine.rows(
        f"SELECT DISTINCT {raw} AS v FROM ({plan.texts(k)}) t JOIN row_{k} r ON r._row = t._row "
        f"WHERE r.{bad} ORDER BY v LIMIT 3"
    )
    return [row["v"] for row in rows]


def quote(text: str) -> str:
    """A line, shortened."""
    text = text.rstrip("\r\n")
    return text if len(text) <= _QUOTE_LENGTH else text[: _QUOTE_LENGTH - 1] + "…"
