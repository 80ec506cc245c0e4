"""What looks like a mistake in the first records of a split, in a line each."""

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from diffumin_tf.config.schema import NEWER, DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input.chunks import whole
from diffumin_tf.input.damage import DAMAGE, FileCheck
from diffumin_tf.input.features import FeatureLayout
from diffumin_tf.input.impressions import single_records
from diffumin_tf.input.parsing import FIRST, first_records, misfit, parse
from diffumin_tf.input.raw_text import MISSING, MISSING_WORDS

_RAW_IDS = 2**31  # fingerprints are below it once in four billion
_MANY = 0.1  # of the records
_ENOUGH = 32  # records, of which not all agree by chance
_MISSING, _WORDS = (frozenset(map(str.encode, words)) for words in (MISSING, MISSING_WORDS))
_ZERO = "holds 0, and {count:,} times in {first}: that is a missing value; where 0 is an id, add 1"

Finds = Iterator[tuple[int, str, str]]  # record among the first, where in it, and what is there


@dataclasses.dataclass(frozen=True)
class First:
    """The first n samples of a split, as records of one impression.

    Attributes:
        places: file and number of each, in words.
        raw: as `parsing.parse` gives them, as arrays; ragged fields are `tf.RaggedTensor`.
        unit: what a sample is, in words.
    """

    schema: DataStruct
    layout: FeatureLayout
    user_column: str | None
    places: list[str]
    serialised: list[bytes]
    raw: dict[str, np.ndarray | tf.RaggedTensor]
    unit: str = "records"

    def __str__(self) -> str:
        return f"the first {len(self.places):,} {self.unit}"

    def key(self, name: str, group: str = "cat_feature") -> str:
        """Where a column or field lies, in words."""
        if self.schema.layout == "columns" or name in self.schema.ragged:
            return f"key {name!r}"
        what = "history" if name in self.schema.sequences else "column"
        return f"key {group!r}, {what} {name!r}"

    def ids(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """All ids of a column or field, padding among them, and the record of each."""
        if name in self.schema.ragged:
            found = self.raw[name]
            return found.values.numpy(), found.value_rowids().numpy()
        if name in self.schema.sequences:
            start, count = self.schema.sequence(name).start, self.schema.sequence(name).max_len
        else:
            start, count = self.schema.position("cat_feature", name), 1
        ids = self.raw["cat_feature"][:, start : start + count]
        return ids.ravel(), np.repeat(np.arange(len(ids)), count)


def look(
    schema: DataStruct,
    layout: FeatureLayout,
    user_column: str | None,
    files: Sequence[str],
    check: FileCheck,
) -> list[str]:
    """Looks at the first records of a split.

    Returns:
        What may be a mistake, a line each, with file, record, key and value.

    Raises:
        DataError: a record is damaged or does not fit the schema, or there is none.
    """
    found = list(check.read(first_records(files, check.cuts), files))
    places = [f"{file}: record {number}" for file, number, _ in found]
    serialised, grouped = [sample for _, _, sample in found], check.grouped(files)
    fixed = [name for name in layout.behaviours if schema.sequence(name).start is not None]
    if grouped and fixed:
        raise DataError(
            f"{files[0]}: records may be of several impressions (key {NEWER!r}), but the history "
            f"{fixed[0]!r} lies in columns of cat_feature, which cannot be shared; write a list "
            f'under a key of its own ("sequence_feature" in {schema.source})'
        )
    try:
        records = tf.constant(serialised)
        raw = parse(schema, whole(records) if grouped else records)
    except DAMAGE as error:
        reasons = ((p, misfit(schema, s, grouped)) for p, s in zip(places, serialised, strict=True))
        named = next((f"{place}: {reason}" for place, reason in reasons if reason), None)
        raise DataError(named or str(error)) from None
    lines = []
    if grouped:
        lines = list(itertools.islice(_unseen(schema, places, raw), 1))
        singles = itertools.islice(_impressions(schema, places, serialised), FIRST)
        places, serialised = map(list, zip(*singles, strict=True))
        raw = parse(schema, tf.constant(serialised))
    raw = {n: v if isinstance(v, tf.RaggedTensor) else v.numpy() for n, v in raw.items()}
    unit = "impressions" if grouped else "records"
    first = First(schema, layout, user_column, places, serialised, raw, unit)
    found = itertools.chain.from_iterable(look_at(first) for look_at in _LOOKS)
    lines += [f"{places[record]}: {where} {what}" for record, where, what in found]
    return list(dict.fromkeys(lines))


def _impressions(
    schema: DataStruct, places: list[str], records: list[bytes]
) -> Iterator[tuple[str, bytes]]:
    """Place and record of each impression."""
    for place, record in zip(places, records, strict=True):
        singles = list(single_records(schema, record))
        for i, single in enumerate(singles):
            yield (f"{place}, impression {i}" if len(singles) > 1 else place), single


def _unseen(
    schema: DataStruct, places: list[str], raw: dict[str, tf.Tensor | tf.RaggedTensor]
) -> Iterator[str]:
    """Records of which no impression sees the end of the history."""
    oldest = np.zeros(len(places), np.int64)
    np.maximum.at(oldest, raw["record"].numpy(), raw[NEWER].numpy())
    for name in schema.variable_sequences:
        length, seen = raw[name].row_lengths().numpy(), oldest + schema.sequence(name).max_len
        for record in np.flatnonzero(length > seen):
            yield (
                f"{places[record]}: key {name!r} has {length[record]:,} behaviours, and "
                f"impressions see the first {seen[record]:,} alone: the most recent ones must come "
                "first"
            )


def _labels(first: First) -> Finds:
    labels = np.unique(first.raw["label"])
    if len(labels) == 1 and len(first.places) > 1:
        yield 0, "the label", f"is {labels[0]} in all of {first}"


def _label_again(first: First) -> Finds:
    """Columns of two values that tell the label."""
    label, layout = first.raw["label"], first.layout
    if len(label) < _ENOUGH or len(np.unique(label)) == 1:
        return
    columns = [("cat_feature", n) for n in layout.fields] + [
        ("dense_feature", n) for n in layout.dense
    ]
    for group, name in columns:
        values = first.raw[group][:, first.schema.position(group, name)]
        clicked, other = np.unique(values[label == 1]), np.unique(values[label == 0])
        if len(clicked) == len(other) == 1 and clicked != other:
            what = (
                f"is {clicked[0]} where the label is 1, and {other[0]} elsewhere, in all of {first}"
            )
            yield 0, first.key(name, group), f"{what}: known before the impression?"


def _users(first: First) -> Finds:
    name, schema = first.user_column, first.schema
    groups = [g for g in ("auxiliary_info", "cat_feature") if name in getattr(schema, g)]
    if not groups or len(first.places) == 1:
        return
    users = first.raw[groups[0]][:, schema.position(groups[0], name)]
    if len(np.unique(users)) == 1:
        yield 0, first.key(name, groups[0]), f"is {users[0]}, one user, in all of {first}"
    elif (missing := np.flatnonzero(users == 0)).size > _MANY * len(users):
        what = f"is missing (0) in {missing.size:,} of {first}, which all count as one user"
        yield missing[0], first.key(name, groups[0]), what
    if schema.kinds.get(name) == "float":
        yield 0, first.key(name), "holds floats, which tell users apart up to 2^24 only"


def _equal_records(first: First) -> Finds:
    copies = len(first.serialised) - len(set(first.serialised))
    if copies > _MANY * len(first.serialised):
        yield 0, "and those behind it:", f"{copies:,} of {first} are copies of others"


def _nothing(first: First) -> Finds:
    """Histories without a behaviour, and columns without a value."""
    keys = ", ".join(sorted(tf.train.Example.FromString(first.serialised[0]).features.feature))
    for name in first.layout.behaviours:
        if not first.ids(name)[0].any():
            yield 0, first.key(name), f"is empty in all of {first}; this one holds the keys {keys}"
    for name in first.layout.categorical:
        if not first.ids(name)[0].any():
            yield 0, first.key(name), f"is missing (0) in all of {first}"


def _raw_ids(first: First) -> Finds:
    """Small numbers as ids, of which 0 is a missing value and others may be other columns' too."""
    if first.schema.layout == "columns" and not first.schema.hashed:
        return
    small = {}
    for name in first.layout.categorical + first.layout.behaviours:
        ids, records = first.ids(name)
        if not ids.any() or ids.max() >= _RAW_IDS:
            continue
        small[name] = np.unique(ids[ids > 0])
        missing = records[ids == 0]
        if missing.size and name not in first.schema.sequences:
            yield missing[0], first.key(name), _ZERO.format(count=missing.size, first=first)
    for one, other in itertools.combinations(small, 2):
        both = np.intersect1d(small[one], small[other])
        if both.size and first.layout.spaces[one] != first.layout.spaces[other]:
            ids, records = first.ids(one)
            yield (
                records[ids == both[0]][0],
                first.key(one),
                f"holds the raw id {both[0]}, as does {first.key(other)}: {both.size:,} ids stand "
                "in both, and share rows of the embedding table; write fingerprints instead. Where "
                f'it is meant, give both one "id_space" in {first.schema.source}',
            )


def _never_matched(first: First) -> Finds:
    """Columns whose ids are in no history of their id space."""
    spaces = first.layout.spaces
    pairs = itertools.product(first.layout.fields, first.layout.behaviours)
    pairs = [(field, history) for field, history in pairs if spaces[field] == spaces[history]]
    if not pairs:
        named = ", ".join(f"{name} has {spaces[name]!r}" for name in first.layout.behaviours)
        yield 0, "no history", f'has the id space of a column ({named}): set "id_space"'
    for field, history in pairs:
        (ids, records), past = first.ids(field), first.ids(history)[0]
        ids, records, past = ids[ids > 0], records[ids > 0], past[past > 0]
        if ids.size and past.size and not pd.Index(past).isin(ids).any():
            what = f"holds {ids[0]}; neither it nor another of its ids is in {first.key(history)}"
            yield records[0], first.key(field), f"{what} of {first}, where {past[0]} is"


def _history_lengths(first: First) -> Finds:
    ragged = [name for name in first.layout.behaviours if name in first.schema.ragged]
    lengths = {name: first.raw[name].row_lengths().numpy() for name in ragged}
    for name, length in lengths.items():
        most = first.schema.sequence(name).max_len
        for record in np.flatnonzero(length > most)[:1]:
            what = f"has {length[record]:,} behaviours, and max_len is {most:,}"
            yield record, first.key(name), f"{what}: the most recent ones must come first"
    for one, other in itertools.pairwise(lengths):
        differ = np.flatnonzero(lengths[one] != lengths[other])
        for record in differ[:1]:
            what = f"has {lengths[one][record]:,} behaviours, but {first.key(other)} has"
            what = f"{what} {lengths[other][record]:,} (so in {differ.size:,} {first.unit}): a"
            what = f"{what} value of each is needed for a behaviour, 0 if missing"
            yield record, first.key(one), what


def _dense(first: First) -> Finds:
    for name in first.layout.dense:
        values = first.raw["dense_feature"][:, first.schema.position("dense_feature", name)]
        where, wrong = first.key(name, "dense_feature"), np.flatnonzero(~np.isfinite(values))
        for record in wrong[:1]:
            yield (
                record,
                where,
                f"holds {values[record]} (so in {wrong.size:,} {first.unit}): it counts as 0",
            )
        if len(values) > 1 and len(np.unique(values)) == 1:
            yield 0, where, f"is {values[0]} in all of {first}"


def _as_written(first: First) -> Finds:
    """Texts that say that a value is missing, blanks around others, and padding that is an id."""
    schema = first.schema
    if schema.layout != "columns" or schema.hashed:
        return
    texts, padded, filled = {}, collections.defaultdict(list), collections.Counter()
    for record, sample in enumerate(first.serialised):
        feature = tf.train.Example.FromString(sample).features.feature
        for name in (name for name in schema.categorical if name in feature):
            for text in feature[name].bytes_list.value:
                plain = text.strip()
                if text not in _MISSING and (plain != text or plain.lower() in _WORDS):
                    texts.setdefault(name, (record, text))
            if name in schema.ragged and (numbers := feature[name].int64_list.value):
                filled[name] += 1
                padded[name] += [record] if numbers[-1] == 0 else []
    for name, (record, text) in texts.items():
        what = f"holds {text!r}, which is an id like any other"
        yield record, first.key(name), f"{what}: leave missing values and blanks out"
    for name, records in padded.items():
        if len(records) > _MANY * filled[name]:
            what = f"ends with 0 in {len(records):,} of {filled[name]:,} records"
            yield records[0], first.key(name), f"{what}: 0 is an id here; leave padding out"


_LOOKS = (
    _labels,
    _label_again,
    _users,
    _equal_records,
    _nothing,
    _raw_ids,
    _never_matched,
    _history_lengths,
    _dense,
    _as_written,
)
