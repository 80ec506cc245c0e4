"""Records of several impressions: which values of them belong to which impression."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import COUNT, GROUPS, NEWER, DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input.chunks import Chunks

Features = Mapping[str, tf.train.Feature]
Array = TypeVar("Array", np.ndarray, tf.Tensor)

_ONCE_REMEDY = (
    '; are the columns that these records hold once in "stored_once", as in the data_struct.json '
    "beside them?"
)


def places(columns: Sequence[str], once: Collection[str], impression: Array) -> Array:
    """int64 [n, columns]: where in the list of a group the values of impressions int64 [n] lie.

    The first one has its row whole, each further one its row without the columns of `once`.
    """
    varies = np.array([name not in once for name in columns])
    width, rank = varies.sum(), np.cumsum(varies) - 1
    where = tf.where if tf.is_tensor(impression) else np.where
    i = impression[:, None]
    further = len(columns) + (i - 1) * width + rank
    return where((i > 0) & varies, further, np.arange(len(columns)))


def parse_impressions(
    schema: DataStruct, chunks: Chunks, groups: Sequence[str]
) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
    """Parses some impressions of each of some records.

    Args:
        groups: those of the schema's groups that are read.

    Returns:
        The tensors of `parsing.parse` with chunks, but `label` as it is stored, [B, 1]; and bools
        of any shape that are all true where every record fits the schema.
    """
    names = [*groups, *schema.ragged, NEWER, *(name + COUNT for name in schema.multi_feature)]
    spec = {n: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64) for n in names}
    if "dense_feature" in groups:
        spec["dense_feature"] = tf.io.RaggedFeature(tf.float32, row_splits_dtype=tf.int64)
    found = tf.io.parse_example(chunks.record, spec)
    is_said = found[NEWER].row_lengths() > 0
    newer = tf.concat([found[NEWER], _zero_where(~is_said)], axis=1)
    impressions = newer.row_lengths()

    first, count = tf.cast(chunks.first, tf.int64), tf.cast(chunks.count, tf.int64)
    record = tf.repeat(tf.range(tf.size(count)), count)
    shift = first - tf.cumsum(count, exclusive=True)
    impression = tf.range(tf.reduce_sum(count)) + tf.gather(shift, record)
    sound = [first >= 0, first + count <= impressions]

    raw = {"record": record}
    raw[NEWER] = tf.cast(_at(newer, record, impression), tf.int32)
    for group in groups:
        sound.append(found[group].row_lengths() == _size(schema, group, impressions))
        place = places(getattr(schema, group), schema.stored_once, impression)
        raw[group] = _at(found[group], record[:, None], place)
    for name in schema.variable_sequences:
        raw[name], length = found[name], found[name].row_lengths()
        sound.append((length == found[schema.variable_sequences[0]].row_lengths()) | ~is_said)
        last = tf.gather(length, newer.value_rowids())
        sound.append((newer.values >= 0) & (newer.values <= last))
    for name in schema.multi_feature:
        counts = found[name + COUNT]
        if name in schema.stored_once:
            sound.append((counts.row_lengths() == 0) | ~is_said)
            raw[name] = tf.gather(found[name], record)
            continue
        sound.append(counts.row_lengths() == impressions - 1)
        last = found[name].row_lengths() - tf.reduce_sum(counts, axis=1)
        counts = tf.concat([counts, tf.expand_dims(last, 1)], axis=1)
        lists = tf.RaggedTensor.from_row_lengths(found[name].values, counts.values)
        raw[name] = tf.gather(lists, tf.gather(counts.row_starts(), record) + impression)
    raw |= {name: raw[name].with_row_splits_dtype(tf.int32) for name in schema.ragged}
    return raw, sound


def _zero_where(wanted: tf.Tensor) -> tf.RaggedTensor:
    """A list of one 0 where one is wanted, an empty one elsewhere."""
    lengths = tf.cast(wanted, tf.int64)
    return tf.RaggedTensor.from_row_lengths(tf.zeros([tf.reduce_sum(lengths)], tf.int64), lengths)


def _at(found: tf.RaggedTensor, record: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """The values in some places of the lists of some records."""
    return tf.gather(found.values, tf.gather(found.row_starts(), record) + place)


def _size(schema: DataStruct, group: str, impressions: int | tf.Tensor) -> int | tf.Tensor:
    """How many values of a group a record of so many impressions holds."""
    columns = getattr(schema, group)
    varying = sum(name not in schema.stored_once for name in columns)
    return len(columns) + (impressions - 1) * varying


def newer_of(feature: Features) -> list[int]:
    """What a record says of its impressions; [] where it does not, and is of one."""
    return list(feature[NEWER].int64_list.value) if NEWER in feature else []


def feature_of(schema: DataStruct, feature: Features, key: str, i: int) -> tf.train.Feature:
    """What a record holds under a key, of impression i alone; of other tools' keys, all of it."""
    kind, newer = feature[key].WhichOneof("kind"), newer_of(feature)
    if not kind or not newer or schema.layout != "groups":
        return feature[key]
    values = getattr(feature[key], kind).value
    if columns := getattr(schema, key) if key in GROUPS else ():
        (place,) = places(columns, schema.stored_once, np.array([i]))
        values = [values[p] for p in place]
    elif key in schema.variable_sequences:
        values = values[newer[i] : newer[i] + schema.sequence(key).max_len]
    elif key in schema.multi_feature and key not in schema.stored_once:
        edges = [*np.cumsum([0, *feature[key + COUNT].int64_list.value]), len(values)]
        values = values[edges[i] : edges[i + 1]]
    one = tf.train.Feature()
    getattr(one, kind).value.extend(values)
    return one


