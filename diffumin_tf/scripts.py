"""What commands and scripts have in common: flags, and exit codes for what goes wrong."""

import sys
from collections.abc import Callable, Sequence

from absl import flags

from diffumin_tf.errors import DiffuminError, Preempted


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
