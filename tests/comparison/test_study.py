"""The study file and the short form of it; mistakes name file, key, value and the nearest key."""

import json
import os
import pathlib
import re

import pytest

from diffumin_tf.comparison.study import Contender, Study, read_study, study_of
from diffumin_tf.errors import ConfigError
from tests.comparison.fakes import write_study


def test_experiments_lie_beside_the_study_or_have_a_name(folder, monkeypatch):
    named = {"exp": "KuaiRand_DiffuMIN"}
    path = write_study(folder, experiments={"weak": {"exp": "exp"}, "k": named})
    monkeypatch.chdir(folder.parent)
    for given in (path, os.path.relpath(path)):
        study = read_study(given)
        assert os.path.samefile(study.experiments["weak"].exp, folder / "exp")
        assert study.experiments["k"].exp.endswith("exp/user1/KuaiRand_DiffuMIN")


def test_the_command_line_wins_over_the_study_and_takes_keys_out_of_the_grid(folder):
    path = write_study(folder, set={"epoch": 3, "seq_len": 5}, choose={"batch_size": [1, 2]})
    study = read_study(path, ["epoch=4", "batch_size=8", "train_data_path=a=b", "top_p=[1"])
    texts = {"train_data_path": "a=b", "top_p": "[1"}
    assert study.set == {"epoch": 4, "seq_len": 5, "batch_size": 8, **texts}
    assert study.choose == {}
    assert study.experiments["weak"].set == {"use_omie": False, "subseq_len": 0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": [1]}, "'seed' .* did you mean 'seeds'"),
        ({"seeds": []}, "seeds: .*at least 1 item"),
        ({"seeds": [1, -2]}, "seeds.1: .*got -2"),
        ({"seeds": [1, 1]}, r"seeds is \[1, 1\]"),
        ({"choose_seeds": [2, 2]}, r"choose_seeds is \[2, 2\]"),
        ({"baseline": "week"}, "baseline 'week' .*did you mean 'weak'"),
        ({"baseline": "x"}, "baseline 'x' .*; there are strong, weak"),
        ({"set": {"epochs": 1}}, "set: unknown key 'epochs'; did you mean 'epoch'"),
        ({"set": {"seed": 1}}, "set: 'seed' .*seeds does that"),
        ({"choose": {"epochs": [1]}}, "choose: unknown key 'epochs'; did you mean 'epoch'"),
        ({"choose": {"epoch": []}}, "choose.epoch: .*at least 1 item"),
        ({"choose": {"epoch": [1]}, "set": {"epoch": 2}}, "'epoch' stands in set and in choose"),
        (
            {"experiments": {"weak": {"exp": "exp", "set": {"embeding.rows": 5}}}},
            "experiments.weak.set: unknown key 'embeding.rows'; did you mean 'embedding'",
        ),
        ({"experiments": {"weak": {"exp": "exp", "sets": {}}}}, "experiments.weak: .*'sets'"),
        ({"experiments": {"weak": {"exp": "../gone"}}}, "experiments.weak.exp '../gone': no task_"),
        ({"split": "train"}, "split: .*got 'train'"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_key(folder, changes, message):
    path = write_study(folder, **changes)
    with pytest.raises(ConfigError, match=f"^{path}: .*{message}"):
        read_study(path)


def test_every_key_of_a_study_is_documented_and_the_example_is_one():
    docs = pathlib.Path(__file__).parents[2] / "docs" / "results.md"
    text = docs.read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+)`", text))
    assert {*Study.model_fields, *Contender.model_fields} <= named
    example = json.loads(re.findall(r"```json\n(.*?)```", text, re.DOTALL)[0])
    assert Study.model_validate(example).model_fields_set == {*Study.model_fields}


def test_a_wrong_override_is_named(folder):
    for override, why in (("epoch", "must read key=value"), ("epochs=1", "did you mean 'epoch'")):
        with pytest.raises(ConfigError, match=f"--set.*{override}.*{why}"):
            read_study(write_study(folder), [override])


def test_the_short_form_names_rows_by_folders(folder):
    (folder / "other").mkdir()
    (folder / "other" / "task_conf.json").write_text("{}")
    exps = [str(folder / "exp"), f"{folder}/other/"]
    study = study_of(exps, "3, 1", None, ["epoch=2"])
    assert (list(study.experiments), study.baseline) == (["exp", "other"], "exp")
    assert (study.seeds, study.set) == ([3, 1], {"epoch": 2})
    assert study_of(exps, "1", exps[1]).baseline == study_of(exps, "1", "other").baseline == "other"
    assert json.loads(study.model_dump_json())["experiments"]["other"]["exp"] == exps[1]


def test_rows_of_a_study_can_be_compared_alone(folder):
    path = write_study(folder)
    assert read_study(path, rows=["strong"]).baseline == "strong"
    assert list(read_study(path, rows=["weak", "strong"]).experiments) == ["weak", "strong"]
    with pytest.raises(ConfigError, match=f"{path}: no row 'week'; did you mean 'weak'"):
        read_study(path, rows=["week"])


@pytest.mark.parametrize(
    ("names", "seeds", "message"),
    [
        (["exp", "exp"], "1", "'exp' occurs twice"),
        (["exp"], "1,two", "--seeds '1,two': give whole numbers"),
        (["gone"], "1", "no task_conf.json"),
    ],
)
def test_mistakes_of_the_short_form_are_named(folder, names, seeds, message):
    with pytest.raises(ConfigError, match=message):
        study_of([str(folder / name) for name in names], seeds, None)
