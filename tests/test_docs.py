"""The documentation says what the code does."""

import json
import pathlib
import re

import pytest

from diffumin_tf import cli
from diffumin_tf.comparison.cells import choosing_cells, final_cells
from diffumin_tf.comparison.study import read_study
from diffumin_tf.config import task as config
from diffumin_tf.config.schema import DataStruct
from diffumin_tf.evaluation.expected import read_expected
from diffumin_tf.model import features_of
from diffumin_tf.run.find import schema_file

ROOT = pathlib.Path(__file__).parents[1]
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
PAGES = [ROOT / "README.md", ARCHITECTURE, *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_configuration_key_and_ignored_key_is_documented():
    text = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([A-Za-z0-9_.]+)`", text))
    named |= {
        f"{split}_data_{end}" for split in ("train", "valid", "test") for end in ("start", "end")
    }
    keys = set(config.TaskConfig.model_fields) - {"embedding"}
    keys |= {f"embedding.{key}" for key in config.Embedding.model_fields}
    assert keys | config.IGNORED_KEYS <= named


def test_the_layer_example_of_the_readme_runs():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    exec(example, names)
    assert names["model"].output_shape == (None, 1)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    for tool in re.findall(r"\btools/[\w/]+\.py", text):
        assert (ROOT / tool).is_file(), tool
    assert set(re.findall(r"(?:^|`)diffumin (\w+)", text, re.MULTILINE)) <= set(cli.COMMANDS)


def test_files_and_folders_that_the_architecture_names_exist():
    text = re.sub(r"```.*?```", "", ARCHITECTURE.read_text(encoding="utf-8"), flags=re.DOTALL)
    paths = re.findall(r"`([\w./]+(?:\.py|/))`", text)
    folders = [ROOT, ROOT / "diffumin_tf", ROOT / "handle_layer" / "handle_lib"]
    assert len(paths) > 30
    latest: list[pathlib.Path] = []  # a list of files may follow their folder
    for path in paths:
        is_folder = path.endswith("/")
        candidates = [folder / path for folder in (folders if is_folder else folders + latest)]
        found = [file for file in candidates if (file.is_dir() if is_folder else file.is_file())]
        assert found, path
        latest = found if is_folder else latest


@pytest.mark.parametrize("folder", sorted((ROOT / "exp" / "user1").iterdir()), ids=lambda f: f.name)
def test_shipped_experiments_are_complete(folder):
    loaded, ignored = config.load(str(folder))
    assert not ignored
    schema = DataStruct.load(schema_file(str(folder), loaded))
    for role, names in features_of(loaded).model_dump().items():
        for name in names:
            if role == "behaviours":
                schema.sequence(name)
            else:
                schema.position("dense_feature" if role == "dense" else "cat_feature", name)
    written = json.loads((folder / "task_conf.json").read_text(encoding="utf-8"))
    said = {"channel_num", "num_heads", "dff_factor", "subseq_len", "seq_len"} <= written.keys()
    assert said or "extends" in written


STUDIES = [
    file for file in sorted((ROOT / "exp" / "studies").iterdir()) if file.stem.isidentifier()
]


@pytest.mark.parametrize("study", STUDIES, ids=lambda file: file.stem)
def test_shipped_studies_name_experiments_and_settings_that_there_are(study):
    read = read_study(str(study))
    unchosen = {name: {} for name in read.experiments}
    cells = [*choosing_cells(read, "out"), *final_cells(read, "out", unchosen)]
    assert all(cell.config.seed == cell.seed for cell in cells)


EXPECTED = sorted((ROOT / "exp" / "studies").glob("*.expected.json"))


@pytest.mark.parametrize("file", EXPECTED, ids=lambda file: file.name)
def test_every_row_of_a_study_has_its_expected_figures(file):
    study = file.with_name(file.name.replace(".expected", ""))
    rows = read_study(str(study)).experiments
    assert list(json.loads(file.read_text(encoding="utf-8"))) == list(rows)
    for name, row in rows.items():
        expected = read_expected(str(study), name)
        if not row.set:  # the experiment as it is, whose folder has the figures too
            assert expected == read_expected(row.exp)
