"""Python's search for garbage, which tracing a graph sets off again and again."""

import gc

_NEW_OBJECTS = 50_000  # by which many are there before they are looked through


def collect_rarely() -> None:
    """Leaves out what is loaded by now, and looks through the rest less often.

    Call it once TensorFlow is loaded, whose million objects stay.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
