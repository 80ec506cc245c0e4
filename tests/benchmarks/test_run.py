"""The benchmarks from end to end on tiny models, and what they draw, time and compare."""

import dataclasses
import json
import math
import os
import time
import types

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import compare, machine, memory, pipeline, product_alone, run, stored_once
from benchmarks.contenders import graph_setting
from benchmarks.floor import works
from benchmarks.measuring import Spread, in_fresh_process, in_turn
from benchmarks.samples import draw_rows
from benchmarks.serving import call_in_turn
from benchmarks.settings import Plan, Setting
from diffumin_tf.errors import ConfigError
from diffumin_tf.export.signatures import REQUEST, SERVING_DEFAULT

SMALL = (
    "embed_dim=2 num_heads=1 n_layers=1 dff_factor=1 infer_timesteps=1 channel_num=2 "
    "activation=relu deep_layers=[5] jit_compile=false"
)
TINY = Setting(6, batch_size=4, kept=2, recent=3, rows=50, overrides=tuple(SMALL.split()))
PLAN = Plan(
    **{"standard": TINY, "eleme": None, "lengths": (6,), "histories": (6,), "breakdown": (6,)},
    **{
        "growth": (6, 8),
        "one_thread": ((3, 4),),
        "candidates": (1, 3),
        "records": 8,
        "passes": 1,
        "impressions": 3,
    },
    **{"rounds": 2, "round_seconds": 0.01, "serve_seconds": 0.1},
)


