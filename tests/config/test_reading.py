"""`extends`: a configuration laid over another one."""

import json

import pytest

from diffumin_tf.config import reading as config_file
from diffumin_tf.config import task as config
from diffumin_tf.errors import ConfigError
from diffumin_tf.run.find import schema_file

BASE = {
    "input_units": ["handle_rec_unit:Long_term_DiffuMIN"],
    "features": {"candidate": ["item"], "behaviours": ["item_list"]},
    "embedding": {"kind": "hash", "rows": 100},
    "deep_layers": [8, 4],
    "batch_size": 32,
    "booster_mode": 1,
}


@pytest.fixture
def experiment(tmp_path):
    """Writes an experiment; returns its folder."""

    def write(name, content):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "task_conf.json").write_text(json.dumps(content))
        return str(folder)

    return write


def test_what_is_not_said_comes_from_the_extended_experiment(experiment):
    experiment("base", BASE)
    middle = {"extends": "../base", "embedding": {"rows": 50}, "deep_layers": [16]}
    experiment("middle", middle)
    top = experiment("top", {"extends": "../middle/task_conf.json", "embed_dim": 4})
    loaded, ignored = config.load(top, ["embedding.min_count=2"])
    embedding = loaded.embedding
    assert (embedding.kind, embedding.rows, embedding.min_count) == ("hash", 50, 2)
    assert (loaded.deep_layers, loaded.batch_size, loaded.embed_dim) == ((16,), 32, 4)
    assert loaded.features.candidate == ("item",)
    assert ignored == ["booster_mode"]


def test_null_takes_a_section_back_and_the_schema_is_that_of_the_extended(experiment, tmp_path):
    experiment("base", BASE)
    (tmp_path / "base" / "data_struct.json").write_text("{}")
    top = experiment("top", {"extends": "../base", "features": None})
    loaded, _ = config.load(top)
    assert loaded.features is None
    assert schema_file(top, loaded).endswith("base/data_struct.json")


def test_a_mistake_names_the_files_that_it_may_stand_in(experiment):
    experiment("base", {**BASE, "batchsize": 3})
    top = experiment("top", {"extends": "../base"})
    with pytest.raises(ConfigError, match=r"top/task_conf.json extends .*base/.*'batchsize'"):
        config.load(top)


def test_other_file_systems_may_hold_experiments(monkeypatch):
    files = {
        "gs://b/exp/top/task_conf.json": {"extends": "../base"},
        "gs://b/exp/base/task_conf.json": BASE,
    }
    monkeypatch.setattr(config_file, "read_json", lambda path: dict(files[path]))
    assert list(config_file.lineage("gs://b/exp/top")) == list(files)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"extends": "../nowhere"}, r"nowhere/task_conf.json: cannot be read"),
        ({"extends": 3}, r"top/task_conf.json: extends: must be the folder .* got 3"),
        ({"extends": "../top"}, r"top/task_conf.json: extends '../top': leads back"),
        ({"extends": "../round"}, r"round/task_conf.json: extends '../top': leads back"),
    ],
)
def test_a_wrong_extends_is_named(experiment, content, message):
    experiment("round", {"extends": "../top"})
    with pytest.raises(ConfigError, match=message):
        config_file.read(experiment("top", content))
