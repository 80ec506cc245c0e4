"""Settings of Python's garbage collector for processes that trace many graphs."""

import gc

_ALLOCATIONS = 50_000  # between two collections; Python's 700 make tracing slow


def collect_rarely() -> None:
    """Leaves the objects that are loaded by now alone, and looks at new ones less often.

    Call it once TensorFlow is loaded: its million objects stay until the process ends.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, *gc.get_threshold()[1:])
