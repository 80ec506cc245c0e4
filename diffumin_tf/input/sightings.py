"""All ids of a split, for counting, and how many samples see each."""

from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import NEWER, DataStruct
from diffumin_tf.input.chunks import whole
from diffumin_tf.input.damage import FileCheck
from diffumin_tf.input.parsing import parse, read_records


def id_batches(
    files: Sequence[str],
    schema: DataStruct,
    fields: Iterable[str],
    batch_size: int = 1024,
    check: FileCheck | None = None,
) -> tf.data.Dataset:
    """All ids of the given columns, history fields and others, batch by batch, for counting.

    Returns:
        int64 [n], an id as often as samples see it; or, where records are of several impressions,
        (ids int64 [n], how many samples see each, int64 [n]).
    """
    check = check or FileCheck(schema)
    columns = [schema.cat_feature.index(n) for n in fields if n in schema.cat_feature]
    several = [n for n in fields if n in schema.multi_feature]
    histories = [schema.sequences[n] for n in fields if n in schema.sequences]
    for field in histories:
        if field.start is not None:
            columns.extend(range(field.start, field.start + field.max_len))
    histories = [field for field in histories if field.start is None]
    at = np.array(columns, np.int64)

    def of_samples(raw: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        ids = [tf.reshape(tf.gather(raw["cat_feature"], at, axis=1), [-1])]
        return ids + [raw[name].values for name in several]

    def ids(serialised: tf.Tensor) -> tf.Tensor:
        raw = parse(schema, serialised)
        seen = [raw[field.name][:, : field.max_len].values for field in histories]
        return tf.concat(of_samples(raw) + seen, axis=0)

    def ids_and_times(serialised: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        raw = parse(schema, whole(serialised))
        found = of_samples(raw)
        times = [tf.ones_like(some) for some in found]
        found += [raw[field.name].values for field in histories]
        times += [_seen(raw, field.name, field.max_len) for field in histories]
        return tf.concat(found, axis=0), tf.concat(times, axis=0)

    counted = ids_and_times if check.grouped(files) else ids
    records = read_records(files, check.cuts).batch(batch_size)
    return records.map(counted, num_parallel_calls=tf.data.AUTOTUNE)


def _seen(raw: dict[str, tf.Tensor], name: str, max_len: int) -> tf.Tensor:
    """How many samples see each behaviour of a history field, int64 [n]."""
    history, record = raw[name], raw["record"]
    first = tf.gather(history.row_starts(), record) + raw[NEWER]
    stop = tf.minimum(first + max_len, tf.gather(history.row_limits(), record))
    places = tf.size(history.values) + 1
    ones = tf.ones_like(record, tf.int64)
    begun, ended = (tf.math.unsorted_segment_sum(ones, at, places) for at in (first, stop))
    return tf.cumsum(begun - ended)[:-1]
