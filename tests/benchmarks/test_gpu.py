"""`benchmarks.gpu` without a GPU: its plan, its time, what it counts, and what it says."""

import dataclasses
import json
import time

import numpy as np
import pytest
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks import cell as cells
from benchmarks import gpu
from benchmarks.cell import Cell, count_events
from benchmarks.contenders import PRODUCT, graph_setting
from benchmarks.measuring import Spread
from benchmarks.settings import Setting

SMALL = (
    "embed_dim=2 num_heads=1 n_layers=1 dff_factor=1 infer_timesteps=1 channel_num=2 "
    "activation=relu deep_layers=[5] jit_compile=false"
)
TINY = Setting(6, kept=2, recent=3, rows=50, overrides=tuple(SMALL.split()))


class FakeWorker:
    """Answers at once; a step on the CPU takes four times as long, but one of size 4 is killed."""

    started: list[dict] = []

    def __init__(self, variables):
        self.started.append(variables)
        self.alive = True

    def measure(self, cell, seconds):
        self.alive = cell.setting.batch_size != 4
        if not self.alive:
            return {"why": "it is too large"}
        ms = Spread.of([40.0 if cell.device == "CPU" else 10.0])
        speed = Spread.of([1000 * cell.setting.batch_size / ms.median])
        return {"first_seconds": 1.0, "ms": ms, "samples_per_second": speed, "kernels": 5.0}

    def stop(self):
        self.alive = False


@pytest.fixture
def fake_workers(monkeypatch):
    monkeypatch.setattr(FakeWorker, "started", [])
    monkeypatch.setattr(gpu, "Worker", FakeWorker)
    return FakeWorker


def test_every_size_and_key_is_planned_with_a_config_that_loads_and_the_goal_comes_first():
    planned = gpu.plan(Setting(1000))
    sizes = {(c.setting.length, c.setting.batch_size) for c in planned}
    assert sizes == {(n, b) for n in (50, 1000, 5000) for b in (64, 512, 4096)}
    assert len({c.name for c in planned}) == len(planned) == 9 * 4 + 5 * 2
    assert planned[0].name == "GPU training L=5,000 B=64"
    for cell in planned:
        key, _, value = cell.what.partition("=")
        if value:
            config = graph_setting(PRODUCT, cell.setting).config
            assert json.dumps(getattr(config, key)) == value


def test_without_a_gpu_the_cpu_is_measured_and_the_command_says_so(monkeypatch, tmp_path, capsys):
    class Here(FakeWorker):
        def measure(self, cell, seconds):
            return cells.measure(cell)

    monkeypatch.setattr(gpu, "Worker", Here)
    few = [c for c in gpu.plan(TINY, ((6, 3), (7, 3)))[:8] if c.setting.length == 6]
    monkeypatch.setattr(gpu, "plan", lambda standard: few)
    monkeypatch.setattr(cells, "ROUND_SECONDS", 0.0)
    assert gpu.main([f"--output={tmp_path / 'gpu.json'}"]) == 1
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert all(row["device"] == "CPU" and row["ms"]["median"] > 0 for row in found["rows"])
    assert len(found["rows"]) == len(found["not_measured"]) == 2
    assert {row["why"] for row in found["not_measured"]} == {"no GPU was found"}
    said = capsys.readouterr().out
    assert said.rstrip().endswith("no GPU was found: the CPU alone is measured")
    assert "Not measured (no GPU was found): GPU training L=6 B=3; " in said


def test_a_gpu_stands_beside_the_cpu_and_a_key_beside_the_defaults(fake_workers):
    found = gpu.measure_all(
        gpu.plan(TINY, ((6, 2), (6, 3), (6, 4))), True, time.monotonic() + 60, print
    )
    lines = gpu.tables(found).splitlines()
    assert next(x for x in lines if "| training | 6 | 3 | 1.0" in x).endswith("| 4.00 |")
    assert next(x for x in lines if "| parallel_parts=2 |" in x).endswith("| 1.00 |")
    assert lines[-1].startswith("Not measured (it is too large): GPU training L=6 B=4; ")
    hidden = [variables.get("CUDA_VISIBLE_DEVICES") for variables in fake_workers.started]
    # One each, one that is not deterministic, and one anew after each cell that ended its process.
    assert hidden == [None, "-1", None, None, "-1"]


def test_what_the_time_was_too_short_for_is_listed(fake_workers):
    planned = gpu.plan(TINY, ((6, 2), (6, 3)))
    found = gpu.measure_all(planned, True, time.monotonic() + gpu._LEAST - 1, print)
    assert [row["name"] for row in found["not_measured"]] == [c.name for c in planned]
    assert not found["rows"] and not fake_workers.started


def test_a_cell_that_takes_too_long_ends_its_process_alone():
    worker = gpu.Worker({})
    assert "took longer" in worker.measure(Cell("CPU", "training", TINY), 0.01)["why"]
    assert not worker.alive
    assert "killed" in worker.measure(Cell("CPU", "training", TINY), 0.01)["why"]


def test_kernels_are_what_streams_of_a_gpu_ran_but_for_copies():
    space = xplane_pb2.XSpace()
    for plane_name in ("/device:GPU:0", "/host:CPU"):
        plane = space.planes.add(name=plane_name)
        for i, name in enumerate(("void gemm", "MemcpyD2H", "Memset")):
            plane.event_metadata[i].name = name
        for line_name in ("Stream #7(Compute)", "Stream #8(MemcpyD2H)", "XLA Ops"):
            line = plane.lines.add(name=line_name)
            for i in (0, 0, 1, 2):
                line.events.add(metadata_id=i, duration_ps=3_000_000_000)
    found = count_events(space, 2)
    assert found == {"kernels": 2.0, "kernel_ms": 6.0, "copies_to_host": 1.0}
    del space.planes[0]
    assert count_events(space, 2) == {}


def test_a_profile_without_a_gpu_says_that_nothing_was_counted():
    assert "saw no GPU" in cells._profile(lambda batch: None, [None])["nothing_counted"]


def test_short_histories_are_grouped_and_every_sample_is_in_one_group():
    setting = dataclasses.replace(TINY.at(64), batch_size=8)
    (one,) = cells._batches(Cell("GPU", "training", setting, buckets=(64,)))[0].histories
    groups = cells._batches(Cell("GPU", "training", setting, buckets=(16, 64)))[0].histories
    assert sorted(np.concatenate([g.samples for g in groups])) == list(range(8))
    lengths = one.mask.numpy().sum(axis=1)
    assert (lengths == 64).sum() >= 4 and lengths.min() < 64
    for group in groups:
        assert list(group.mask.numpy().sum(axis=1)) == list(lengths[group.samples.numpy()])
        assert (group.rows.numpy()[~group.mask.numpy()] == 0).all()


def test_a_size_that_needs_more_memory_than_is_free_is_left_out(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    1000 kB\n")
    monkeypatch.setattr(cells, "_MEMINFO", tmp_path / "meminfo")
    why = cells.measure(Cell("CPU", "training", dataclasses.replace(TINY, batch_size=64)))["why"]
    assert why == "it needs some 0.1 GB of memory and 0.0 GB are free"
