"""diffumin_tf: DiffuMIN click-through-rate models in TensorFlow/Keras.

TensorFlow Recommenders needs Keras 2, which TensorFlow picks by the environment variable
`TF_USE_LEGACY_KERAS` the first time `tf.keras` is touched. Importing this package sets the
variable when it is unset and it is not too late; it never overwrites a value that is there.
"""

import os
import sys

__version__ = "0.1.0"

_VARIABLE = "TF_USE_LEGACY_KERAS"


def _keras_3_came_first() -> bool:
    """Whether Keras 3 was imported by itself, and not by TensorFlow, which does so in passing."""
    first = next((n for n in sys.modules if n.startswith(("keras.", "tensorflow."))), "")
    return first.startswith("keras.") and sys.modules["keras"].__version__.startswith("3.")


def _require_keras_2() -> None:
    value = os.environ.get(_VARIABLE)
    if value in ("1", "true", "True") or (value is None and not _keras_3_came_first()):
        os.environ.setdefault(_VARIABLE, "1")
        tensorflow = sys.modules.get("tensorflow")
        if tensorflow is None or tensorflow.keras.layers.Layer.__module__.startswith("tf_keras."):
            return
        if value is None:
            del os.environ[_VARIABLE]
    raise ImportError(
        "diffumin_tf needs Keras 2 (the tf-keras package), but this process uses Keras 3 "
        f"({_VARIABLE} is {'unset' if value is None else repr(value)}). Set {_VARIABLE}=1 in the "
        "environment before Python starts, or put `import diffumin_tf` above the first "
        "`import keras` or use of `tf.keras`."
    )


_require_keras_2()
