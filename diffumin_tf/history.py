"""The behaviour histories of a batch, looked up in the embedding table as late as possible."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from diffumin_tf.input.batch import HistoryGroup
from diffumin_tf.layers import IdEmbedding
from diffumin_tf.layers.top_indices import top_indices

# From embeddings [b, L, d], mask [b, L] and the rows of b samples of further tensors to indices
# in the histories [b, ...], and which of them are found.
Chooser = Callable[..., tuple[tf.Tensor, tf.Tensor]]


class History:
    """Histories of B samples, in groups of samples that are padded to one length.

    A behaviour that no gradient reaches need not be differentiated, so a unit first looks at all
    of a history without gradients (`choose`), and then embeds what it chose with them (`embed`).

    Args:
        groups: of a `Batch`; together they hold every sample once.
        embedding: the table.
    """

    def __init__(self, groups: Sequence[HistoryGroup], embedding: IdEmbedding) -> None:
        self._groups = tuple(groups)
        self._embedding = embedding

    def pick(self, fields: Sequence[int]) -> History:
        """The same histories with some of the fields, in the given order."""
        if list(fields) == list(range(self._groups[0].rows.shape[2])):
            return self
        groups = [g._replace(rows=tf.gather(g.rows, fields, axis=2)) for g in self._groups]
        return self._with(groups)

    def choose(self, chooser: Chooser, *of_samples: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Lets a function choose behaviours by their embeddings, which have no gradient here.

        Args:
            chooser: called once a group as `chooser(E [b, L, d], mask [b, L], *tensors)`; returns
                indices int32 [b, ...] in the history and which of them are found [b, ...]. Where
                all samples share one history, E and mask are [1, L, d] and [1, L].
            of_samples: tensors [B, ...] of which the chooser gets the rows of its group.

        Returns:
            Rows int32 [B, ..., F] of the chosen behaviours, and which are found, bool [B, ...].
        """
        chosen = []
        for group, embedded in zip(self._groups, self._scanned, strict=True):
            tensors = [self._rows_of(x, group) for x in of_samples]
            indices, found = chooser(embedded, group.mask, *tensors)
            chosen.append((self._at(group.rows, indices), found))
        return self._together(chosen)

    def look(self, function: Callable[..., tf.Tensor], *of_samples: tf.Tensor) -> tf.Tensor:
        """What a function, called like a chooser, makes of the whole histories, [B, ...]."""
        seen = []
        for group, embedded in zip(self._groups, self._scanned, strict=True):
            tensors = [self._rows_of(x, group) for x in of_samples]
            seen.append((function(embedded, group.mask, *tensors),))
        return self._together(seen)[0]

    def embed(self, rows: tf.Tensor) -> tf.Tensor:
        """Embeddings [..., d] of behaviours given as rows int32 [..., F], with gradients."""
        return _side_by_side(self._embedding(rows))

    def recent(self, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Rows int32 [B, count, F] and mask bool [B, count] of the most recent behaviours."""
        recent = []
        for rows, mask, _ in self._groups:
            missing = tf.maximum(count - tf.shape(rows)[1], 0)
            rows = tf.pad(rows[:, :count], [[0, 0], [0, missing], [0, 0]])
            mask = tf.pad(mask[:, :count], [[0, 0], [0, missing]])
            rows = tf.ensure_shape(rows, [None, count, None])
            recent.append((rows, tf.ensure_shape(mask, [None, count])))
        return self._together(recent)

    def embed_recent(self, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """The most recent behaviours with gradients: embeddings [B, count, d], mask [B, count]."""
        rows, mask = self.recent(count)
        return self.embed(rows), mask

    def matching(self, field: int, wanted: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """The most recent behaviours that have a given row in one field.

        Args:
            field: index of the field among those of these histories.
            wanted: the row, int32 [B]; row 0, an unknown id, matches nothing.
            count: behaviours wanted at most.

        Returns:
            Rows int32 [B, count, F], 0 where there are fewer, and mask bool [B, count].
        """
        matching = []
        for group in self._groups:
            row = self._rows_of(wanted, group)[:, tf.newaxis]
            same = (group.rows[:, :, field] == row) & (row > 0)
            indices, found = top_indices(tf.zeros_like(same, tf.float32), same, count)
            rows = tf.where(found[:, :, tf.newaxis], self._at(group.rows, indices), 0)
            matching.append((rows, found))
        return self._together(matching)

    def lengths(self) -> tf.Tensor:
        """Valid behaviours of every sample, float32 [B]."""
        counts = [(tf.reduce_sum(tf.cast(g.mask, tf.float32), axis=1),) for g in self._groups]
        return self._together(counts)[0]

    def whole(self) -> tuple[tf.Tensor, tf.Tensor]:
        """All of it, with gradients: embeddings [B, L, d] and mask [B, L], L the longest."""
        longest = tf.reduce_max(tf.stack([tf.shape(g.rows)[1] for g in self._groups]))
        padded = []
        for rows, mask, _ in self._groups:
            missing = longest - tf.shape(rows)[1]
            rows = tf.pad(rows, [[0, 0], [0, missing], [0, 0]])
            padded.append((rows, tf.pad(mask, [[0, 0], [0, missing]])))
        rows, mask = self._together(padded)
        return self.embed(rows), mask

    @functools.cached_property
    def _scanned(self) -> list[tf.Tensor]:
        """Embeddings [b, L, d] of each group, without gradients."""
        return [_side_by_side(self._embedding.scan(group.rows)) for group in self._groups]

    def _with(self, groups: Sequence[HistoryGroup]) -> History:
        return History(groups, self._embedding)

    def _rows_of(self, values: tf.Tensor, group: HistoryGroup) -> tf.Tensor:
        """Of values [B, ...] those of the samples of a group; one group has them in their order."""
        return values if len(self._groups) == 1 else tf.gather(values, group.samples)

    def _at(self, rows: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
        """Rows [b, ..., F] at some indices of histories [b, L, F]."""
        return tf.gather(rows, indices, batch_dims=1)

    def _together(self, parts: list[tuple[tf.Tensor, ...]]) -> tuple[tf.Tensor, ...]:
        """Tensors of all groups in the order of the batch."""
        if len(self._groups) == 1:
            return parts[0]
        samples = tf.concat([group.samples for group in self._groups], axis=0)
        order = tf.math.invert_permutation(samples)
        return tuple(tf.gather(tf.concat(t, axis=0), order) for t in zip(*parts, strict=True))


class SharedHistory(History):
    """One history that N samples have: that of a user who is shown N candidates.

    It is embedded, and its most recent behaviours are picked, a single time.

    Args:
        group: of the one history, with b = 1.
        embedding: the table.
        count: N, scalar int32.
    """

    def __init__(self, group: HistoryGroup, embedding: IdEmbedding, count: tf.Tensor) -> None:
        super().__init__([group], embedding)
        self._count = count

    def recent(self, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        return self._for_all(*super().recent(count))

    def embed_recent(self, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        rows, mask = super().recent(count)
        return self._for_all(self.embed(rows), mask)

    def lengths(self) -> tf.Tensor:
        return self._for_all(super().lengths())[0]

    def whole(self) -> tuple[tf.Tensor, tf.Tensor]:
        return self._for_all(*super().whole())

    def _with(self, groups: Sequence[HistoryGroup]) -> SharedHistory:
        return SharedHistory(*groups, self._embedding, self._count)

    def _at(self, rows: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
        return tf.gather(rows[0], indices)

    def _for_all(self, *of_one: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Tensors [1, ...] as [N, ...]."""
        return tuple(tf.repeat(x, self._count, axis=0) for x in of_one)


class Embedded(NamedTuple):
    """B samples as input units get them.

    Attributes:
        fields: float32 [B, n, e], the categorical fields, those of several values last.
        history: their behaviours, not looked up yet.
        dense: float32 [B, m].
        rows: int32 [B, n'], the fields of one value as rows of the table.
        user: int64 [B], or None where nothing tells users apart.
        label: float32 [B], or None while serving.
    """

    fields: tf.Tensor
    history: History
    dense: tf.Tensor
    rows: tf.Tensor
    user: tf.Tensor | None = None
    label: tf.Tensor | None = None


def _side_by_side(embedded: tf.Tensor) -> tf.Tensor:
    """[..., F, e] as [..., d]."""
    *_, fields, dim = embedded.shape
    shape = tf.concat([tf.shape(embedded)[:-2], [fields * dim]], axis=0)
    flat = tf.reshape(embedded, shape)
    return tf.ensure_shape(flat, [*embedded.shape[:-2], fields * dim])
