"""Earlier runs from which none can start."""

import re

import pytest

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.run import warm_start
from diffumin_tf.run.warm_start import TABLE
from tests.run.earlier_runs import (
    IDS,
    assert_same,
    new_model,
    save,
    values,
    write_vocabulary,
)


def refusal(error, *arguments, **changes):
    """The message of a refusal, after which the model is as it was."""
    later, _ = new_model(changes.pop("ids", None), seed=8, **changes)
    before = values(later)
    with pytest.raises(error) as raised:
        warm_start.warm_start(later, *arguments)
    assert_same(values(later)[0].values(), before[0].values())
    assert_same(values(later)[1], before[1])
    return str(raised.value)


def test_a_pattern_that_matches_nothing_names_the_nearest_variables(earlier):
    message = refusal(ConfigError, earlier[0], [".*", "tower/hiden/0/kernel"])
    assert message.startswith("vars_to_warm_start 'tower/hiden/0/kernel': matches none of the ")
    assert "the nearest are tower/hidden/0/kernel" in message


def test_a_pattern_that_is_no_expression_is_named(earlier):
    message = refusal(ConfigError, earlier[0], "tower/(")
    assert message.startswith("vars_to_warm_start 'tower/(': not a regular expression: missing )")


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"deep_layers": [5]}, "tower/logit/kernel has shape [5, 1] here and [4, 1] there"),
        ({"subseq_len": 3}, "tower/hidden/0/kernel has shape"),
        ({"embed_dim": 6}, "embedding/table has shape [997, 6] here and [997, 4] there"),
    ],
)
def test_other_shapes_are_named_with_the_expression_that_leaves_them_out(earlier, changes, told):
    message = refusal(ConfigError, earlier[0], **changes)
    assert f"'{earlier[0]}': {told}" in message or changes == {"subseq_len": 3}
    (suggestion,) = re.findall(r"set vars_to_warm_start to '(.*)'$", message)
    later, _ = new_model(seed=8, **changes)
    result = warm_start.warm_start(later, earlier[0], suggestion)
    assert result.copied and result.fresh
    here, there = values(later)[0], values(earlier[1])[0]
    for name in result.fresh:
        assert name not in there or here[name].shape != there[name].shape
    assert_same([here[n] for n in result.copied], [there[n] for n in result.copied])


def test_hashed_tables_must_have_the_same_rows(earlier):
    message = refusal(ConfigError, earlier[0], embedding={"kind": "hash", "rows": 998})
    assert "embedding.rows is 997 there and 998 here" in message


def test_rows_of_another_kind_of_table_are_refused(earlier, tmp_path):
    path = write_vocabulary(tmp_path, IDS)
    message = refusal(ConfigError, earlier[0], ".*", path, ids=IDS)
    assert "embedding.kind is 'hash' there and 'vocabulary' here" in message
    later, _ = new_model(IDS, seed=8)
    assert warm_start.warm_start(later, earlier[0], f"^(?!{TABLE})", path).fresh == [TABLE]


def test_a_folder_without_a_run_is_named(earlier, tmp_path):
    message = refusal(ConfigError, str(tmp_path / "gone"))
    assert message == (
        f"pretrain_model_dir '{tmp_path}/gone': no trained run (config.json is missing)"
    )
    model, config = new_model()
    folder = save(tmp_path / "run", model, config, best=False, latest=False)
    assert "no checkpoint in best or checkpoints" in refusal(DataError, folder)


@pytest.mark.parametrize(("part", "damage"), [("index", "cut"), ("data-00000-of-00001", "changed")])
@pytest.mark.parametrize("name", ["best", "checkpoints"])
def test_a_torn_checkpoint_is_named(tmp_path, name, part, damage):
    model, config = new_model(seed=7)
    folder = save(tmp_path / "run", model, config)
    file = tmp_path / "run" / name / f"ckpt-7.{part}"
    content = file.read_bytes()
    half = len(content) // 2
    rest = b"" if damage == "cut" else bytes(64) + content[half + 64 :]
    file.write_bytes(content[:half] + rest)
    later, _ = new_model(seed=8)
    with pytest.raises(DataError, match=f"{name}/ckpt-7: cannot be read"):
        warm_start.warm_start(later, folder)
