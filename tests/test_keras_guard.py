"""Which Keras the package insists on, each case in a process of its own."""

import os
import subprocess
import sys

import pytest

VARIABLE = "TF_USE_LEGACY_KERAS"
IMPORT = f"""
import os
try:
    import diffumin_tf
finally:
    print(os.environ.get('{VARIABLE}'))
"""


def run(code: str, value: str | None = None) -> tuple[str, str]:
    """What a program prints, and the last line of stderr."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop(VARIABLE, None)
    if value is not None:
        environment[VARIABLE] = value
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout, done.stderr.strip().rpartition("\n")[2]


def assert_says_what_to_set(error):
    assert error.startswith("ImportError: diffumin_tf needs Keras 2") and f"{VARIABLE}=1" in error


def test_picks_keras_2_when_nothing_was_chosen():
    assert run(IMPORT) == ("1\n", "")


@pytest.mark.parametrize(("before", "value"), [("import keras", None), ("", "0")])
def test_keras_3_gives_one_error_and_the_value_of_the_user_stays(before, value):
    printed, error = run(before + IMPORT, value)
    assert printed == f"{value}\n"
    assert_says_what_to_set(error)


def test_tensorflow_may_come_first_as_long_as_its_keras_was_not_used():
    printed, error = run(f"""
import os, tensorflow as tf
if os.fork() == 0:
    tf.keras.layers.Layer
    import diffumin_tf
os.wait()
{IMPORT}
print(tf.keras.layers.Layer.__module__.split('.')[0])
""")
    assert printed == "1\ntf_keras\n"
    assert_says_what_to_set(error)
