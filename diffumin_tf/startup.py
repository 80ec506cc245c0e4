"""The first contact with TensorFlow, without the notices that it writes to everybody's screen."""

import contextlib
import os
from collections.abc import Iterator

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


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
