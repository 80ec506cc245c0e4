"""Exit codes and flags that commands and scripts share."""

import pytest
from absl import flags

from diffumin_tf.errors import ConfigError, Preempted
from diffumin_tf.terminal import UsageError, exit_code, parse


@pytest.mark.parametrize(
    ("raised", "code", "out", "err"),
    [
        (Preempted("saved"), 0, "saved\n", ""),
        (ConfigError("key x"), 1, "", "error: key x\n"),
        (UsageError("--x"), 2, "", "--x\n"),
        (KeyboardInterrupt(), 130, "", "interrupted\n"),
    ],
)
def test_what_ends_a_command_has_a_code_and_a_line(raised, code, out, err, capsys):
    def action():
        raise raised

    assert exit_code(action)() == code
    assert capsys.readouterr() == (out, err)


def test_the_code_of_an_action_is_passed_on_and_a_programming_error_is_not_hidden():
    assert [exit_code(lambda: None)(), exit_code(lambda: 1)()] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 / 0)()


@pytest.fixture
def values():
    values = flags.FlagValues()
    flags.DEFINE_string("run", None, "A run.", values)
    return values


def test_flags_are_read(values):
    parse(values, "x", ["--run", "r"], ["run"], "usage: x")
    assert values.run == "r"


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        ([], "x: --run is required\n\nusage: x"),
        (["--run="], "x: --run is required"),
        (["--run", "r", "more"], "x: unexpected argument 'more'"),
        (["--ran", "r"], "x: Unknown command line flag 'ran'"),
    ],
)
def test_wrong_flags_are_explained(values, argv, error):
    with pytest.raises(UsageError) as raised:
        parse(values, "x", argv, ["run"], "usage: x")
    assert str(raised.value).startswith(error)


@pytest.mark.parametrize(("usage", "shown"), [("usage: x", "usage: x\n"), ("", "x\n  --run: A")])
def test_help_shows_the_usage_or_the_flags(values, usage, shown, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(values, "x", ["--help"], ["run"], usage)
    assert stop.value.code == 0 and capsys.readouterr().out.startswith(shown)
