"""What commands and scripts share: flags, exit codes, and a screen without TensorFlow's notices."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence

from absl import flags

from diffumin_tf.errors import DiffuminError, Preempted

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def parse(
    values: flags.FlagValues, program: str, usage: str, argv: Sequence[str], required: str
) -> bool:
    """Reads the flags of a script; says what is wrong, or its usage, where that fails.

    Args:
        values: the flags.
        program: name of the script.
        usage: its docstring.
        argv: arguments, without the script's name.
        required: the flag that must be given.
    """
    try:
        rest = values([program, *argv])[1:]
    except flags.Error as error:
        print(f"{program}: {error}", file=sys.stderr)
        return False
    if rest or not values[required].value:
        print(usage.strip(), file=sys.stderr)
        return False
    return True


def exit_code(action: Callable[[], int | None]) -> int:
    """Runs something.

    Returns:
        What it returns, 0 for None; 0 when it was told to stop, 1 after an error, 130 after Ctrl-C.
    """
    try:
        return action() or 0
    except Preempted as stop:
        print(stop)
        return 0
    except DiffuminError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keeps TensorFlow's C++ notices from burying the progress, unless the user set a level."""
    if os.environ.setdefault(LOG_LEVEL, "3") != "3":
        yield
        return
    with quiet_stderr():
        yield


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hides what C++ writes to stderr; TensorFlow's first notices heed no variable."""
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)
