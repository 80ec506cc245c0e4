"""The input pipeline: how fast records become batches, and whether training waits for them."""

import posixpath
import tempfile
import time
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

from benchmarks.contenders import product_model
from benchmarks.measuring import Spread, table
from benchmarks.samples import mixed_lengths, random_ids, write_records
from benchmarks.settings import Plan, Setting
from diffumin_tf.devices import with_defaults
from diffumin_tf.files import write_text
from diffumin_tf.input.batch import Batch
from diffumin_tf.input.dataset import Batches
from diffumin_tf.input.features import FeaturePath
from diffumin_tf.input.vocabulary import VocabularyRows
from diffumin_tf.model import compiled_for_any_batch

_LENGTH, _SHORT = 5000, 30
_IDS = 100_000


def measure(plan: Plan, say: Callable[[str], None]) -> dict:
    """Samples a second of the pipeline, of training, and of both together; sizes of records."""
    setting = plan.standard.at(_LENGTH)
    update = compiled_for_any_batch(product_model(setting).train_step)
    ids = random_ids(_IDS)
    lengths = {
        "short": np.full(setting.batch_size, _SHORT),
        "full": np.full(plan.records, _LENGTH),
        "mixed": mixed_lengths(np.random.default_rng(0), plan.records, _LENGTH),
    }
    rows, sizes = [], {}
    with tempfile.TemporaryDirectory() as folder:
        rows_of = vocabulary_of(folder, ids)
        for name, of_name in lengths.items():
            say(f"pipeline: {name} histories")
            files = write_records(posixpath.join(folder, name), setting.schema, ids, of_name)
            sizes[name] = sum(tf.io.gfile.stat(file).length for file in files) / len(of_name)
            if name != "short":
                batches = batches_of(setting, files, rows_of)
                rows.append({"histories": name, **_speeds(plan, batches, update, len(of_name))})
    return {"rows": rows, "bytes_per_record": sizes}


def tables(result: dict) -> list[str]:
    """Speeds and sizes of records."""
    header = ["histories", "read", "trained from memory", "read / trained", "trained from disk"]
    rows = [
        [
            row["histories"],
            row["read"].text(),
            row["training"].text(),
            f"{row['ratio']:.2f}",
            row["end_to_end"].text(),
        ]
        for row in result["rows"]
    ]
    sizes = result["bytes_per_record"]
    title = f"input pipeline, samples/s, histories of up to {_LENGTH:,} (vocabulary of {_IDS:,})"
    return [
        table(title, header, rows),
        f"a record of {_SHORT} behaviours has {sizes['short']:,.0f} bytes, "
        f"one of {_LENGTH:,} has {sizes['full']:,.0f}",
    ]


def vocabulary_of(folder: str, ids: np.ndarray) -> VocabularyRows:
    """The rows of a table of ids [n], by a vocabulary that is written to a folder."""
    path = posixpath.join(folder, "vocabulary.txt")
    write_text(path, "".join(f"{i}\n" for i in ids))
    return VocabularyRows(path)


def batches_of(setting: Setting, files: list[str], rows_of: Callable) -> tf.data.Dataset:
    """The batches of one epoch, in order."""
    config = with_defaults(setting.config)
    length = setting.length
    path = FeaturePath(setting.schema, setting.layout, length, rows_of, config.length_buckets)
    # Not shuffled: with so few records, filling the buffer would be all there is to see.
    batches = Batches(files, setting.schema, path, setting.batch_size, config.user_column)
    return batches.dataset()


def _speeds(plan: Plan, batches: tf.data.Dataset, update: Callable, samples: int) -> dict:
    def train(batch: Batch) -> None:
        update(batch)["total_loss"].numpy()

    passes = plan.passes + 1  # the first one warms up
    in_memory = list(batches)
    train(in_memory[0])  # compiles
    read = pass_speed(batches.repeat(passes), samples, lambda batch: None)
    training = pass_speed((batch for _ in range(passes) for batch in in_memory), samples, train)
    return {
        "read": read,
        "training": training,
        "end_to_end": pass_speed(batches.repeat(passes), samples, train),
        "ratio": read.median / training.median,
    }


def pass_speed(batches: Iterable, samples: int, use: Callable) -> Spread:
    """Samples a second, pass by pass; the first pass warms up."""
    seconds, seen, start = [], 0, time.perf_counter()
    for batch in batches:
        use(batch)
        seen += len(batch.label)
        if seen == samples:
            now = time.perf_counter()
            seconds.append(now - start)
            seen, start = 0, now
    return Spread.of([samples / value for value in seconds[1:]])
