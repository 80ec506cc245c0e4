"""The command that runs all studies, in its quick version."""

import importlib.util
import json
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def evidence():
    spec = importlib.util.spec_from_file_location("evidence", ROOT / "tools" / "evidence.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_quick_version_trains_and_compares_every_model(evidence, tmp_path, capsys):
    assert evidence.main(["--quick", "--output", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "synthetic" / "comparison.json").read_text())
    study = json.loads((ROOT / "exp" / "studies" / "synthetic.json").read_text())
    assert (
        not found["failed"] and found["study"]["experiments"].keys() == study["experiments"].keys()
    )
    text = (tmp_path / "synthetic" / "comparison.md").read_text()
    assert all(f"| {name} |" in text for name in study["experiments"])
    # Again, nothing is left to run.
    capsys.readouterr()
    assert evidence.main(["--quick", "--output", str(tmp_path)]) == 0
    assert "9 of 9 runs were finished before" in capsys.readouterr().out


def test_every_study_belongs_to_a_data_set(evidence):
    run = {study for studies in evidence.STUDIES.values() for study in studies}
    assert run == {path.stem for path in (ROOT / "exp" / "studies").glob("*.json")}


def test_wrong_usage_explains_itself(evidence, capsys):
    assert evidence.main([]) == 2 and "usage:" in capsys.readouterr().err
    assert evidence.main(["--jobs", "many"]) == 2 and "jobs" in capsys.readouterr().err
