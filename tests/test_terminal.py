"""Exit codes and flags that commands and scripts share."""

import pytest
from absl import flags

from diffumin_tf.errors import ConfigError, Preempted
from diffumin_tf.terminal import exit_code, parse


@pytest.mark.parametrize(
    ("raised", "code", "out", "err"),
    [
        (None, 0, "", ""),
        (Preempted("saved"), 0, "saved\n", ""),
        (ConfigError("key x"), 1, "", "error: key x\n"),
        (KeyboardInterrupt(), 130, "", "interrupted\n"),
    ],
)
def test_what_ends_a_command_has_a_code_and_a_line(raised, code, out, err, capsys):
    def action():
        if raised:
            raise raised

    assert exit_code(action) == code
    assert capsys.readouterr() == (out, err)


@pytest.mark.parametrize("code", [0, 1])
def test_what_an_action_returns_is_the_code(code):
    assert exit_code(lambda: code) == code


def test_a_programming_error_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 / 0)


@pytest.mark.parametrize(
    ("argv", "right", "told"),
    [
        (["--run", "r"], True, ""),
        ([], False, "usage: x"),
        (["--run", "r", "more"], False, "usage: x"),
        (["--ran", "r"], False, "x: Unknown command line flag 'ran'"),
    ],
)
def test_flags_are_read_or_explained(argv, right, told, capsys):
    values = flags.FlagValues()
    flags.DEFINE_string("run", None, "A run.", values)
    assert parse(values, "x", "\nusage: x\n", argv, "run") == right
    assert capsys.readouterr().err.startswith(told)
