"""Errors that a person caused and can mend: one message says file, key or record, value, remedy."""

import difflib
from collections.abc import Iterable


class DiffuminError(Exception):
    """Base of every error that the command line prints without a traceback."""


class ConfigError(DiffuminError):
    """A configuration file or an override is wrong."""


class DataError(DiffuminError):
    """A table, a record or a folder of records is missing or wrong."""


class TrainingError(DiffuminError):
    """Training cannot go on (for example, the loss is not finite)."""


class NotFiniteError(TrainingError):
    """The loss or a weight is infinite or not a number."""


class ExportError(DiffuminError):
    """An export does not score as its model does, and was not published."""


class Preempted(DiffuminError):
    """The process was asked to end, and ends with everything saved."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A clause that names the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def did_you_mean_of(name: str, known: Iterable[str]) -> str:
    """A clause that names the nearest known name, or all of them where none is near."""
    known = list(known)
    return did_you_mean(name, known) or f"; there are {', '.join(known)}"
