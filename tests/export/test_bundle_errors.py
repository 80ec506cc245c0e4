"""What no bundle can be made of is told, and leaves nothing behind."""

import os
import shutil

import pytest
from tensorflow.core.protobuf import saved_model_pb2

from tests.export.bundles import make, make_bundle
from tools.serving.saved_model import versions


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--stable=7"], "--stable: EXPORT has no version 7; there are 5, 20, 100"),
        (["--canary=21"], "--canary: EXPORT has no version 21; there are 5, 20, 100"),
        (["--hold=5", "--hold=6"], "--hold: EXPORT has no version 6; there are 5, 20, 100"),
        (
            ["--canary=100"],
            "--canary: 100 is the stable version as well, the newest; name the other",
        ),
        (["--stable=5", "--canary=5"], "--canary: 5 is the stable version as well\n"),
        (
            ["--name=a/b"],
            "--name: 'a/b' must begin with a letter or a digit and consist of these and",
        ),
        (["--name="], "--name: '' must begin"),
        (["--image=x y"], "--image: 'x y' must begin"),
        (["--publish=localhost"], "--publish: must be an address of this machine, such as 127"),
        (["--publish="], "--publish: must be an address"),
        (["--output=/"], "--output: / exists already; name a new folder"),
        (["--output="], "--output: must not be empty"),
    ],
)
def test_what_cannot_be_served_is_one_error(export, tmp_path, more, told, capsys):
    assert make(export, tmp_path / "b", *more) == 1
    out, err = capsys.readouterr()
    assert not out and err.replace(str(export), "EXPORT").startswith(f"error: {told}")
    assert err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_folder_without_versions_is_one_error(export, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for folder, told in (
        (tmp_path / "none", "cannot be read"),
        (tmp_path / "empty", "no versions"),
        (export / "20", "this is one version, so give the folder above"),
        (export.parent, f"did you mean {export}?"),
    ):
        assert make(folder, tmp_path / "b") == 1
        err = capsys.readouterr().err
        assert err.startswith(f"error: {folder}: ") and told in err and err.count("\n") == 1


def test_a_bundle_below_a_file_is_one_error(export, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for below in ("b", "b/c"):
        output = tmp_path / "file" / below
        assert make(export, output) == 1
        assert capsys.readouterr() == (
            "",
            f"error: --output: {output}: {tmp_path}/file is no folder, so that none can be below "
            "it\n",
        )


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def without_signature(version, name):
    path = version / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    del saved.meta_graphs[0].signature_def[name]
    path.write_bytes(saved.SerializeToString())


DATA = "variables/variables.data-00000-of-00001"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda v: (v / "saved_model.pb").unlink(), "no complete SavedModel: "),
        (lambda v: cut(v / "saved_model.pb", 1000), "saved_model.pb: torn or something else"),
        (lambda v: cut(v / "saved_model.pb", 0), "saved_model.pb: torn or something else"),
        (lambda v: (v / "assets/vocabulary.txt").unlink(), "vocabulary.txt is missing"),
        (lambda v: (v / "variables/variables.index").unlink(), "no complete SavedModel: "),
        (lambda v: cut(v / "variables/variables.index", 99), "no complete SavedModel: "),
        (lambda v: (v / DATA).unlink(), "variables.data-*: torn: 0 bytes"),
        (lambda v: cut(v / DATA, 5000), "variables.data-*: torn: 5,000 bytes, but the weights"),
        (
            lambda v: without_signature(v, "request"),
            "no signature 'request', only examples, serving_default; export it anew",
        ),
        (lambda v: without_signature(v, "examples"), "no signature 'examples'"),
    ],
)
def test_a_version_that_is_not_whole_is_one_error(trained, tmp_path, damage, told, capsys):
    shutil.copytree(trained.export, tmp_path / "export" / "8")
    damage(tmp_path / "export" / "8")
    assert make(tmp_path / "export", tmp_path / "b") == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {tmp_path}/export/8") and told in err, err
    assert err.count("\n") == 1 and not (tmp_path / "b").exists()


def test_only_versions_that_are_served_have_to_be_whole(trained, tmp_path):
    for number in (8, 9):
        shutil.copytree(trained.export, tmp_path / "export" / str(number))
    (tmp_path / "export" / "9" / "saved_model.pb").unlink()
    assert versions(str(tmp_path / "export")) == [8, 9]
    assert make(tmp_path / "export", tmp_path / "b", "--stable=8") == 0
    assert make(tmp_path / "export", tmp_path / "c") == 1


def test_a_bundle_appears_whole_or_not_at_all(export, tmp_path, monkeypatch, capsys):
    def fail(folder, version):
        assert os.listdir(os.path.dirname(folder))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(make_bundle, "write_examples", fail)
        assert make(export, tmp_path / "b") == 130
    assert not list(tmp_path.iterdir())
    assert make(export, tmp_path / "b") == 0
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    capsys.readouterr()
    assert make(export, tmp_path / "b", "--stable=5") == 1
    assert "exists already" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "argv",
    [[], ["--export=x"], ["--output=x"], ["--exports=x"], ["--export=x", "--output=y", "--keep=5"]],
)
def test_wrong_usage_is_told(argv, capsys):
    assert make_bundle.main(argv) == 2
    assert capsys.readouterr().err
