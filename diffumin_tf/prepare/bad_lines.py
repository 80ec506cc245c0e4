"""Accounting for lines that cannot be used: counted by reason, a few quoted, limited in number."""

from typing import Any

from diffumin_tf.errors import DataError

QUOTED_LINES = 5
QUOTE_LENGTH = 120


class BadLines:
    """The bad lines of one input file.

    Args:
        source: path of the file, for messages.
        max_fraction: share of bad lines above which `check` fails.

    Attributes:
        lines: lines read so far, good and bad, without the header; kept by the reader.
        by_reason: number of bad lines by reason.
        first: the first bad lines as `{"line", "reason", "text"}`, by line number from 1.
    """

    def __init__(self, source: str, max_fraction: float = 0.01) -> None:
        self.source = source
        self.max_fraction = max_fraction
        self.lines = 0
        self.by_reason: dict[str, int] = {}
        self.first: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return sum(self.by_reason.values())

    def add(self, reason: str, line: int, text: str, lines: int = 1) -> None:
        """Counts a bad record that begins at `line` and spans `lines` lines."""
        self.by_reason[reason] = self.by_reason.get(reason, 0) + lines
        if len(self.first) == QUOTED_LINES and line > self.first[-1]["line"]:
            return
        self.first.append({"line": line, "reason": reason, "text": _quote(text)})
        self.first.sort(key=lambda entry: entry["line"])
        del self.first[QUOTED_LINES:]

    def check(self) -> None:
        """Fails when too many lines are bad, or when there is no good one.

        Raises:
            DataError: one message with the counts and the quoted lines.
        """
        if self.lines and len(self) < self.lines and len(self) <= self.max_fraction * self.lines:
            return
        if not self.lines:
            raise DataError(f"{self.source}: holds no rows")
        counts = ", ".join(f"{reason}: {n}" for reason, n in self.by_reason.items())
        quotes = "".join(f"\n  line {e['line']}: {e['reason']}: {e['text']}" for e in self.first)
        raise DataError(
            f"{self.source}: {len(self)} of {self.lines} lines are bad, more than max_bad_fraction "
            f"{self.max_fraction:g} allows ({counts}); nothing of this file was kept{quotes}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The account as JSON content."""
        return {
            "lines": self.lines,
            "bad": len(self),
            "by_reason": self.by_reason,
            "first": self.first,
        }


def _quote(text: str) -> str:
    """The text, shortened, with undecodable bytes written as escapes."""
    printable = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return printable if len(printable) <= QUOTE_LENGTH else printable[: QUOTE_LENGTH - 1] + "…"
