"""Costs of the parts of a step that grow with data, table or machines, one device at a time."""

from __future__ import annotations

import pathlib
import posixpath
import tempfile
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from benchmarks import apart, clock, memory, synthetic
from benchmarks.clock import Spread
from benchmarks.plan import Plan
from benchmarks.scaling import Shares, Sizes
from benchmarks.settings import Setting, draw_ranks, draw_rows
from benchmarks.tables import spread, table
from diffumin_tf.files import write_text
from diffumin_tf.input.parsing import read_records
from diffumin_tf.input.vocabulary import VocabularyRows
from diffumin_tf.model import RankingModel
from diffumin_tf.training.optimizers import RowAdagrad

_SHARE_OF_ROUND = 0.25
_SMALL_GRADIENT = 1e-4
GATHERED, ASSIGNED, ADDED = "look up", "RowAdagrad (one copy of the table)", "Adagrad (servers)"


def sizes_of(setting: Setting, model: RankingModel) -> Sizes:
    """What of a model decides what it exchanges."""
    config, layout = setting.config, setting.layout
    fields = len(layout.behaviours)
    kept = config.channel_num * min(setting.kept, setting.length)
    (unit,) = model.units
    steps = config.infer_timesteps
    return Sizes(
        rows=setting.rows,
        dim=config.embed_dim,
        trained=(kept + config.subseq_len) * fields + len(layout.fields),
        scanned=setting.length * fields,
        parameters=_count(model.trainable_variables) - setting.rows * config.embed_dim,
        looped=_count(unit._generate.denoiser.trainable_variables),
        loops=steps - min(config.sampler_grad_steps or steps, steps),
        norms=(
            config.channel_num,
            *(w for w in config.deep_layers for _ in range(1 + (config.activation == "dice"))),
        ),
        inputs=len(layout.dense),
        interests=config.channel_num * fields * config.embed_dim,
        channels=config.channel_num,
    )


def shares(sizes: Sizes, batch: int) -> Shares:
    """Different rows among those of a worker's batch, with ids as popular as in `draw_rows`."""
    return Shares(*(_different(sizes.rows, batch * n) for n in (sizes.scanned, sizes.trained)))


def hottest(sizes: Sizes, batch: int, servers: int) -> float:
    """Share of a batch's different rows in the first part of a table, the most frequent first."""
    ranks = _ranks(sizes.rows, batch * (sizes.scanned + sizes.trained))
    return float((np.unique(ranks) < sizes.rows / servers).mean())


def row_rates(plan: Plan, rows: int, counts: Sequence[int]) -> dict[str, dict[int, Spread]]:
    """Rows a second that are looked up, and that are added up and applied to a table.

    Args:
        plan: rounds.
        rows: of the table, of width 8.
        counts: rows of a gradient.
    """
    weights = tf.Variable(tf.random.normal([rows, 8]))
    optimizers = {ASSIGNED: RowAdagrad(0.05), ADDED: tf.keras.optimizers.Adagrad(0.05)}
    for optimizer in optimizers.values():
        optimizer.build([weights])
    steps: dict[str, Callable] = {GATHERED: _compiled(lambda slices: tf.gather(weights, slices[0]))}
    for name, optimizer in optimizers.items():

        def apply(slices: tuple, optimizer: tf.keras.optimizers.Optimizer = optimizer) -> tf.Tensor:
            gradient = tf.IndexedSlices(slices[1], slices[0], tf.constant([rows, 8]))
            return optimizer.apply_gradients([(gradient, weights)])

        steps[name] = _compiled(apply)
    rng, found = np.random.default_rng(0), {name: {} for name in steps}
    for count in counts:
        some = [
            (
                tf.constant(draw_rows(rng, rows, (count,))),
                tf.random.normal([count, 8], stddev=_SMALL_GRADIENT),
            )
            for _ in range(2)
        ]
        timed = clock.in_turn(steps, some, plan.rounds, plan.round_seconds * _SHARE_OF_ROUND)
        for name, times in timed.items():
            found[name][count] = Spread.of(times.seconds).per_second(count)
    return found


def input_rates(
    plan: Plan, files: list[str], batches: Callable[[], object], batch_size: int
) -> dict[str, object]:
    """Bytes of a record; records a second that are read, and that are read, parsed and mapped."""
    count = sum(1 for _ in tf.data.TFRecordDataset(files))

    def passed(dataset: Callable[[], object]) -> Callable:
        return lambda _: sum(1 for _ in dataset())

    steps = {
        "read": passed(lambda: read_records(files).batch(batch_size)),
        "ready": passed(batches),
    }
    timed = clock.in_turn(steps, [None], plan.rounds, plan.round_seconds)
    return {
        "bytes_per_record": synthetic.bytes_per_record(files),
        **{name: Spread.of(times.seconds).per_second(count) for name, times in timed.items()},
    }


def vocabulary(plan: Plan) -> dict[str, float]:
    """Memory and seconds that a vocabulary takes to load, for an id; in a process of its own."""
    ids = synthetic.vocabulary_ids(plan.vocabulary_ids)
    with tempfile.TemporaryDirectory() as folder:
        path = posixpath.join(folder, "vocabulary.txt")
        write_text(path, "".join(f"{i}\n" for i in ids))
        file_bytes = pathlib.Path(path).stat().st_size
        ((loaded, seconds),) = apart.in_fresh_processes(_load_vocabulary, [(path,)])
    found = {"file_bytes": file_bytes, "bytes": loaded, "seconds": seconds}
    return {name: value / len(ids) for name, value in found.items() if value is not None}


def tables(result: dict) -> list[str]:
    """Rows a second, input, vocabulary."""
    rates = result["rows_per_second"]
    counts = list(next(iter(rates.values())))
    millions = [
        [name, *(spread([x / 1e6 for x in rates[name][count]], 1) for count in counts)]
        for name in rates
    ]
    title = f"million rows a second, width 8, table of {result['table_rows']:,} rows"
    header = ["", *(f"{int(count):,} rows" for count in counts)]
    read, ready = (Spread(*result["input"][key]) for key in ("read", "ready"))
    size, words = result["input"]["bytes_per_record"], result["vocabulary"]
    lines = [
        f"a record has {size:,.0f} bytes; {spread(read)} a second are read "
        f"({read.median * size / 1e6:,.0f} MB/s), {spread(ready)} become batches",
        f"an id of a vocabulary takes {words['file_bytes']:.1f} bytes in its file, "
        f"{words.get('bytes', float('nan')):.1f} in memory, "
        f"{1e6 * words['seconds']:.2f} µs to load",
    ]
    return [table(title, header, millions), *lines]


def _compiled(function: Callable) -> Callable:
    rows, values = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 8])
    compiled = tf.function(function, input_signature=[(rows, values)], autograph=False)

    def run(slices: tuple) -> None:
        compiled(slices)
        tf.test.experimental.sync_devices()

    return run


def _load_vocabulary(path: str) -> tuple[int | None, float]:
    seconds: list[float] = []

    def load() -> None:
        seconds.append(clock.seconds_of(lambda: VocabularyRows(path)))

    if memory.observable():
        return memory.peak_above(load), seconds[0]
    load()
    return None, seconds[0]


def _different(rows: int, draws: int) -> float:
    return len(np.unique(_ranks(rows, draws))) / draws


def _ranks(rows: int, draws: int) -> np.ndarray:
    return draw_ranks(np.random.default_rng(0), rows, (draws,))


def _count(variables: Sequence[tf.Variable]) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)
