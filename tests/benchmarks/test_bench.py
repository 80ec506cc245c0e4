"""The benchmarks: what they draw, count, time and compare."""

import dataclasses
import json
import math

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import clock, compare, contenders, floor, run, settings, timing
from benchmarks.plan import Plan
from benchmarks.settings import Setting
from diffumin_tf.errors import ConfigError

TINY = (
    "embed_dim=2",
    "num_heads=1",
    "n_layers=1",
    "dff_factor=1",
    "jit_compile=false",
    "channel_num=4",
)
CHANGES = {"batch_size": 4, "kept": 2, "recent": 3, "infer_timesteps": 2, "rows": 50}


def tiny(**changes):
    return Setting(**{"length": 6, "deep_layers": (5,), "overrides": TINY, **CHANGES, **changes})


def test_rows_stay_within_the_table_and_few_are_frequent():
    rows = settings.draw_rows(np.random.default_rng(0), 1000, (20_000,))
    assert rows.min() >= 1 and rows.max() <= 999 and rows.dtype == np.int32
    frequent = np.sort(np.bincount(rows))[::-1]
    assert frequent[:100].sum() / len(rows) == pytest.approx((100 / 999) ** 0.2, abs=0.05)


def test_both_contenders_get_the_same_samples():
    batch = settings.random_batch(tiny(), 0)
    (group,) = batch.inputs["histories"]
    np.testing.assert_array_equal(group.rows, batch.dense["behaviours"])
    assert group.rows.shape == (4, 6, 3) and group.mask.numpy().all()
    np.testing.assert_array_equal(group.samples, range(4))


def test_a_key_that_a_setting_decides_cannot_be_overridden():
    with pytest.raises(ConfigError, match="'seq_len=9': the benchmark itself decides this key"):
        _ = dataclasses.replace(tiny(), overrides=("seq_len=9",)).config


def test_lengths_share_a_graph_unless_the_product_would_keep_less():
    for contender, shares in (("product", False), ("reference", True)):
        graphs = {contenders.shared(contender, tiny(length=length)) for length in (3, 5, 6)}
        assert len(graphs) == 1
        short = contenders.shared(contender, tiny(length=2))
        assert (short in graphs) == shares


def test_the_counted_work_is_that_of_the_equations():
    setting = tiny()
    parts = {work.part: work for work in floor.works(setting, training=False)}
    samples, length, fields, width, channels, kept = 4, 6, 3, 6, 4, 4 * 2
    assert parts["look up all behaviours"].gathered == samples * length * width * 4
    assert parts["score and choose"].narrow == samples * (
        channels * width * width + length * channels * width
    )
    assert parts["aggregate the kept"].gathered == samples * kept * width * 4
    # One block: three projections of the own token, one query over four keys, output, two layers.
    one = 3 * width**2 + 2 * 4 * width + 3 * width**2
    assert floor.denoiser_pass(setting) == one
    assert parts["denoise"].narrow == samples * channels * (4 * width**2 + 2 * one)
    model = settings.build_model(setting)
    assert floor.tower_width(setting) == model.tower.input_width
    assert parts["tower"].wide == samples * (model.tower.input_width * 5 + 5)
    training = {work.part: work for work in floor.works(setting, training=True)}
    assert training["denoise"].narrow == samples * channels * (3 * (4 * width**2 + 2 * one) + one)
    assert training["optimisers"].gathered == (
        samples * ((kept + 3) * fields + len(model.layout.fields)) * 2 * 4 * 5
    )


def test_contenders_take_turns_and_first_calls_are_no_part_of_the_rounds():
    calls = []
    steps = {name: lambda batch, name=name: calls.append((name, batch)) for name in "ab"}
    timed = clock.in_turn(steps, [1, 2, 3], rounds=2, round_seconds=0.0)
    assert [name for name, _ in calls] == ["a", "a", "b", "b", "a", "b", "a", "b"]
    assert all(len(times.seconds) == 2 for times in timed.values())
    spread = clock.ratios(clock.Timed(0, [2.0, 9.0, 4.0]), clock.Timed(0, [1.0, 3.0, 2.0]))
    assert spread == (2.0, 2.0, 3.0)
    assert clock.Spread.of([0.5, 0.25, 1.0]).per_second(10) == (20, 10, 40)


def test_a_tiny_run_gives_ratios_that_are_numbers(tmp_path):
    plan = Plan(
        lengths=(6,),
        with_eleme=False,
        rounds=2,
        round_seconds=0.01,
        changes=tuple({**CHANGES, "deep_layers": (5,), "infer_timesteps": 1}.items()),
        overrides=(*TINY, "channel_num=2"),
    )
    lines = []
    found = timing.measure(plan, lines.append)
    assert lines and timing.tables(found)
    ratios = json.loads(json.dumps(run._plain(found["ratios"])))
    for kind in ("training", "scoring"):
        assert math.isfinite(ratios[kind]["6"]) and ratios[kind]["6"] > 0


RATIOS = {"training": {"50": 4.0, "5000": 7.0}, "peak_memory": {"5000": 0.4}}


def report(tmp_path, ratios):
    path, lines = str(tmp_path / "baseline.json"), []
    compare.write_baseline(path, RATIOS, "the command")
    return compare.report(ratios, path, lines.append), lines


def test_ratios_within_the_tolerance_pass_and_missing_ones_are_skipped(tmp_path):
    ratios = {"training": {"5000": 5.7}, "peak_memory": {"5000": 0.47}}
    code, lines = report(tmp_path, ratios)
    assert code == 0 and 'skipped: training."50" was not measured' in lines
    assert sum(line.startswith("ok: ") for line in lines) == 2


@pytest.mark.parametrize(
    ("ratios", "fell_short"),
    [
        ({"training": {"50": 4.0, "5000": 5.5}}, 'FELL SHORT: training."5000" is 5.5'),
        ({"peak_memory": {"5000": 0.5}}, 'FELL SHORT: peak_memory."5000" is 0.5'),
    ],
)
def test_a_ratio_that_fell_short_is_named_and_fails(tmp_path, ratios, fell_short):
    code, lines = report(tmp_path, ratios)
    assert code == 1 and any(line.startswith(fell_short) for line in lines)
    assert lines[-1].startswith("1 of 3 ratios fell short of")


def test_without_a_baseline_nothing_is_compared(tmp_path):
    lines = []
    assert compare.report(RATIOS, str(tmp_path / "none.json"), lines.append) == 0
    assert "nothing to compare with" in lines[0]
    tf.io.gfile.GFile(str(tmp_path / "b.json"), "w").write("{}")
    with pytest.raises(ConfigError, match="a baseline has 'ratios' and 'tolerance'"):
        compare.report(RATIOS, str(tmp_path / "b.json"), lines.append)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--only=time", "--only: no stage 'time'; there are timing, memory"),
        ("--nonsense", "Unknown command line flag 'nonsense'"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_measured(capsys, flag, message):
    assert run.main([flag]) == 2
    assert message in capsys.readouterr().err
