"""What a fresh run should reach: read, checked, made from a comparison."""

import json
import shutil
import subprocess
import sys

import pytest

from diffumin_tf import cli
from diffumin_tf.errors import ConfigError
from diffumin_tf.evaluation.expected import NotAsExpected, check, expected_of, read_expected
from tests import tools

CONTENT = {
    "test": {"auc": 0.75, "gauc": 0.61},
    "tolerance": {"auc": 0.004, "gauc": 0.012},
    "runs": 3,
    "command": "diffumin compare …",
}


def write(folder, **changes):
    path = folder / "expected.json"
    path.write_text(json.dumps({**CONTENT, **changes}))
    return str(path)


def test_metrics_within_their_tolerance_are_as_expected(tmp_path):
    expected = read_expected(write(tmp_path))
    assert read_expected(str(tmp_path)) == expected
    assert check(expected, {"auc": 0.7461, "gauc": 0.6219, "logloss": 9.0}) == [
        "test auc 0.7461 is as expected: 0.7500 ± 0.0040 (3 runs)",
        "test gauc 0.6219 is as expected: 0.6100 ± 0.0120 (3 runs)",
    ]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (
            {"auc": 0.7541, "gauc": 0.61},
            "test auc 0.7541 is not as expected: 0.7500 ± 0.0040 (3 runs)",
        ),
        (
            {"auc": 0.7, "gauc": None},
            "test auc 0.7000 is not as expected: 0.7500 ± 0.0040 (3 runs)\n"
            "test gauc is not known; expected 0.6100 ± 0.0120 (3 runs)",
        ),
    ],
)
def test_each_metric_outside_is_a_line(tmp_path, found, told):
    with pytest.raises(NotAsExpected) as error:
        check(read_expected(write(tmp_path)), found)
    assert str(error.value) == told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tolerences": {}}, "unknown key 'tolerences' .value .*did you mean 'tolerance'"),
        ({"tolerance": {"auc": 0.004}}, "tolerance is for auc, but test has auc, gauc"),
        ({"tolerance": {"auc": 0.0, "gauc": 0.1}}, "tolerance.auc: .*greater than 0, got 0.0"),
        ({"test": {"aucc": 0.5}}, "test.aucc.*'auc', 'gauc'"),
        ({"runs": 0}, "runs: .* got 0"),
    ],
)
def test_a_wrong_file_is_named_with_its_key_and_value(tmp_path, changes, told):
    with pytest.raises(ConfigError, match=f"expected.json: {told}"):
        read_expected(write(tmp_path, **changes))


def test_evaluate_checks_a_run(trained, tmp_path, capsys):
    model = shutil.copytree(trained.model_dir, tmp_path / "model")
    exp = shutil.copytree(trained.exp, tmp_path / "exp")
    found = {m: trained.metrics["test"][m] for m in ("auc", "gauc")}
    arguments = ["evaluate", f"--model_dir={model}", f"--expect={exp}"]
    assert cli.main(arguments) == 1
    assert f"{exp}/expected.json: cannot be read" in capsys.readouterr().err
    path = write(exp, test=found)
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.count(" is as expected: ") == 2
    write(exp, test={**found, "auc": found["auc"] + 0.005})
    assert cli.main([*arguments[:2], f"--expect={path}"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("test: auc 0.")
    assert printed.err.startswith(f"error: test auc {found['auc']:.4f} is not as expected: ")
    assert printed.err.count("\n") == 1


def entry(auc_sd, gauc):
    values = {"auc": {"mean": 0.75187, "sd": auc_sd}, "gauc": gauc}
    return {"test": {**values, "logloss": {"mean": 0.5, "sd": 0.1}}, "seeds": [1, 2, 3]}


def test_expectations_allow_three_standard_deviations_and_not_less_than_0_002():
    made = expected_of(entry(0.0015, {"mean": 0.61722, "sd": 0.0001}), "diffumin compare")
    assert made == {
        "test": {"auc": 0.7519, "gauc": 0.6172},
        "tolerance": {"auc": 0.0045, "gauc": 0.002},
        "runs": 3,
        "command": "diffumin compare",
    }
    assert expected_of(entry(None, None), "c")["tolerance"] == {"auc": 0.002}


def test_the_tool_prints_what_the_checker_reads(tmp_path, capsys):
    comparison = {
        "baseline": "a",
        "split": "test",
        "command": "diffumin compare --study s",
        "experiments": {"a": entry(0.001, None), "b b": entry(0.002, None)},
    }
    (tmp_path / "comparison.json").write_text(json.dumps(comparison))
    command = [sys.executable, str(tools.TOOLS / "expected_of.py"), str(tmp_path), "b b"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (tmp_path / "expected.json").write_text(done.stdout)
    expected = read_expected(str(tmp_path))
    assert expected.tolerance == {"auc": 0.006} and expected.command == comparison["command"]
    tool = tools.tool("expected_of")
    assert tool.main([str(tmp_path), "bb"]) == 1
    assert "no experiment 'bb'; did you mean 'b b'?" in capsys.readouterr().err
    comparison["split"] = "valid"
    (tmp_path / "comparison.json").write_text(json.dumps(comparison))
    assert tool.main([str(tmp_path)]) == 1
    assert "comparison.json: split is 'valid'; what a run should reach is taken from test" in (
        capsys.readouterr().err
    )