NO_STEPS = {"training": lambda batch: None, "scoring": lambda batch: None}
NO_MODEL = types.SimpleNamespace(train_step=lambda batch: {"total_loss": tf.size(batch.user)})


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What a tiny run of all stages writes."""
    output = tmp_path_factory.mktemp("bench") / "results.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "Plan", lambda: PLAN)
        patch.setattr(memory, "_REPEATS", 2)
        for stage in (pipeline, stored_once):
            patch.setattr(stage, "_IDS", 40)  # rows of the table
            patch.setattr(stage, "_LENGTH", 60)
            patch.setattr(stage, "product_model", lambda setting: NO_MODEL)
        patch.setattr(machine, "rates", lambda rows: machine.Rates(1e9, 1e9, 1e9, 1e9))
        # The stage `speed` compiles steps of the product already; here they do nothing.
        patch.setattr(product_alone, "steps", lambda contender, setting: NO_STEPS)
        for stage in (memory, product_alone, stored_once):
            patch.setattr(stage, "in_fresh_process", lambda call, *args, variables: call(*args))
        code = run.main([f"--output={output}"])
    assert code == 0  # nothing that was measured is in the baseline
    return json.loads(output.read_text())


def test_a_run_measures_every_stage_and_gives_ratios_that_are_numbers(results):
    assert results.keys() >= run.STAGES.keys()
    assert results["ratios"].keys() == {"training", "scoring", "peak_memory"}
    for by_length in results["ratios"].values():
        assert by_length.keys() == {"6"} and math.isfinite(by_length["6"])
    assert set(results["speed"]["rows"][0]["samples_per_second"]) == {"median", "low", "high"}
    assert [row["length"] for row in results["product_alone"]["growth"]] == [6, 8]
    (row,) = results["product_alone"]["one_thread"]
    assert (row["batch_size"], row["infer_timesteps"]) == (3, 4)


def test_a_history_that_is_stored_once_is_measured_beside_one_for_each_impression(results):
    found = results["stored_once"]
    assert found["impressions"] == 3 and found["speeds"].keys() == {"read", "memory", "disk"}
    for by_kind in found["speeds"].values():
        assert by_kind["each"]["median"] > 0 and by_kind["times"]["median"] > 0
    saved = found["bytes_per_sample"]["each"] - found["bytes_per_sample"]["once"]
    assert saved == pytest.approx(2 / 3 * 60 * 3 * 9, rel=0.2)  # three fields of ids of 9 bytes


def test_every_part_of_a_step_is_timed_beside_its_floor(results):
    training, scoring = results["breakdown"]["rows"]
    assert training["parts"].keys() - scoring["parts"].keys() == {"optimisers"}
    for row in (training, scoring):
        for part in row["parts"].values():
            assert part["ms"]["median"] > 0 and part["floor_ms"] > 0


def test_a_request_sends_the_history_once(results):
    one, three = results["serving"]["rows"]
    assert one[REQUEST]["calls"] >= 5 and 0 < one[REQUEST]["p50"] <= one[REQUEST]["p99"]
    ids = 3 * 6 * 8  # three fields of a history of six
    saved = three[SERVING_DEFAULT]["bytes"] - three[REQUEST]["bytes"]
    assert saved == pytest.approx(2 * ids, abs=120)  # but for columns that nobody reads


def test_rows_stay_within_the_table_and_few_are_frequent():
    rows = draw_rows(np.random.default_rng(0), 1000, (20_000,))
    assert rows.min() >= 1 and rows.max() <= 999 and rows.dtype == np.int32
    frequent = np.sort(np.bincount(rows))[::-1]
    assert frequent[:100].sum() / len(rows) == pytest.approx((100 / 999) ** 0.2, abs=0.05)


def test_lengths_share_a_graph_unless_the_product_would_keep_less():
    for contender, shares in (("product", False), ("reference", True)):
        graphs = {graph_setting(contender, TINY.at(length)) for length in (3, 5, 6)}
        assert len(graphs) == 1
        assert (graph_setting(contender, TINY.at(2)) in graphs) == shares


@pytest.mark.parametrize("training", [False, True])
def test_the_counted_work_is_that_of_the_equations(training):
    batch, length, width, channels, kept, recent, tower = 4, 6, 6, 2, 2 * 2, 3, 1000
    parts = works(TINY.with_overrides("infer_timesteps=2"), tower, training)
    assert parts["look up all"].gathered == batch * length * width * 4
    assert parts["score and choose"].narrow == batch * (
        channels * width * width + length * channels * width
    )
    # One block: three projections of the noisy token, one query over two keys, output, two layers.
    one = 3 * width**2 + 2 * 2 * width + 3 * width**2
    steps = 3 * (4 * width**2 + 2 * one) + one if training else 4 * width**2 + 2 * one
    assert parts["denoise"].narrow == batch * channels * steps
    assert parts["tower"].wide == batch * tower * (3 if training else 1)
    if training:
        rows = batch * ((kept + recent) * 3 + len(TINY.layout.fields))
        assert parts["optimisers"].gathered == rows * 2 * 4 * 5


def test_contenders_take_turns_and_first_calls_are_no_part_of_the_rounds():
    calls = []
    steps = {name: lambda batch, name=name: calls.append((name, batch)) for name in "ab"}
    timed = in_turn(steps, [1, 2, 3], rounds=2, round_seconds=0.0)
    assert [name for name, _ in calls] == ["a", "a", "b", "b", "a", "b", "a", "b"]
    assert all(len(times.seconds) == 2 for times in timed.values())
    # Ratios are taken round by round.
    slow, fast = (dataclasses.replace(timed["a"], seconds=x) for x in ([2.0, 9.0], [1.0, 3.0]))
    assert fast.times_faster_than(slow) == Spread(2.5, 2.0, 3.0)


def test_a_fresh_process_has_the_variables_and_this_one_does_not():
    assert in_fresh_process(os.getenv, "BENCH", variables={"BENCH": "there"}) == "there"
    assert "BENCH" not in os.environ


def test_slow_calls_are_fewer_in_the_same_time():
    def sleeps(seconds):
        return lambda **_: time.sleep(seconds) or {"pctr": tf.zeros([])}

    served = {"quick": sleeps(0.001), "slow": sleeps(0.01)}
    seconds = call_in_turn(served, {name: {"x": np.zeros(1)} for name in served}, 0.1)
    assert len(seconds["quick"]) > 2 * len(seconds["slow"]) >= 10
    assert sum(seconds["quick"]) == pytest.approx(sum(seconds["slow"]), rel=0.5)


@pytest.mark.parametrize(
    ("ratios", "short"),
    [
        ({"training": {"5000": 5.7}, "peak_memory": {"5000": 0.47}}, []),
        ({"training": {"50": 4.0, "5000": 5.5}}, ['training."5000"']),
        ({"peak_memory": {"5000": 0.5}}, ['peak_memory."5000"']),
    ],
)
def test_only_a_ratio_beyond_the_tolerance_falls_short(tmp_path, ratios, short):
    path, lines = str(tmp_path / "baseline.json"), []
    baseline = {"training": {"50": 4.0, "5000": 7.0}, "peak_memory": {"5000": 0.4}}
    compare.write_baseline(path, baseline, "the command")
    assert compare.report(ratios, path, lines.append) == (not short)
    fell_short = [line for line in lines if line.startswith("FELL SHORT")]
    assert len(fell_short) == len(short) and all(map(str.__contains__, fell_short, short))
    assert sum(line.startswith("skipped") for line in lines) == 3 - sum(map(len, ratios.values()))


def test_a_file_that_is_no_baseline_is_refused(tmp_path):
    (tmp_path / "baseline.json").write_text("{}")
    with pytest.raises(ConfigError, match="baseline.json"):
        compare.report({}, f"{tmp_path}/baseline.json", print)


@pytest.mark.parametrize("flags", [["--only=time"], ["--quick", "--write_baseline"]])
def test_wrong_usage_is_refused_before_anything_is_measured(capsys, flags):
    assert run.main(flags) == 2
    assert flags[-1].strip("-").split("=")[-1] in capsys.readouterr().err