def single_records(schema: DataStruct, serialised: bytes) -> Iterator[bytes]:
    """The impressions of a serialised record, as a serialised record of one each.

    Raises:
        DataError: what it holds of several impressions does not fit the schema.
    """
    feature = tf.train.Example.FromString(serialised).features.feature
    if schema.layout != "groups" or not newer_of(feature):
        yield serialised
        return
    groups = (group for group in GROUPS if getattr(schema, group) and group in feature)
    wrong = (misfit_of_group(schema, feature, group) for group in groups)
    if reason := next(filter(None, wrong), None) or misfit_of_impressions(schema, feature):
        raise DataError(reason)
    keys = feature.keys() - {NEWER, *(name + COUNT for name in schema.multi_feature)}
    for i in range(len(newer_of(feature))):
        one = tf.train.Example()
        for key in keys:
            one.features.feature[key].CopyFrom(feature_of(schema, feature, key, i))
        yield one.SerializeToString(deterministic=True)


def misfit_of_group(schema: DataStruct, feature: Features, group: str) -> str | None:
    """Says how the number of values of a group differs from what the schema wants."""
    kind = "float_list" if group == "dense_feature" else "int64_list"
    found, newer = len(getattr(feature[group], kind).value), newer_of(feature)
    expected = _size(schema, group, max(len(newer), 1))
    if found == expected:
        return None
    stored = feature[group].WhichOneof("kind") or "nothing"
    reason = f"key {group!r} has {found} {kind} values (it holds a {stored}); {schema.source} wants"
    if len(newer) < 2:
        several = group == "label" and found > 1 and not newer
        remedy = f"; a record of {found} impressions says so by the key {NEWER!r}"
        return f"{reason} {expected}{remedy if several else ''}"
    first, two = _size(schema, group, 1), _size(schema, group, 2)
    reason += (
        f" {expected} for {len(newer)} impressions: {first} of the first, {two - first} of each"
    )
    return f"{reason} other{'' if group == 'label' else _ONCE_REMEDY}"


def misfit_of_impressions(schema: DataStruct, feature: Features) -> str | None:
    """Says which of the lists that impressions share or divide up does not fit; None if all do."""
    keys = *schema.ragged, NEWER, *(name + COUNT for name in schema.multi_feature)
    for name in keys:
        stored = feature[name].WhichOneof("kind") if name in feature else None
        if stored not in (None, "int64_list"):
            return f"key {name!r} holds a {stored}; {schema.source} wants an int64_list"
    if not (newer := newer_of(feature)):
        return None
    lengths = {n: len(feature[n].int64_list.value) for n in schema.variable_sequences}
    for name, length in lengths.items():
        other = schema.variable_sequences[0]
        if length != lengths[other]:
            return (
                f"key {name!r} has {length} behaviours, but key {other!r} has {lengths[other]}; a "
                f"record with the key {NEWER!r} needs a value of each for a behaviour, 0 if missing"
            )
        for i, count in enumerate(newer):
            if not 0 <= count <= length:
                return (
                    f"key {NEWER!r}, impression {i}, holds {count}; it says how many of the "
                    f"{length} behaviours of {name!r} come after the impression, 0 to {length}"
                )
    for name in schema.multi_feature:
        counts = list(feature[name + COUNT].int64_list.value)
        if name in schema.stored_once:
            if counts:
                return (
                    f"key {name + COUNT!r} says that each impression has its own {name!r}, but "
                    f'"stored_once" of {schema.source} names {name!r}'
                )
            continue
        total = len(feature[name].int64_list.value)
        what = f"how many of the {total} values of {name!r} each impression but the last has"
        if len(counts) != len(newer) - 1:
            wanted = f"{len(newer)} impressions want {len(newer) - 1}"
            return f"key {name + COUNT!r} has {len(counts)} values; {wanted}: {what}"
        if min(counts, default=0) < 0 or sum(counts) > total:
            return f"key {name + COUNT!r} holds {counts}; it says {what}"
    return None
