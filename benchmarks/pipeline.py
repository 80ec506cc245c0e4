"""The input pipeline: how fast records become batches, and whether training waits for them."""

from __future__ import annotations

import posixpath
import tempfile
import time
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

from benchmarks import clock, contenders, synthetic
from benchmarks.clock import Spread
from benchmarks.plan import Plan
from benchmarks.settings import Setting
from benchmarks.tables import spread, table
from diffumin_tf.files import write_text
from diffumin_tf.input import dataset
from diffumin_tf.input.features import FeaturePath
from diffumin_tf.input.vocabulary import HashedRows, VocabularyRows
from diffumin_tf.model import compiled_for_any_batch

_LENGTH, _SHORT = 5000, 30
_IDS = 100_000


def measure(plan: Plan, say: Callable[[str], None]) -> dict:
    """Samples a second of the pipeline, of training, and of both together; sizes of records."""
    setting = plan.standard(_LENGTH)
    rng, ids = np.random.default_rng(0), synthetic.vocabulary_ids(_IDS)
    lengths = {
        "full": np.full(plan.records, _LENGTH),
        "mixed": synthetic.mixed_lengths(rng, plan.records, _LENGTH),
        "short": np.full(setting.batch_size, _SHORT),
    }
    with tempfile.TemporaryDirectory() as folder:
        say(f"pipeline: writing {sum(map(len, lengths.values())):,} records")
        files = {
            name: synthetic.write_records(
                posixpath.join(folder, name), setting.schema, ids, of_name, seed
            )
            for seed, (name, of_name) in enumerate(lengths.items())
        }
        vocabulary = posixpath.join(folder, "vocabulary.txt")
        write_text(vocabulary, "".join(f"{i}\n" for i in ids))
        rows_of = {"vocabulary": VocabularyRows(vocabulary), "hash": HashedRows(setting.rows)}
        update = compiled_for_any_batch(contenders.model_of(setting).train_step)
        rows = []
        for name in ("full", "mixed"):
            say(f"pipeline: reading and training on {name} histories")
            sets = {kind: _batches(setting, files[name], rows_of[kind]) for kind in rows_of}
            rows.append({"histories": name, **_speeds(plan, sets, update, len(lengths[name]))})
        say(f"pipeline: a batch of histories of {_SHORT} against one of {_LENGTH:,}")
        batch_of = {
            length: next(iter(_batches(setting, files[name], rows_of["vocabulary"])))
            for length, name in ((_SHORT, "short"), (_LENGTH, "full"))
        }
        steps = {str(x): lambda _, batch=b: _train(update, batch) for x, b in batch_of.items()}
        timed = clock.in_turn(steps, [None], plan.rounds, plan.round_seconds)
        return {
            "rows": rows,
            "bytes_per_record": {
                str(_SHORT): synthetic.bytes_per_record(files["short"]),
                str(_LENGTH): synthetic.bytes_per_record(files["full"]),
            },
            "step_ms": {x: Spread.of([1000 * value for value in timed[x].seconds]) for x in timed},
        }


def tables(result: dict) -> list[str]:
    """Speeds, sizes of records, and the step of a batch of short histories."""
    header = [
        "histories",
        "read, vocabulary",
        "read, hash",
        "trained from memory",
        "read / trained",
        "trained from disk",
    ]
    rows = [
        [
            row["histories"],
            *(spread(row[k]) for k in ("vocabulary", "hash", "training")),
            f"{row['ratio']:.2f}",
            spread(row["end_to_end"]),
        ]
        for row in result["rows"]
    ]
    sizes, steps = result["bytes_per_record"], result["step_ms"]
    lines = [
        f"a user with {length} behaviours: {sizes[length]:,.0f} bytes a record, "
        f"{spread(steps[length], 1)} ms a step of a batch of them"
        for length in sizes
    ]
    title = f"input pipeline, samples/s, histories of up to {_LENGTH:,} (vocabulary of {_IDS:,})"
    return [table(title, header, rows), *lines]


def _batches(setting: Setting, files: list[str], rows_of: Callable) -> tf.data.Dataset:
    config = setting.config
    path = FeaturePath(setting.schema, setting.layout, _LENGTH, rows_of, config.buckets)
    # Not shuffled: with so few records, filling the buffer would be all there is to see.
    return dataset.batches(
        files, setting.schema, path, setting.batch_size, config.user_column, shuffle=None
    )


def _speeds(plan: Plan, sets: dict[str, tf.data.Dataset], update: Callable, samples: int) -> dict:
    speeds = {
        kind: _pass_speed(_repeated(batches, plan), plan, samples, lambda batch: None)
        for kind, batches in sets.items()
    }
    in_memory = list(sets["vocabulary"])
    _train(update, in_memory[0])  # compiles
    held = (batch for _ in range(plan.passes + 1) for batch in in_memory)
    speeds["training"] = _pass_speed(held, plan, samples, lambda batch: _train(update, batch))
    speeds["end_to_end"] = _pass_speed(
        _repeated(sets["vocabulary"], plan), plan, samples, lambda batch: _train(update, batch)
    )
    speeds["ratio"] = speeds["vocabulary"].median / speeds["training"].median
    return speeds


def _repeated(batches: tf.data.Dataset, plan: Plan) -> tf.data.Dataset:
    return batches.repeat(plan.passes + 1)


def _pass_speed(batches: Iterable, plan: Plan, samples: int, use: Callable) -> Spread:
    """Samples a second, pass by pass; the first pass warms up."""
    seconds, seen, start = [], 0, time.perf_counter()
    for batch in batches:
        use(batch)
        seen += len(batch[1])
        if seen == samples:
            now = time.perf_counter()
            seconds.append(now - start)
            seen, start = 0, now
    if len(seconds) != plan.passes + 1:
        raise ValueError(f"{len(seconds)} passes of {samples} samples, not {plan.passes + 1}")
    return Spread.of(seconds[1:]).per_second(samples)


def _train(update: Callable, batch: tuple) -> None:
    update(batch)["total_loss"].numpy()
