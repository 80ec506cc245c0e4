"""What `prepare` found in the data, for people: lines for the screen, and `report.html`."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from diffumin_tf.files import write_text
from diffumin_tf.prepare.report.words import (
    count,
    duration,
    known,
    missing_by_field,
    moment,
    notes,
    percent,
    quantity,
    quoted,
    total_of_days,
)

PAGE = "report.html"
_WIDTH = 100  # columns of the screen
_MOST = 10  # of a kind on the screen
_LOW_RATE = 0.5  # a join below it shows examples
_MUCH_MISSING = 0.05


# Of the records: `manifest.json` has them beside "data", which is about the raw tables.
_OF_RECORDS = ("history_length", "empty_histories", "missing", "days", "group")


def facts_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """All that a manifest says of the data."""
    return {**manifest["data"], **{key: manifest[key] for key in _OF_RECORDS}}


def lines(facts: Mapping[str, Any]) -> list[str]:
    """What the screen shows at the end of `prepare`, warnings last.

    Args:
        facts: as of `facts_of`; what is not known is absent.

    Returns:
        Lines of at most 100 columns; warnings are a line each, however long.
    """
    facts = known(facts)
    shown = [*_tables(facts), *_joins(facts)]
    for topic, text in _sentences(facts):
        shown += textwrap.wrap(f"{topic:<13}{text}", _WIDTH, subsequent_indent=13 * " ")
    return shown + [f"warning: {warning}" for warning in facts.get("warnings", ())]


def write_page(facts: Mapping[str, Any], path: str) -> None:
    """Writes all facts, with plots, as an HTML file that needs no other.

    The same facts make the same bytes.

    Args:
        facts: as of `lines`.
        path: of the page, such as `<output>/report.html`.
    """
    import jinja2  # here, as matplotlib, because only this command needs them

    from diffumin_tf.prepare.report import plots

    facts = known(facts)
    # What is absent is empty: any key of the facts may be.
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = (count, percent, duration, moment, quantity, quoted, notes)
    environment.filters |= {format.__name__: format for format in formats}
    template = (
        resources.files("diffumin_tf.prepare.report").joinpath("report.html").read_text("utf-8")
    )
    page = environment.from_string(template).render(
        facts=facts,
        total=total_of_days(facts),
        missing=missing_by_field(facts),
        plots=plots.draw(facts),
    )
    write_text(path, page + "\n")


def _tables(facts: Mapping[str, Any]) -> Iterator[str]:
    tables = list(facts.get("tables", {}).items())
    rows = [["table", "rows", "bad", "dropped", "first (UTC)", "last (UTC)", "grain"]]
    below: list[list[str]] = [[]]
    for name, table in tables[:_MOST]:
        time = table.get("time", {})
        numbers = [count(table.get(key)) for key in ("rows", "bad", "dropped_by_filter")]
        ends = [moment(time.get(key))[:16] for key in ("first", "last")]
        rows.append([name, *numbers, *ends, time.get("grain", "")])
        below.append(notes(table, lines_shown=1))
        if time.get("zone") not in (None, "UTC"):
            below[-1].append(f"time zone: {time['zone']}")
    if tables:
        yield from _aligned("lrrrlll", rows, below)
        yield from _more(len(tables), "tables")
        yield ""


def _joins(facts: Mapping[str, Any]) -> Iterator[str]:
    joins = sorted(facts.get("joins", ()), key=_rate)
    rows = [["join", "found", "of", "rate"]]
    below: list[list[str]] = [[]]
    for join in joins[:_MOST]:
        numbers = [count(join.get("found")), count(join.get("of")), percent(join.get("rate"))]
        rows.append([join.get("what", ""), *numbers])
        sides = {"not found": join.get("examples"), "there are": join.get("examples_there")}
        examples = [f"{side}: {quoted(ids[:2])}" for side, ids in sides.items() if ids]
        below.append(examples if _rate(join) < _LOW_RATE else [])
    if joins:
        yield from _aligned("lrrr", rows, below)
        yield from _more(len(joins), "joins, which find more")
        yield ""


def _sentences(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a sentence is about, and the sentence."""
    if lengths := facts.get("history_length"):
        each = ", ".join(f"{name} {quantity(length)}" for name, length in lengths.items())
        yield "histories", f"behaviours: {each}"
    if "empty_histories" in facts:
        yield "empty", f"{percent(facts['empty_histories'])} of the impressions see no behaviour"
    if own := facts.get("own_item"):
        clicked, others = percent(own.get("clicked")), percent(own.get("not_clicked"))
        lag = own.get("median_lag_seconds")
        median = "" if lag is None else f"median {duration(lag)} before, "
        yield (
            "own item",
            f"{clicked} of the clicked candidates stand in their own history, {others} of the"
            f" others; {median}measured on {count(own.get('measured_on'))} impressions",
        )
    if heavy := facts.get("heavy_users"):
        users = [f"'{user.get('user', '')}' {percent(user.get('events'))}" for user in heavy]
        yield "heavy users", f"{_listed(users)} of all events"
    if shares := missing_by_field(facts):
        much = [f"{name} {percent(share)}" for name, share in shares if share > _MUCH_MISSING]
        yield "missing", _listed(much) if much else f"no field more than {percent(_MUCH_MISSING)}"
    if new := facts.get("new"):
        day = max(new)
        candidates, users = (percent(new[day].get(key)) for key in ("candidates", "users"))
        yield "new", f"{candidates} of the candidates and {users} of the users of {day}"
    if total := total_of_days(facts):
        outside = facts.get("outside_of_days")
        left_out = f"; {count(outside)} of other days left out" if outside else ""
        yield (
            "days",
            f"{count(total['days'])} from {total['first']} to {total['last']}:"
            f" {count(total['examples'])} impressions, click rate {total['click_rate']}"
            f"{left_out}",
        )
        if group := facts.get("group"):
            of = "a user and day" if group == "user_day" else "one impression"
            yield "records", f"{count(total['records'])}, each of {of}"
    if facts.get("allowed"):
        yield "allowed", ", ".join(facts["allowed"])


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _MOST
    return ", ".join([*texts[:_MOST], *([f"{more} more"] if more > 0 else [])])


def _more(number: int, what: str) -> list[str]:
    return [f"… and {number - _MOST} more {what}"] if number > _MOST else []


def _rate(join: Mapping[str, Any]) -> float:
    return join.get("rate", 1.0)


def _aligned(sides: str, rows: Sequence[list[str]], below: Sequence[list[str]]) -> Iterator[str]:
    """Rows in columns, each with what stands below it; the first column gets what width is left."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    widths[0] = min(widths[0], max(16, _WIDTH - sum(width + 2 for width in widths[1:])))
    for row, extra in zip(rows, below, strict=True):
        cells = [
            cell.rjust(width) if side == "r" else _cut(cell, width).ljust(width)
            for side, cell, width in zip(sides, row, widths, strict=True)
        ]
        yield "  ".join(cells).rstrip()
        yield from (_cut(f"  {note}", _WIDTH) for note in extra)


def _cut(text: str, width: int) -> str:
    """Leaves out the middle: the end of a file's name says more."""
    half = (width - 1) // 2
    return text if len(text) <= width else f"{text[: width - 1 - half]}…{text[-half:]}"
