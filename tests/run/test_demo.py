"""The demo from raw log to served scores, at a hundredth of its size."""

import dataclasses
import json
import pathlib
import re

import pytest

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.run import demo
from diffumin_tf.run.lock import run_lock

SMALL = [
    "use_dmig=false",
    "subseq_len=0",
    "deep_layers=[16]",
    "lazyAdam_learning_rate=0.01",
    "activation=relu",
    "epoch=1",
    "seq_len=20",
    "embedding.min_count=2",
]


@dataclasses.dataclass(frozen=True)
class Demo:
    results: dict
    printed: str
    written: dict
    left: set[str]


@pytest.fixture(
    scope="module",
    params=["Eleme_DiffuMIN", pytest.param("Long_term_DiffuMIN", marks=pytest.mark.soak)],
)
def one(request, tmp_path_factory, eager):
    """A demo in the folder of an earlier one."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    (folder / "raw").mkdir(parents=True)
    for left in ("demo.json", "raw/old.csv"):
        (folder / left).write_text("{}")
    plan, lines = demo._PLANS[request.param], []
    days = dict.fromkeys(plan.spec.samples_per_day, 300)
    size = {"samples_per_day": days, "users": 150, "items": 200, "history_len": 20}
    small = dataclasses.replace(plan, spec=plan.spec.model_copy(update=size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(demo._PLANS, request.param, small)
        results = demo.demo(request.param, str(folder), SMALL, lines.append)
    written = json.loads((folder / "metrics.json").read_text())
    left = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return Demo(results, "\n".join(lines), written, left)


def test_metrics_stand_beside_what_is_reachable_and_what_is_without_history(one):
    assert {"valid", "test", "best_reachable_auc", "no_history_auc"} == one.written.keys()
    assert one.written["test"] == one.results["test"] and one.results["test"]["examples"] == 300
    assert one.results["best_reachable_auc"] > max(0.55, one.results["test"]["auc"])
    assert 0 < one.results["no_history_auc"] < 1


def test_ten_scored_samples_are_shown_beside_the_truth(one):
    table = one.printed.partition("  click  predicted  true probability\n")[2]
    rows = re.findall(r"^ +([01]) +(0\.\d{4}) +(0\.\d{4})$", table, re.M)
    assert len(rows) == 10 and len({predicted for _, predicted, _ in rows}) > 1
    assert re.search(r"^.*export/\d+, loaded by TensorFlow alone", one.printed, re.M)


def test_the_last_lines_sum_up(one):
    *_, summary, where = one.printed.splitlines()
    auc = f"{one.results['test']['auc']:.4f}"
    assert f"DiffuMIN {auc}" in summary and "best reachable" in summary
    assert where.startswith("all figures: ") and where.endswith("out/metrics.json")


def test_a_second_demo_replaces_the_first(one):
    assert "raw/old.csv" not in one.left
    assert {"demo.json", "data", "config.json", "without_history"} <= one.left


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty and not of a demo; choose another --model_dir"):
        demo.demo("Eleme_DiffuMIN", str(tmp_path), report=lambda line: None)
    assert [path.name for path in pathlib.Path(tmp_path).iterdir()] == ["thesis.txt"]


def test_a_second_demo_in_a_folder_waits_for_the_first(tmp_path):
    (tmp_path / "demo.json").touch()
    with run_lock(str(tmp_path)):
        with pytest.raises(ConfigError, match="another run works here"):
            demo.demo("Eleme_DiffuMIN", str(tmp_path), report=lambda line: None)
    assert (tmp_path / "demo.json").exists()


def test_an_experiment_without_a_demo_names_those_with_one(tmp_path):
    with pytest.raises(DataError, match="'KuaiRand_DiffuMIN': there is a demo for Eleme_DiffuMIN"):
        demo.demo("KuaiRand_DiffuMIN", str(tmp_path / "out"), report=lambda line: None)
    assert not (tmp_path / "out").exists()
