"""Samples of messy logs equal a brute force, on every engine."""

import functools
import importlib.util
import random
import shutil

import numpy as np
import pytest

from tests.prepare import messy_logs
from tests.prepare.prepared import ids, prepare_on, read_samples
from tests.prepare.small_tables import write_spec

NO_SPARK = not shutil.which("java") or not importlib.util.find_spec("pyspark")
ENGINES = [
    "duckdb",
    pytest.param("spark", marks=pytest.mark.skipif(NO_SPARK, reason="no java or no pyspark here")),
]
# Code that is compiled for a query pays on more rows than these have: a third of the time.
SPARK = "--driver-java-options -XX:TieredStopAtLevel=1 --conf spark.sql.codegen.wholeStage=false "
SPARK += "--conf spark.sql.codegen.factoryMode=NO_CODEGEN --conf spark.sql.adaptive.enabled=false "
SPARK += "pyspark-shell"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("make", messy_logs.LOGS, ids=lambda make: make.__name__)
def test_300_random_samples_of_a_messy_log_equal_a_brute_force(tmp_path, monkeypatch, make, engine):
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", SPARK)
    log = make(seed=17)
    log.write(tmp_path)
    output = tmp_path / "out"
    spec = write_spec(tmp_path, log.spec)
    manifest = prepare_on(engine, spec, str(tmp_path), str(output), jobs=1)
    days = messy_logs.by_day(log)
    assert {day: entry["examples"] for day, entry in manifest["days"].items()} == {
        day: len(shown) for day, shown in days.items()
    }
    truths = [(day, shown) for day in sorted(days) for shown in days[day]]
    # Spark may write the samples of a day in another order.
    found = {day: [flat(log, r) for r in read_samples(output, day)] for day in days}
    for day, shown in random.Random(5).sample(truths, 300):
        expected = expected_record(log, shown)
        alike = [r for r in found[day] if r[:3] == expected[:3]]
        assert expected in alike, (shown, expected, alike)


@functools.cache
def one(name, text):
    """The id of a value; no log here has another space than the field's name."""
    return ids(name, text)[0]


def flat(log, record):
    """Label, user and time, ids; numbers; lists by name."""
    lists = {key: ids for key, ids in record.items() if key.endswith("_list") or key in log.several}
    dense = np.round(record.get("dense_feature", []), 4).tolist()
    return [*(record[k] for k in ("label", "auxiliary_info", "cat_feature")), dense, lists]


def expected_record(log, shown):
    truth, user = messy_logs.sample(log, shown), log.spec["impressions"]["user"]
    cat = truth["cat_feature"]
    lists = {n: [one(n, text) for text in texts] for n, texts in cat.items() if n in log.several}
    for name, texts in truth["history"].items():
        lists[f"{name}_list"] = [one(name, text) for text in texts]
    return [
        [truth["label"]],
        [one(user, shown[user]), truth["time"]],
        [one(name, text) for name, text in cat.items() if name not in log.several],
        truth["dense_feature"],
        lists,
    ]
