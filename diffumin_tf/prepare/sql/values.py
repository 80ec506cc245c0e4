"""SQL expressions that make of a raw text what a column means: a key, a number, a time, a category.

They take the name of a column that holds text, NULL where the value is missing, see `Values.text`.
"""

import dataclasses
import re

from diffumin_tf.input.raw_text import EXPONENT, LARGEST_WHOLE, MISSING, MISSING_WORDS, WHOLE
from diffumin_tf.prepare.spec.common import Label
from diffumin_tf.prepare.spec.tables import FieldRule, RowFilter, TablesSpec
from diffumin_tf.prepare.sql.dialects import DuckDB
from diffumin_tf.prepare.times import UNIT_MS

_YEAR_10000_MS = 253_402_300_800_000  # A time beyond it is one in the wrong unit.

NUMBER = "[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?"
_LARGEST = 1e300  # of a number
_DATE = "[1-9][0-9]{3}-[0-9]{1,2}-[0-9]{1,2}"
_CLOCK = "[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?"
_ZONE = "(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?|[A-Z][A-Za-z_]+/[A-Za-z_/]+)"
DATE_TIME = f"{_DATE}([ T]{_CLOCK}( ?{_ZONE})?)?"
_ZONED = f"{_DATE}[ T]{_CLOCK} ?{_ZONE}"


@dataclasses.dataclass(frozen=True)
class Values:
    """The expressions for the columns of a spec's tables."""

    spec: TablesSpec
    dialect: DuckDB

    def text(self, column: str) -> str:
        """A raw column of any type as text, NULL where it is missing."""
        d = self.dialect
        text = f"CAST({column} AS {d.text_type})"
        words = dict.fromkeys([*MISSING, *self.spec.missing])
        words |= dict.fromkeys(f"{w}.0" for w in self.spec.missing if re.fullmatch("-?[0-9]+", w))
        return f"CASE WHEN {text} NOT IN ({', '.join(map(d.literal, words))}) THEN {text} END"

    def key(self, text: str) -> str:
        """A user or an item: whole numbers are written as such."""
        if "missing_words" in self.spec.allow:
            return self.whole(text)
        words = ", ".join(map(self.dialect.literal, ("", *MISSING_WORDS)))
        return f"CASE WHEN lower(trim({text})) NOT IN ({words}) THEN {self.whole(text)} END"

    def whole(self, text: str) -> str:
        """`raw_text.canonical` in SQL."""
        d = self.dialect
        value = f"TRY_CAST({text} AS DOUBLE)"
        is_whole = f"floor({value}) = {value} AND abs({value}) < {LARGEST_WHOLE}"
        return (
            f"CASE WHEN {d.matches(text, WHOLE)} THEN regexp_replace({text}, '[.]0*$', '') "
            f"WHEN {d.matches(text, EXPONENT)} AND {is_whole} "
            f"THEN CAST(CAST({value} AS BIGINT) AS {d.text_type}) ELSE {text} END"
        )

    def number(self, text: str) -> str:
        """A finite number, true as 1 and false as 0; NULL where the text is none."""
        trimmed = f"trim({text})"
        value = f"TRY_CAST({trimmed} AS DOUBLE)"
        return (
            f"CASE WHEN {self.dialect.matches(trimmed, NUMBER)} AND abs({value}) < {_LARGEST} "
            f"THEN {value} WHEN lower({trimmed}) = 'true' THEN 1.0 "
            f"WHEN lower({trimmed}) = 'false' THEN 0.0 END"
        )

    def label(self, label: Label, number: str) -> str:
        """1 or 0; NULL where the number says neither."""
        if label.at_least is None:
            return f"CASE WHEN {number} IN (0, 1) THEN CAST({number} AS INTEGER) END"
        least = repr(label.at_least)
        return f"CASE WHEN {number} >= {least} THEN 1 WHEN {number} < {least} THEN 0 END"

    def time(self, text: str, unit: str | None, zone: str) -> str:
        """Epoch milliseconds of a number in a unit, or of a date-time."""
        d, trimmed = self.dialect, f"trim({text})"
        cases = [
            f"WHEN {d.matches(trimmed, _ZONED)} THEN {d.zoned_ms(d.with_colon(trimmed))}",
            f"WHEN {d.matches(trimmed, DATE_TIME)} THEN {d.local_ms(trimmed, zone)}",
        ]
        if unit:
            value = f"TRY_CAST({trimmed} AS DOUBLE) * {UNIT_MS[unit]!r}"
            # A double holds times in ns to a quarter of a µs: a whole ms stays the one that it is.
            whole = f"CAST({'round(' if unit == 's' else 'floor(0.001 + '}{value}) AS BIGINT)"
            is_time = f"{value} BETWEEN 0 AND {_YEAR_10000_MS - 1}"
            ms = f"CASE WHEN {is_time} THEN {whole} END"
            cases.insert(0, f"WHEN {d.matches(trimmed, NUMBER)} THEN {ms}")
        return f"CASE {' '.join(cases)} END"

    def date(self, text: str) -> str:
        """The date of `yyyymmdd`, of a date or of a date-time."""
        d, day = self.dialect, f"trim({text})"
        digits = f"concat(substr({day}, 1, 4), '-', substr({day}, 5, 2), '-', substr({day}, 7, 2))"
        date = (
            f"CASE WHEN {d.matches(day, '[0-9]{8}([.]0*)?')} THEN {digits} "
            f"WHEN {d.matches(day, DATE_TIME)} THEN regexp_replace({day}, '[ T].*', '') END"
        )
        return f"TRY_CAST({date} AS DATE)"

    def keeps(self, where: RowFilter, text: str, number: str) -> str:
        """Whether a row passes a filter, never NULL."""
        wanted = filter_value(where)
        if not isinstance(wanted, str):
            return f"coalesce({number} = {wanted!r}, FALSE)"
        return f"coalesce({self.whole(text)} = {self.whole(self.dialect.literal(wanted))}, FALSE)"

    def field(self, field: FieldRule, text: str, number: str) -> str:
        """A text, a list of texts, or a number if the field is dense."""
        d = self.dialect
        if field.split or field.lists:
            values = d.split(text, field.split) if field.split else text
            return d.first(values) if field.take else values
        if field.bucket:
            return self._bucket(number, field.bucket)
        if field.log1p:
            return f"CASE WHEN {number} > 0 THEN ln(1 + {number}) WHEN {number} <= 0 THEN 0.0 END"
        return number if field.name in self.spec.dense_feature else text

    def _bucket(self, number: str, edges: str | list[float]) -> str:
        text = self.dialect.text_type
        if edges == "log2":  # the bits of ⌊1 + x⌋, less 1: exact on every engine
            inside = f"CAST(floor(1 + least(greatest({number}, 0.0), 9e18)) AS BIGINT)"
            bucket = f"length(bin({inside})) - 1"
        else:
            steps = (f"CASE WHEN {number} >= {edge!r} THEN 1 ELSE 0 END" for edge in edges)
            bucket = " + ".join(steps) or "0"
        return f"CASE WHEN {number} IS NOT NULL THEN CAST({bucket} AS {text}) END"


def filter_value(where: RowFilter) -> str | float:
    """What a filter compares with: a text, or a number, as which true is 1."""
    wanted = where.equals
    if isinstance(wanted, str) and wanted.lower() in ("true", "false"):
        return float(wanted.lower() == "true")
    return wanted if isinstance(wanted, str) else float(wanted)


def as_day(date: str) -> str:
    """A date as the number yyyymmdd."""
    return f"(year({date}) * 10000 + month({date}) * 100 + day({date}))"
