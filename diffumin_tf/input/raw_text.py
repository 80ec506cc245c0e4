"""What the text of a raw value says: a whole number, however written, or that there is none."""

import re

# Patterns that fit a whole text, in what Python, TensorFlow, DuckDB and Spark read alike.
WHOLE = "([+-]?[0-9]+)[.]0*"
# As programs print large numbers: 1e+10, 1.0E10. An id such as 12e4 is none.
EXPONENT = "[+-]?[0-9][.][0-9]+[eE][+]?[0-9]+|[+-]?[0-9][eE][+][0-9]+"
LARGEST_WHOLE = 9e18  # one beyond it is no 64-bit id
MISSING = ("", "NaN", "nan")
# How logs write that a value is missing, in lower case. As they may be words like any other, they
# are looked for, not read as such.
MISSING_WORDS = ("null", "none", "nil", "nan", "nat", "na", "n/a", "#n/a", "<na>", "(null)", "\\n")
MISSING_WORDS += ("undefined",)


def canonical(text: str) -> str:
    """The one way to write a value: a whole number without point and exponent.

    "7.0" and "7." are "7", "1e+10" and "1.0E10" are "10000000000". Everything else, such as "007"
    and "7.5", stays as it is.
    """
    if whole := re.fullmatch(WHOLE, text):
        return whole[1]
    return canonical_float(float(text), text) if re.fullmatch(EXPONENT, text) else text


def canonical_float(value: float, text: str) -> str:
    """The same for a number, which otherwise is written as `text`."""
    return str(int(value)) if value.is_integer() and abs(value) < LARGEST_WHOLE else text
