"""How a report says numbers, times and ids, and what it derives from the facts of the data."""

from collections.abc import Mapping, Sequence
from typing import Any

NOTHING = "–"


def known(content: Any) -> Any:
    """Facts without what is None, and texts without what would steer a terminal or is not seen."""
    if isinstance(content, str):
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in content)
    if isinstance(content, Mapping):
        return {known(str(key)): known(v) for key, v in content.items() if v is not None}
    if isinstance(content, list | tuple):
        return [known(value) for value in content if value is not None]
    return content


def count(number: Any) -> str:
    """12345 → 12,345; what is absent → –."""
    return f"{number:,.0f}" if isinstance(number, int | float) else NOTHING


def percent(share: Any) -> str:
    """0.123 → 12.3 %; only nothing is 0 %, and only all is 100 %."""
    if not isinstance(share, int | float):
        return NOTHING
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    if 0 < share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return f"{100 * share:.1f} %"


def quantity(number: Any) -> str:
    """1234.56 → 1,234.6; whole numbers have no decimals."""
    if not isinstance(number, int | float):
        return NOTHING
    return f"{round(number, 1):,}".removesuffix(".0")


def duration(seconds: Any) -> str:
    """90 → 90 s; 7200 → 2 h."""
    if not isinstance(seconds, int | float):
        return NOTHING
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def moment(time: Any) -> str:
    """2024-03-01T00:00:05+00:00 → 2024-03-01 00:00:05."""
    if not isinstance(time, str):
        return NOTHING
    return time.replace("T", " ").removesuffix("Z").removesuffix("+00:00")


def quoted(values: Sequence[Any]) -> str:
    """Ids as they are, blanks at their ends too."""
    return ", ".join(f"'{value}'" for value in values)


def notes(table: Mapping[str, Any], lines_shown: int | None = None) -> list[str]:
    """What a table of the facts has beside its row: what was bad, in which lines, what else."""
    found = []
    kinds = {
        "bad rows": table.get("bad_by_reason"),
        "values that cannot be read, now missing": table.get("bad_values"),
    }
    for kind, numbers in kinds.items():
        if numbers:
            each = (f"{name} {count(number)}" for name, number in numbers.items())
            found.append(f"{kind}: {', '.join(each)}")
    found += map(bad_row, table.get("first_bad", [])[:lines_shown])
    for key in ("blank_lines", "lines_within_quotes", "duplicates"):
        if table.get(key):
            found.append(f"{key.replace('_', ' ')}: {count(table[key])}")
    return found


def bad_row(bad: Mapping[str, Any]) -> str:
    """A bad row as in the facts: where it stands, what is wrong, and its text."""
    place = "".join(f"{key} {bad[key]}, " for key in ("file", "row", "line") if key in bad)
    return f"{place}{bad.get('reason', '')}: {bad.get('text', '')}"


def missing_by_field(facts: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Fields and their share of missing values, the largest first."""
    return sorted(facts.get("missing", {}).items(), key=lambda pair: -pair[1])


def total_of_days(facts: Mapping[str, Any]) -> dict[str, Any]:
    """First and last day, number of days, examples, records, …; {} where none is known."""
    days = facts.get("days", {})
    if not days:
        return {}
    examples = sum(day.get("examples", 0) for day in days.values())
    records = sum(day.get("records", 0) for day in days.values())
    clicks = sum(day.get("clicks", 0) for day in days.values())
    rate = f"{clicks / examples:.4f}" if examples else NOTHING
    ends = {"first": min(days), "last": max(days), "days": len(days)}
    return {
        **ends,
        "examples": examples,
        "records": records,
        "clicks": clicks,
        "click_rate": rate,
    }
