"""Which Keras the package insists on, each case in a process of its own."""

import os
import subprocess
import sys

import pytest

VARIABLE = "TF_USE_LEGACY_KERAS"
PRINT_VARIABLE = f"import os; print(os.environ['{VARIABLE}'])"
PRINT_KERAS = "print(tensorflow.keras.layers.Layer.__module__.split('.')[0])"


def run(code: str, value: str | None) -> subprocess.CompletedProcess:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop(VARIABLE, None)
    if value is not None:
        environment[VARIABLE] = value
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (f"import diffumin_tf; {PRINT_VARIABLE}", "1"),
        (f"import tensorflow; import diffumin_tf; {PRINT_KERAS}", "tf_keras"),
    ],
    ids=["package first", "tensorflow first"],
)
def test_picks_keras_2_when_nothing_was_chosen(code, expected):
    result = run(code, None)
    assert result.stdout.strip() == expected, result.stderr


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("import keras; import diffumin_tf", None),
        ("import tensorflow as tf; tf.keras.layers.Layer; import diffumin_tf", None),
        ("import diffumin_tf", "0"),
    ],
)
def test_keras_3_gives_one_error_that_says_what_to_set(code, value):
    result = run(code, value)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: diffumin_tf needs Keras 2") and f"{VARIABLE}=1" in last


def test_a_value_of_the_user_is_never_overwritten():
    code = f"try: import diffumin_tf\nexcept ImportError: {PRINT_VARIABLE}"
    assert run(code, "0").stdout.strip() == "0"
