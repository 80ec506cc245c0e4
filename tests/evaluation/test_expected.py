"""What a fresh run should reach: read, checked, made from a comparison."""

import json
import shutil

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


def test_each_metric_is_a_line_of_the_report_or_of_the_error(tmp_path):
    expected = read_expected(write(tmp_path))
    assert read_expected(str(tmp_path)) == expected
    lines = check(expected, {"auc": 0.7461, "gauc": 0.6219, "logloss": 9.0})
    assert lines[0] == "test auc 0.7461 is as expected: 0.7500 ± 0.0040 (3 runs)"
    assert len(lines) == 2
    with pytest.raises(NotAsExpected) as error:
        check(expected, {"auc": 0.7541, "gauc": None})
    outside, unknown = str(error.value).splitlines()
    assert outside == "test auc 0.7541 is not as expected: 0.7500 ± 0.0040 (3 runs)"
    assert unknown.startswith("test gauc is not known")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tolerences": {}}, "'tolerences' .*did you mean 'tolerance'"),
        ({"tolerance": {"auc": 0.004}}, "tolerance is for auc, but test has auc, gauc"),
        ({"tolerance": {"auc": 0.0, "gauc": 0.1}}, "tolerance.auc: .*got 0.0"),
        ({"test": {"aucc": 0.5}}, "test.aucc"),
        ({"runs": 0}, "runs: .* got 0"),
    ],
)
def test_a_wrong_file_is_named_with_its_key_and_value(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=f"expected.json: .*{message}"):
        read_expected(write(tmp_path, **changes))


def test_evaluate_checks_a_run(trained, tmp_path, capsys):
    model = shutil.copytree(trained.model_dir, tmp_path / "model")
    exp = shutil.copytree(trained.exp, tmp_path / "exp")
    reached = {m: trained.metrics["test"][m] for m in ("auc", "gauc")}
    evaluate = ["evaluate", f"--model_dir={model}"]
    assert cli.main([*evaluate, f"--expect={exp}"]) == 1
    assert f"{exp}/expected.json: cannot be read" in capsys.readouterr().err
    path = write(exp, test={**reached, "auc": reached["auc"] + 0.005})
    assert cli.main([*evaluate, f"--expect={path}"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("test: auc 0.")
    assert printed.err.startswith(f"error: test auc {reached['auc']:.4f} is not as expected: ")
    rows = {"DIN": {**CONTENT, "test": reached}}
    (tmp_path / "study.expected.json").write_text(json.dumps(rows))
    of_study = [*evaluate, f"--expect={tmp_path}/study.json"]
    assert cli.main([*of_study, "--row=DIN"]) == 0
    assert capsys.readouterr().out.count(" is as expected: ") == 2
    assert cli.main([*of_study, "--row=DINN"]) == 1
    assert "study.expected.json: no row 'DINN'; did you mean 'DIN'?" in capsys.readouterr().err


def entry(auc_sd, gauc):
    values = {"auc": {"mean": 0.75187, "sd": auc_sd}, "gauc": gauc}
    return {"test": values, "seeds": [1, 2, 3], "chosen": {"epoch": 2}}


def test_expectations_allow_three_standard_deviations_and_not_less_than_0_002():
    made = expected_of(entry(0.0015, {"mean": 0.61722, "sd": 0.0001}), "diffumin compare")
    assert made == {
        "test": {"auc": 0.7519, "gauc": 0.6172},
        "tolerance": {"auc": 0.0045, "gauc": 0.002},
        "runs": 3,
        "chosen": {"epoch": 2},
        "command": "diffumin compare",
    }
    assert expected_of(entry(None, None), "c")["tolerance"] == {"auc": 0.002}


def test_the_tool_prints_what_the_checker_reads(tmp_path, capsys):
    tool = tools.tool("expected_of")
    comparison = {
        "split": "test",
        "command": "diffumin compare --study s",
        "experiments": {"a": entry(0.001, None), "b b": entry(0.002, None)},
    }
    (tmp_path / "comparison.json").write_text(json.dumps(comparison))
    for arguments, name in (([], "study.expected.json"), (["b b"], "expected.json")):
        assert tool.main([str(tmp_path), *arguments]) == 0
        (tmp_path / name).write_text(capsys.readouterr().out)
    expected = read_expected(str(tmp_path))
    assert expected.tolerance == {"auc": 0.006} and expected.command == comparison["command"]
    assert read_expected(f"{tmp_path}/study.json", "b b") == expected
    assert tool.main([str(tmp_path), "bb"]) == 1
    assert "no row 'bb'; did you mean 'b b'?" in capsys.readouterr().err
    (tmp_path / "comparison.json").write_text(json.dumps({**comparison, "split": "valid"}))
    assert tool.main([str(tmp_path)]) == 1
    assert "comparison.json: split is 'valid'" in capsys.readouterr().err
