"""The one path from raw record tensors to model inputs, for training and for serving alike."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from diffumin_tf.config.schema import DataStruct, SequenceField
from diffumin_tf.config.task import Features
from diffumin_tf.errors import ConfigError
from diffumin_tf.input.batch import Bags, Batch, HistoryGroup, Windows
from diffumin_tf.input.shared_histories import SharedHistories

_LARGEST = 1e18  # of a dense value
ROLES = ("user", "candidate", "context")


@dataclasses.dataclass(frozen=True)
class FeatureLayout:
    """Where each feature lies in a `Batch`.

    Attributes:
        fields: categorical columns in the order of `Batch.fields`.
        multi: fields of several values in the order of `Batch.multi`, and the role of each.
        behaviours: history fields in the order of `HistoryGroup.rows`.
        dense: dense columns in the order of `Batch.dense`.
        spaces: id space of every categorical column and history field.
        roles: the `fields` of `user`, `candidate` and `context`. One of several roles is the
            candidate's, or else the user's.
    """

    fields: tuple[str, ...]
    behaviours: tuple[str, ...]
    dense: tuple[str, ...]
    spaces: dict[str, str]
    roles: dict[str, tuple[str, ...]]
    multi: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def categorical(self) -> tuple[str, ...]:
        """All categorical fields in the order of their vectors in `Embedded.fields`."""
        return (*self.fields, *self.multi)

    @classmethod
    def of(cls, features: Features, schema: DataStruct) -> "FeatureLayout":
        """Lays out the columns that the units read; each column once.

        Raises:
            ConfigError: the schema has no such column, or the candidate no field of one value.
        """
        named = tuple(dict.fromkeys(features.user + features.candidate + features.context))
        role_of = {name: "candidate" for name in features.candidate}
        for role in ROLES:
            role_of = {name: role for name in getattr(features, role)} | role_of
        multi = {name: role_of[name] for name in named if name in schema.multi_feature}
        fields = tuple(name for name in named if name not in multi)
        for name in fields:
            schema.position("cat_feature", name)
        for name in features.dense:
            schema.position("dense_feature", name)
        for name in features.behaviours:
            schema.sequence(name)
        spaces = {n: schema.id_space(n) for n in named + features.behaviours}
        roles = {role: tuple(f for f in fields if role_of[f] == role) for role in ROLES}
        if not roles["candidate"]:
            raise ConfigError(
                f"features.candidate: {list(features.candidate)} have several values each; name a "
                "column of cat_feature too, such as the item"
            )
        return cls(fields, features.behaviours, features.dense, spaces, roles, multi)


class FeaturePath(tf.Module):
    """Raw record tensors → rows, masks and dense values.

    Args:
        seq_len: behaviours kept, L.
        rows_of: maps int64 ids to int32 rows of the embedding table.
        buckets: lengths to which `grouped` pads histories, ascending, the last one `seq_len`.
            None means `seq_len` alone.
    """

    def __init__(
        self,
        schema: DataStruct,
        layout: FeatureLayout,
        seq_len: int,
        rows_of: Callable[[tf.Tensor], tf.Tensor],
        buckets: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not layout.behaviours:
            raise ConfigError("features.behaviours: name at least one history field")
        self._seq_len = seq_len
        self.rows_of = rows_of
        self._buckets = tuple(buckets or (seq_len,))
        if list(self._buckets) != sorted(set(self._buckets)) or self._buckets[-1] != seq_len:
            raise ValueError(f"`buckets` must ascend to {seq_len}, received {self._buckets}.")
        self._roles = [role for role in ROLES if layout.roles[role]]
        in_turn = [name for role in ROLES for name in layout.roles[role]]
        self._in_roles = [in_turn.index(name) for name in layout.fields]
        self._fields = [schema.position("cat_feature", n) for n in layout.fields]
        self._multi = tuple(layout.multi)
        self._dense = [schema.position("dense_feature", n) for n in layout.dense]
        self._sequences = [schema.sequence(n) for n in layout.behaviours]

    def __call__(self, raw: dict[str, tf.Tensor]) -> Batch:
        """Picks the columns and maps ids to rows.

        Args:
            raw: `cat_feature` int64 [B, columns], `dense_feature` float32 [B, columns], and each
                variable-length history field and field of several values int64 [B, any length].

        Returns:
            A batch with one `HistoryGroup` as long as the longest history field, at most `seq_len`;
            dense values are 0 where not finite and ±1e18 at most.
        """
        histories = _of_one_length([self._history(raw, s) for s in self._sequences])
        samples = tf.range(tf.shape(raw["cat_feature"])[0])
        return self._batch(raw, (self._group(histories, samples),))

    def grouped(self, raw: dict[str, tf.Tensor]) -> Batch:
        """The same for training: every history is padded to the shortest bucket that it fits.

        Args:
            raw: as in `__call__`, but what is of any length is ragged. Where it has `record`, the
                samples share histories, see `SharedHistories`.

        Returns:
            As `__call__`, with one `HistoryGroup` a bucket, any of which may be empty.
        """
        if "record" in raw:
            shared = SharedHistories.of(raw, self._sequences, self._seq_len, self.rows_of)
            return self._batch(raw, shared.groups(self._buckets))
        histories = [self._stored(raw, field) for field in self._sequences]
        most = [self._length(field) for field in self._sequences]
        if len(self._buckets) == 1:
            samples = tf.range(tf.shape(raw["cat_feature"])[0])
            padded = [
                _padded(ids, n, self._seq_len) for ids, n in zip(histories, most, strict=True)
            ]
            return self._batch(raw, (self._group(padded, samples),))
        lengths = [tf.minimum(_lengths(ids), n) for ids, n in zip(histories, most, strict=True)]
        bucket_of = tf.searchsorted(self._buckets, tf.reduce_max(tf.stack(lengths), axis=0))
        groups = []
        for bucket, length in enumerate(self._buckets):
            samples = tf.cast(tf.where(bucket_of == bucket)[:, 0], tf.int32)
            some = [tf.gather(ids, samples) for ids in histories]
            padded = [_padded(ids, n, length) for ids, n in zip(some, most, strict=True)]
            groups.append(self._group(padded, samples))
        return self._batch(raw, tuple(groups))

    def request(self, raw: dict[str, tf.Tensor]) -> Batch:
        """The same for one user who is shown N candidates; the history comes once.

        Args:
            raw: `user` int64 [1, columns], `candidate` int64 [N, columns] and `context` int64
                [1 or N, columns], each with the columns of `FeatureLayout.roles`; `dense_feature`
                float32 [1 or N, columns]; each history field int64 [1, any length]; and each field
                of several values int64 [1 or N, any length], as its role has it.

        Returns:
            A batch of N samples whose one history is stored once.
        """
        count = tf.shape(raw["candidate"])[0]
        histories = _of_one_length([raw[s.name][:, : self._length(s)] for s in self._sequences])
        samples, length = tf.range(count), tf.shape(histories[0])[1]
        whole = tf.zeros([count], tf.int32), tf.fill([count], length)
        windows = Windows(samples[tf.newaxis], samples, *whole)
        by_role = [_to_all(self.rows_of(raw[role]), count) for role in self._roles]
        return Batch(
            fields=tf.gather(tf.concat(by_role, axis=1), self._in_roles, axis=1),
            histories=(self._group(histories, samples)._replace(windows=windows),),
            dense=_to_all(self._dense_of(raw, count), count),
            multi=self._bags(raw),
        )

    def _batch(self, raw: dict[str, tf.Tensor], groups: tuple[HistoryGroup, ...]) -> Batch:
        fields = tf.gather(raw["cat_feature"], self._fields, axis=1)
        dense = self._dense_of(raw, tf.shape(fields)[0])
        return Batch(self.rows_of(fields), groups, dense, multi=self._bags(raw))

    def _bags(self, raw: dict[str, tf.Tensor]) -> tuple[Bags, ...]:
        """Fields of several values, padded or ragged, without what is padding or unknown."""
        bags = []
        for name in self._multi:
            rows = tf.ragged.map_flat_values(self.rows_of, raw[name])
            known = tf.ragged.boolean_mask(rows, rows > 0)
            bags.append(Bags(known.values, tf.cast(known.row_lengths(), tf.int32)))
        return tuple(bags)

    def _dense_of(self, raw: dict[str, tf.Tensor], count: tf.Tensor) -> tf.Tensor:
        """Dense values, finite and at most ±1e18; [count, 0] when the model reads none."""
        if not self._dense:
            return tf.zeros([count, 0])
        dense = tf.gather(raw["dense_feature"], self._dense, axis=1)
        # What is larger overflows further on.
        return tf.clip_by_value(tf.where(tf.math.is_finite(dense), dense, 0.0), -_LARGEST, _LARGEST)

    def _group(self, histories: list[tf.Tensor], samples: tf.Tensor) -> HistoryGroup:
        # `reduce_any` over the few fields of each behaviour takes several times as long.
        mask = functools.reduce(tf.logical_or, [ids > 0 for ids in histories])
        return HistoryGroup(self.rows_of(tf.stack(histories, axis=2)), mask, samples)

    def _history(self, raw: dict[str, tf.Tensor], field: SequenceField) -> tf.Tensor:
        """Ids of one field, the most recent L at most."""
        return self._stored(raw, field)[:, : self._length(field)]

    def _stored(self, raw: dict[str, tf.Tensor], field: SequenceField) -> tf.Tensor:
        """Ids of one field, all that there are of a field of any length."""
        if field.start is None:
            return raw[field.name]
        return raw["cat_feature"][:, field.start : field.start + self._length(field)]

    def _length(self, field: SequenceField) -> int:
        """Behaviours of a field that training sees at most, however many there are."""
        return min(field.max_len, self._seq_len)


def _to_all(values: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """[1 or count, n] as [count, n]."""
    return tf.broadcast_to(values, [count, tf.shape(values)[1]])


def _of_one_length(histories: list[tf.Tensor]) -> list[tf.Tensor]:
    """Pads the fields to the longest of them."""
    # At least 1, so that every sample has a behaviour, if only a masked one.
    longest = tf.reduce_max(tf.stack([1, *(tf.shape(ids)[1] for ids in histories)]))
    return [tf.pad(ids, [[0, 0], [0, longest - tf.shape(ids)[1]]]) for ids in histories]


def _lengths(ids: tf.Tensor) -> tf.Tensor:
    """int32 [B]: behaviours up to the last one that is not padding."""
    if isinstance(ids, tf.RaggedTensor):
        return tf.cast(ids.row_lengths(), tf.int32)
    counts = tf.range(1, tf.shape(ids)[1] + 1)
    return tf.reduce_max(tf.where(ids > 0, counts, 0), axis=1)


def _padded(ids: tf.Tensor, most: int, length: int) -> tf.Tensor:
    """[b, length]: the first `most` ids, padded with 0."""
    most = min(most, length)
    if isinstance(ids, tf.RaggedTensor):  # to slice it would be the same work twice
        ids = ids.to_tensor(shape=[None, most])
    else:
        ids = ids[:, :most]
    if ids.shape[1] == length:
        return ids
    padded = tf.pad(ids, [[0, 0], [0, length - tf.shape(ids)[1]]])
    return tf.ensure_shape(padded, [None, length])
