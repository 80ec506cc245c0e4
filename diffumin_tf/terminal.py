"""What commands and scripts share: flags, exit codes, and a screen without TensorFlow's notices."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import flags

from diffumin_tf.errors import DiffuminError, Preempted

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


class UsageError(Exception):
    """The command line is wrong."""


def parse(
    values: flags.FlagValues,
    program: str,
    argv: Sequence[str],
    required: Sequence[str] = (),
    usage: str = "",
) -> None:
    """Reads flags; --help prints the usage, or the list of flags without one, and exits.

    Raises:
        UsageError: a flag is unknown, missing or has a wrong value.
    """
    flags.DEFINE_bool("help", False, "Show this help.", values, short_name="h")
    try:
        rest = values([program, *argv])[1:]
        if values.help:
            print(usage.strip() or "\n".join([program, *_flag_lines(values)]))
            sys.exit(0)
        if rest:
            raise flags.Error(f"unexpected argument {rest[0]!r}")
        for name in required:
            if values[name].value in (None, ""):
                raise flags.Error(f"--{name} is required")
    except flags.Error as error:
        raise UsageError(f"{program}: {error}\n\n{usage}".strip()) from None


def exit_code(action: Callable[..., int | None]) -> Callable[..., int]:
    """Makes a function print the error that ends it, and return an exit code.

    What it returns itself, 0 for None; 0 after a stop with everything saved, 1 after an error, 2
    after wrong usage, 130 after Ctrl-C.
    """

    @functools.wraps(action)
    def run(*args: Any) -> int:
        try:
            return action(*args) or 0
        except Preempted as stop:
            print(stop)
            return 0
        except DiffuminError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except UsageError as error:
            print(error, file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    return run


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Hides TensorFlow's C++ notices, unless the user set a log level."""
    if os.environ.setdefault(LOG_LEVEL, "3") != "3":
        yield
        return
    with quiet_stderr():
        yield


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hides what C++ writes to stderr: TensorFlow's first notices ignore the log level."""
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def _flag_lines(values: flags.FlagValues) -> Iterator[str]:
    for flag in dict.fromkeys(values[name] for name in values):
        default = f" (default: {flag.default})" if flag.default else ""
        yield f"  --{flag.name}: {' '.join(flag.help.split())}{default}"
