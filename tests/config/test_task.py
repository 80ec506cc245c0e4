"""Reading task_conf.json: names of the original, overrides, and the message of every mistake."""

import json

import pytest

from diffumin_tf.config import task as config
from diffumin_tf.errors import ConfigError

MINIMAL = {"input_units": ["handle_rec_unit:Eleme_DiffuMIN"]}


def write(tmp_path, content) -> str:
    path = tmp_path / "task_conf.json"
    path.write_text(content if isinstance(content, str) else json.dumps({**MINIMAL, **content}))
    return str(path)


def test_whole_floats_are_ints_and_engine_keys_are_reported_as_ignored(tmp_path):
    path = write(tmp_path, {"timesteps": 1000.0, "xla": 0, "----- Core -----": "-"})
    loaded, ignored = config.load(path, ["booster_mode=3", "n_heads=4"])
    assert loaded.timesteps == 1000 and isinstance(loaded.timesteps, int)
    assert (loaded.num_heads, ignored) == (4, ["booster_mode", "xla"])


def test_overrides_win_over_the_file_and_reach_into_sections(tmp_path):
    path = write(tmp_path, {"epoch": 3, "embedding": {"kind": "hash", "rows": 10}})
    loaded, _ = config.load(
        path, ["epoch=2", "embedding.rows=77", "model_name=my model", "deep_layers=[8, 4]"]
    )
    assert (loaded.epoch, loaded.embedding.rows, loaded.model_name) == (2, 77, "my model")
    assert loaded.deep_layers == (8, 4)


def test_a_removed_key_may_stand_in_an_old_run_but_not_ask_for_anything(tmp_path):
    old = {"generated_input": "generated", "residual_denoiser": False}
    assert config.load(write(tmp_path, old)) == config.load(write(tmp_path, {}))
    path = write(tmp_path, {"generated_input": "none"})
    with pytest.raises(ConfigError, match=f"^{path}: generated_input was removed"):
        config.load(path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=-1", "^{path} with epoch=-1: epoch: .* got -1"),
        ("seed=99999999999", "seed: .*4294967296.* got 99999999999"),
        ("epoch", "must read key=value"),
        ("epoch.a=1", "'epoch' is no section"),
    ],
)
def test_a_wrong_override_is_named_as_such(tmp_path, override, message):
    path = write(tmp_path, {"epoch": 1})
    with pytest.raises(ConfigError, match=message.format(path=path)):
        config.load(path, [override])


def test_a_resolved_configuration_reads_back_equal(tmp_path):
    loaded, _ = config.load(write(tmp_path, {"epoch": 3}))
    again, _ = config.load(write(tmp_path, loaded.model_dump_json()))
    assert again == loaded


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({"sequence_len": 5}, ["unknown key 'sequence_len' (value 5)", "did you mean 'seq_len'?"]),
        ({"embedding": {"row": 5}}, ["embedding: unknown key 'row'", "did you mean 'rows'?"]),
        ({"features": {"candidate": ["a"], "behaviors": ["b"]}}, ["did you mean 'behaviours'?"]),
        ({"epoch": 1.5}, ["epoch: ", "got 1.5"]),
        ({"epoch": "many"}, ["epoch: ", "got 'many'"]),
        ({"activation": "gelu"}, ["activation: ", "got 'gelu'", "'dice', 'prelu' or 'relu'"]),
        ({"test_data_start": 20240105, "test_data_end": 20240101}, ["test_data_start", "at most"]),
        ({"subseq_len": 60, "seq_len": 50}, ["subseq_len is 60", "seq_len 50"]),
        ({"start_timestep": 1000}, ["start_timestep is 1000", "at most timesteps"]),
        ({"start_timestep": 3, "infer_timesteps": 9}, ["infer_timesteps is 9"]),
        ({"beta_start": 0.5, "beta_end": 0.1}, ["beta_start is 0.5"]),
        ({"seq_len": 50, "length_buckets": [20, 40]}, ["length_buckets is [20, 40]", "seq_len 50"]),
        ({"seq_len": 50, "length_buckets": [20, 20, 50]}, ["must ascend to seq_len 50"]),
        ({"num_heads": 2, "n_heads": 2}, ["num_heads and n_heads are one setting"]),
        ({"input_units": []}, ["input_units: "]),
        ('{"epoch": }', ["line 1", "not valid JSON"]),
        ("[1]", ["must hold a JSON object"]),
    ],
)
def test_every_mistake_names_the_file_the_key_and_what_is_right(tmp_path, content, parts):
    path = write(tmp_path, content)
    with pytest.raises(ConfigError) as error:
        config.load(path)
    assert str(error.value).startswith(path)
    for part in parts:
        assert part in str(error.value)


def test_two_mistakes_are_two_lines(tmp_path):
    with pytest.raises(ConfigError) as error:
        config.load(write(tmp_path, {"epoch": 0, "batch_size": "x"}))
    assert len(str(error.value).splitlines()) == 2
