"""The benchmark of requests: what it asks, counts and reports."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import floor, serving
from benchmarks.machine import Rates
from benchmarks.plan import Plan
from diffumin_tf.export.signatures import REQUEST, SERVING_DEFAULT
from tests.benchmarks.test_bench import CHANGES, TINY

PLAN = Plan(
    histories=(6,),
    candidates=(1, 3),
    serve_seconds=0.1,
    changes=tuple({**CHANGES, "deep_layers": (5,)}.items()),
    overrides=TINY,
)


@pytest.fixture(scope="module")
def result():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving.machine, "rates", lambda rows: Rates(1e9, 1e9, 1e9, 1e9))
        return serving.measure(PLAN, lambda line: None)


def test_every_size_is_measured_both_ways(result):
    assert [(row["length"], row["candidates"]) for row in result["rows"]] == [(6, 1), (6, 3)]
    for row in result["rows"]:
        for name in (REQUEST, SERVING_DEFAULT):
            assert row[name]["calls"] >= 5 and 0 < row[name]["p50"] <= row[name]["p99"]
    one, three = result["rows"]
    assert three["ratio_apart"] == 3 * one[SERVING_DEFAULT]["p50"] / three[REQUEST]["p50"]
    (text,) = serving.tables(result)
    assert "L=6 N=3" in text


def test_a_request_sends_the_history_once(result):
    _, three = result["rows"]
    ids = 3 * 6 * 8  # three fields of a history of six
    apart = three[SERVING_DEFAULT]["bytes"] - three[REQUEST]["bytes"]
    assert apart == pytest.approx(2 * ids, abs=120)  # but for columns that nobody reads


def test_the_floor_has_one_history_for_all_candidates():
    setting, rates = PLAN.standard(6), Rates(1e9, 1e9, 1e9, 1e9)
    parts = {work.part: work for work in floor.works(setting, training=False)}
    counted = serving._floor(setting, 3, rates)
    samples = setting.batch_size
    others = [work for part, work in parts.items() if part != "look up all behaviours"]
    expected = sum(work.narrow + work.wide for work in others) / samples * 3
    assert counted["multiply_adds"] == pytest.approx(expected)
    more = serving._floor(setting, 4, rates)["moved"] - counted["moved"]
    each = sum(w.streamed + w.gathered for w in others if w.part != "tower") / samples
    assert more == pytest.approx(each)


def test_slow_calls_are_fewer_and_spread_over_the_time():
    turns = []

    def calls(name, milliseconds):
        def call(**_):
            turns.append(name)
            until = serving.time.perf_counter() + milliseconds / 1e3
            while serving.time.perf_counter() < until:
                pass
            return {"pctr": tf.zeros([])}

        return call

    served = {"quick": calls("quick", 1), "slow": calls("slow", 10)}
    asked = {name: {"x": np.zeros(1)} for name in served}
    called = serving._in_turn(served, asked, 0.1)
    assert len(called["quick"].seconds) > 2 * len(called["slow"].seconds) >= 10
    assert "quick" in turns[-30:] and "slow" in turns[-30:]
