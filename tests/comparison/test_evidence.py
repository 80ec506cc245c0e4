"""The command that runs all studies, in its quick version."""

import functools
import json
import pathlib

from diffumin_tf.comparison.command import compare
from diffumin_tf.comparison.study import read_study
from tests import tools
from tests.comparison.fakes import FakeRuns

evidence = tools.tool("evidence")
ROOT = pathlib.Path(__file__).parents[2]


def test_the_quick_version_compares_a_few_models(tmp_path, monkeypatch, capsys, no_pictures):
    runs = FakeRuns(samples=100)
    monkeypatch.setattr(evidence, "compare", functools.partial(compare, run_cell=runs))
    command = ["--quick", "--output", str(tmp_path)]
    assert evidence.main(command) == 0
    assert len(runs.started) == 8 and len([s for s in runs.started if "choose" in s]) == 4
    for study, rows in evidence.QUICK_ROWS.items():
        found = json.loads((tmp_path / study / "comparison.json").read_text())
        assert not found["failed"] and list(found["experiments"]) == rows
        assert found["command"] == f"python tools/evidence.py --quick --output {tmp_path}"
        assert found["split"] == ("valid" if "design" in study else "test")
        assert found["experiments"][rows[0]]["slices"]  # the samples are those of the records
    # Again, nothing is left to run.
    assert evidence.main(command) == 0
    assert "4 of 4 runs were finished before" in capsys.readouterr().out
    assert len(runs.started) == 8


def test_after_a_study_with_failed_runs_the_others_go_on(monkeypatch, tmp_path, capsys):
    asked = []

    def compared(study, output, jobs, command):
        asked.append(pathlib.Path(output).name)
        if asked[-1] == "movielens":
            raise evidence.CellsFailed("1 runs failed: here")

    monkeypatch.setattr(evidence, "prepare", lambda *arguments: None)
    monkeypatch.setattr(evidence, "compare", compared)
    assert evidence.main(["--output", str(tmp_path), "--movielens", "m"]) == 1
    assert asked == ["movielens", "movielens_design", "synthetic", "synthetic_design"]
    printed = capsys.readouterr().err
    assert "error: movielens: 1 runs failed: here" in printed
    assert "runs failed in movielens\n" in printed


def test_designs_are_chosen_without_a_look_at_the_test_days():
    for data in evidence.EXPERIMENTS:
        for study, split in ((data, "test"), (f"{data}_design", "valid")):
            assert read_study(str(ROOT / "exp" / "studies" / f"{study}.json")).split == split


def test_wrong_usage_explains_itself(capsys):
    assert evidence.main([]) == 2 and "usage:" in capsys.readouterr().err
    assert evidence.main(["--jobs", "many"]) == 2 and "jobs" in capsys.readouterr().err
