"""One size of the problem on the device of this process: times, kernels, memory."""

import dataclasses
import functools
import glob
import pathlib
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.contenders import PRODUCT, TRAINING, graph_setting, product_model, product_update
from benchmarks.measuring import in_turn
from benchmarks.samples import mixed_lengths, random_batch
from benchmarks.settings import Setting
from diffumin_tf import devices
from diffumin_tf.input.batch import Batch, HistoryGroup
from diffumin_tf.model import compiled_for_any_batch

GPU, CPU = "GPU", "CPU"
ROUNDS, ROUND_SECONDS = 3, 0.5

_PROFILED_STEPS = 2
# What a training step needs on a CPU for a sample, and for each of its behaviours.
_SAMPLE_BYTES, _BEHAVIOUR_BYTES = 1_500_000, 300
_MEMINFO = pathlib.Path("/proc/meminfo")

Step = Callable[[Batch], object]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One thing to measure.

    Attributes:
        device: `GPU` or `CPU`.
        kind: `TRAINING` or `SCORING`.
        setting: its size, and the keys that are not the device's defaults.
        what: what is special about it, in words.
        buckets: where half of the histories are short, the lengths to which they are padded.
    """

    device: str
    kind: str
    setting: Setting
    what: str = ""
    buckets: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        size = f"L={self.setting.length:,} B={self.setting.batch_size:,}"
        return " ".join(filter(None, [self.device, self.kind, size, self.what]))


def measure(cell: Cell) -> dict[str, Any]:
    """Measures in this process, whose TensorFlow must see the cell's device.

    Returns:
        The keys `in_force`, `first_seconds`, the `Spread`s `ms` and `samples_per_second`; on a GPU
        also `step_bytes`, and what `count_events` returns or why there is `nothing_counted`. Or
        `why` nothing was measured.
    """
    if why := _too_large(cell):
        return {"why": why}
    size = cell.setting.batch_size if cell.kind == TRAINING else None
    step, batches = _step(graph_setting(PRODUCT, cell.setting), size), _batches(cell)
    timed = in_turn({cell.name: step}, batches, ROUNDS, ROUND_SECONDS)[cell.name]
    result = {
        "in_force": devices.describe(cell.setting.config),
        "first_seconds": timed.first_seconds,
        "ms": timed.milliseconds(),
        "samples_per_second": timed.per_second(cell.setting.batch_size),
    }
    if cell.device == GPU:
        result |= {"step_bytes": _memory_of(step, batches[0]), **_profile(step, batches)}
    return result


def count_events(space: Any, steps: int) -> dict[str, float]:
    """What the GPUs of a profile did in one step.

    Args:
        space: `XSpace`.
        steps: how many it shows.

    Returns:
        `kernels`, the sum of their times `kernel_ms`, and `copies_to_host`; nothing where the
        profiler saw no GPU.
    """
    counts, picoseconds = Counter(), 0
    for plane in (plane for plane in space.planes if plane.name.startswith("/device:GPU")):
        # Lines of other names sum up what these hold.
        for line in (line for line in plane.lines if line.name.startswith("Stream #")):
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                is_kernel = not name.startswith("Mem")  # MemcpyD2H, Memset, MemoryAlloc …
                counts["kernel" if is_kernel else name] += 1
                picoseconds += event.duration_ps if is_kernel else 0
    if not counts:
        return {}
    return {
        "kernels": counts["kernel"] / steps,
        "kernel_ms": picoseconds / 1e9 / steps,
        "copies_to_host": counts["MemcpyD2H"] / steps,
    }


@functools.cache  # a graph serves all sizes, and half of the keys
def _step(key: Setting, size: int | None) -> Step:
    """A step as the trainer makes it for batches of one size, or as a scorer makes it for any."""
    function = product_update(key, size) if size else product_model(key).predict_click
    compiled = compiled_for_any_batch(function)

    def step(batch: Batch) -> None:
        compiled(batch)
        tf.test.experimental.sync_devices()  # what it returns may be ready before the weights

    return step


def _batches(cell: Cell) -> list[Batch]:
    batches = _full_batches(dataclasses.replace(cell.setting, overrides=()))
    return [_half_short(batch, cell.buckets) for batch in batches] if cell.buckets else batches


@functools.lru_cache(maxsize=1)
def _full_batches(setting: Setting) -> list[Batch]:
    # Different ones, so that no step finds its rows in a cache; a large one has too many for that.
    count = 4 if setting.length * setting.batch_size <= 5_000_000 else 1
    with tf.device(CPU):  # where the input pipeline leaves them
        return [random_batch(setting, seed) for seed in range(count)]


def _half_short(batch: Batch, buckets: Sequence[int]) -> Batch:
    (group,), groups = batch.histories, []
    lengths = mixed_lengths(np.random.default_rng(0), len(group.samples), buckets[-1])
    bucket_of = np.searchsorted(buckets, lengths)
    for bucket, length in enumerate(buckets):
        samples = np.flatnonzero(bucket_of == bucket).astype(np.int32)
        mask = np.arange(length) < lengths[samples, np.newaxis]
        rows = np.where(mask[..., np.newaxis], group.rows.numpy()[samples, :length], 0)
        with tf.device(CPU):
            groups.append(HistoryGroup(*map(tf.constant, (rows, mask, samples))))
    return batch._replace(histories=tuple(groups))


def _too_large(cell: Cell) -> str:
    """Why a CPU would be killed for memory; a GPU says itself that it has none left."""
    if cell.device == GPU or not _MEMINFO.exists():
        return ""
    lines = dict(line.split(":") for line in _MEMINFO.read_text().splitlines())
    free = 1024 * int(lines["MemAvailable"].split()[0])
    sample = _SAMPLE_BYTES + _BEHAVIOUR_BYTES * cell.setting.length
    needed = sample * cell.setting.batch_size
    words = f"it needs some {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free"
    return words if needed > free else ""


def _memory_of(step: Step, batch: Batch) -> int:
    """Bytes of the GPU that a step needs above what lay there before it."""
    tf.config.experimental.reset_memory_stats("GPU:0")
    before = tf.config.experimental.get_memory_info("GPU:0")["current"]
    step(batch)
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] - before


def _profile(step: Step, batches: Sequence[Batch]) -> dict[str, Any]:
    """What `count_events` returns, or why there is `nothing_counted`."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=0)
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tf.profiler.experimental.Profile(folder, options):
                for i in range(_PROFILED_STEPS):
                    step(batches[i % len(batches)])
        except tf.errors.OpError as error:
            return {"nothing_counted": f"the profiler failed: {error.message[:200]}"}
        files = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        spaces = [xplane_pb2.XSpace.FromString(pathlib.Path(f).read_bytes()) for f in files]
    counted = [count_events(space, _PROFILED_STEPS) for space in spaces]
    return (counted and counted[0]) or {"nothing_counted": "the profiler saw no GPU; has it CUPTI?"}
