"""Which Keras the package insists on, each case in a process of its own."""

import os
import subprocess
import sys

import pytest


def run(code: str, variable: str | None) -> subprocess.CompletedProcess:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_USE_LEGACY_KERAS", None)
    if variable is not None:
        environment["TF_USE_LEGACY_KERAS"] = variable
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


PRINT_KERAS = "import tensorflow as tf; print(tf.keras.layers.Layer.__module__.split('.')[0])"


@pytest.mark.parametrize(
    "before", ["", "import tensorflow; "], ids=["package first", "tensorflow first"]
)
def test_picks_keras_2_when_nothing_was_chosen(before):
    result = run(f"{before}import diffumin_tf; {PRINT_KERAS}", None)
    assert result.stdout.strip() == "tf_keras", result.stderr


@pytest.mark.parametrize(
    ("code", "variable"),
    [
        ("import keras; import diffumin_tf", None),
        ("import tensorflow as tf; tf.keras.layers.Layer; import diffumin_tf", None),
        ("import diffumin_tf", "0"),
        ("import tensorflow as tf; tf.keras.layers.Layer; import diffumin_tf", "0"),
    ],
)
def test_keras_3_gives_one_error_that_says_what_to_set(code, variable):
    result = run(code, variable)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: diffumin_tf needs Keras 2")
    assert "TF_USE_LEGACY_KERAS=1" in last and "above the first" in last


def test_a_value_of_the_user_is_never_overwritten():
    code = (
        "import os\n"
        "try:\n"
        "    import diffumin_tf\n"
        "except ImportError:\n"
        "    print(os.environ['TF_USE_LEGACY_KERAS'])"
    )
    assert run(code, "0").stdout.strip() == "0"
