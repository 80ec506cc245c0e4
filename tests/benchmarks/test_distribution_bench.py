"""The stage on distribution on tiny models, and its formulas by an independent count."""

import pytest

from benchmarks import distribution, scaling, scenarios
from benchmarks.plan import Plan
from benchmarks.scaling import Device, Sizes

TINY = Plan(
    rounds=2,
    round_seconds=0.01,
    overhead_rounds=2,
    saved_rows=(50, 80),
    saves=1,
    steps_a_save=1,
    vocabulary_ids=1000,
    links=False,
    changes=tuple(
        {
            "batch_size": 4,
            "kept": 2,
            "recent": 0,
            "infer_timesteps": 1,
            "rows": 50,
            "deep_layers": (5,),
        }.items()
    ),
    overrides=(
        "embed_dim=2",
        "num_heads=1",
        "n_layers=1",
        "dff_factor=1",
        "jit_compile=false",
        "channel_num=2",
        "use_cmic=false",
        "activation=relu",
    ),
)


def test_a_tiny_run_measures_every_part_and_prints_tables(monkeypatch):
    # Histories and batches whose rows are quickly drawn.
    monkeypatch.setattr(distribution, "_LONG", 60)
    monkeypatch.setattr(scenarios, "BATCH", 16)
    found = distribution.measure(TINY, lambda line: None)
    assert set(found["one_replica"]) == {"eleme", "L=500"}
    for compared in found["one_replica"].values():
        assert compared["ratio"].median > 0
    assert [row["rows"] for row in found["saving"]["rows"]] == [50, 80]
    text = "\n".join(distribution.tables(found))
    assert "one replica" in text and "checkpoints" in text and "8 GPUs, NVLink" in text


SIZES = Sizes(
    rows=10**8,
    dim=8,
    trained=100,
    scanned=50,
    parameters=1_000_000,
    looped=0,
    loops=0,
    norms=(),
    inputs=0,
    interests=0,
    channels=0,
)


def test_the_gradient_of_the_table_grows_with_the_replicas_and_that_of_all_else_does_not():
    for replicas in (2, 4, 8):
        table, rest = scaling.exchanges(SIZES, 1024 * replicas, replicas)[:2]
        # Rows of the others: 1,024 samples of 100 rows of 8 floats and a number, each; a length.
        assert table.received == (replicas - 1) * (1024 * 100 * 36 + 4)
        assert rest.received == pytest.approx(2 * (replicas - 1) / replicas * 4_000_000)
    assert SIZES.table_bytes == 6_400_000_000
    assert SIZES.checkpoint_bytes == 6_400_000_000 + 12_000_000


def test_no_number_of_replicas_exceeds_the_ceiling():
    device = Device(samples=50_000, rows=1e9, link=12.5e9, latency=0.0)
    ceiling = scaling.ceiling(SIZES, device)
    assert ceiling == pytest.approx(1 / (100 * (36 / 12.5e9 + 1e-9)))

    def speed(replicas):
        parts = scaling.synchronous(SIZES, device, 1024 * replicas, replicas)
        return 1024 * replicas / sum(parts.values())

    assert speed(2) < speed(8) < speed(64) < ceiling
    assert scaling.worthwhile(SIZES, device) == pytest.approx(ceiling / 50_000)
