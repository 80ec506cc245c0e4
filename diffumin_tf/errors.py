"""Errors that a person caused and can mend: one message says file, key or record, value, remedy."""


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
    """The process was told to end, and ends with everything saved."""
