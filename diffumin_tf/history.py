"""The behaviour histories of a batch, looked up in the embedding table as late as possible."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from diffumin_tf import devices
from diffumin_tf.input.batch import HistoryGroup
from diffumin_tf.layers import IdEmbedding
from diffumin_tf.layers.top_indices import padded, top_indices

Keys = Callable[[tf.Tensor], tf.Tensor]


class History:
    """Histories of B samples, in groups of histories that are padded to one length.

    A behaviour that no gradient reaches need not be differentiated, so a unit first looks at all
    of a history without gradients (`choose`), and then embeds what it chose with them (`embed`).
    A history that several samples have is looked up once; each of them sees its own window of it.

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
        return History(groups, self._embedding)

    def choose(
        self, queries: tf.Tensor, count: int, keys: Keys | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The behaviours of the highest inner products with each query. Has no gradient.

        Of equal products the most recent behaviours win.

        Args:
            queries: float32 [B, q, w].
            count: behaviours wanted of each query, k.
            keys: makes the vectors float32 [h, L, w] that queries are compared with of embeddings
                [h, L, d]; None takes these as they are, w = d.

        Returns:
            Rows [B, q, k, F], 0 where there are fewer, and which are found, bool [B, q, k].
        """
        queries = tf.stop_gradient(queries)
        chosen = []
        for group, vectors in self._compared(keys):
            chosen.append(best_of(group, vectors, self._of_group(queries, group), count))
        return self._together(chosen)

    def look(
        self,
        function: Callable[..., tf.Tensor],
        queries: tf.Tensor,
        *of_samples: tf.Tensor,
        keys: Keys | None = None,
    ) -> tf.Tensor:
        """What a function makes of the inner products of queries with whole histories.

        Args:
            function: called once a group as `function(products [b, q, L], valid [b, L], *tensors)`;
                valid are the behaviours that the sample sees, products have no gradient. Returns
                a tensor [b, ...].
            queries: as in `choose`.
            of_samples: tensors [B, ...] of which the function gets the rows of its group.
            keys: as in `choose`.

        Returns:
            [B, ...].
        """
        queries = tf.stop_gradient(queries)
        seen = []
        for group, vectors in self._compared(keys):
            products = _products(group, vectors, self._of_group(queries, group))
            tensors = [self._of_group(x, group) for x in of_samples]
            seen.append((function(products, _valid(group), *tensors),))
        return self._together(seen)[0]

    def embed(self, rows: tf.Tensor) -> tf.Tensor:
        """Embeddings [..., d] of behaviours given as rows [..., F], with gradients."""
        return _side_by_side(self._embedding(rows))

    def recent(self, count: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Rows [B, count, F] and mask bool [B, count] of the most recent behaviours."""
        recent = []
        for group in self._groups:
            recent.append(_first_of(group, count))
        return self._together(recent)

    def matching(self, field: int, wanted: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """The most recent behaviours that have a given row in one field.

        Args:
            field: index of the field among those of these histories.
            wanted: the row, [B]; row 0, an unknown id, matches nothing.
            count: behaviours wanted at most.

        Returns:
            Rows [B, count, F], 0 where there are fewer, and mask bool [B, count].
        """
        matching = []
        for group in self._groups:
            row = self._of_group(wanted, group)[:, tf.newaxis]
            values = _of_samples(group, group.rows[:, :, field])
            same = (values == row) & (row > 0) & _valid(group)
            indices, found = top_indices(tf.zeros_like(same, tf.float32), same, count)
            matching.append((_rows_at(group, indices, found), found))
        return self._together(matching)

    def lengths(self) -> tf.Tensor:
        """Valid behaviours of every sample, float32 [B]."""
        return self._together([(_length(group),) for group in self._groups])[0]

    def whole(self) -> tuple[tf.Tensor, tf.Tensor]:
        """All of it, with gradients: embeddings [B, L, d] and mask [B, L], L the longest."""
        rows, mask = self.recent(self.longest())
        return self.embed(rows), mask

    def longest(self) -> int | tf.Tensor:
        """L, how many behaviours a sample sees at most, padding included; int32 if a tensor."""
        lengths = [_longest(group) for group in self._groups]
        known = all(isinstance(length, int) for length in lengths)
        return max(lengths) if known else tf.reduce_max(tf.stack(lengths))

    @functools.cached_property
    def _scanned(self) -> list[tf.Tensor]:
        """Embeddings [h, L, d] of each group, without gradients."""
        branches = not devices.gpus()
        return [_side_by_side(self._embedding.scan(g.rows, branches)) for g in self._groups]

    def _compared(self, keys: Keys | None) -> list[tuple[HistoryGroup, tf.Tensor]]:
        """Each group, and the vectors [h, L, w] of its behaviours that queries are compared to."""
        vectors = [keys(embedded) if keys else embedded for embedded in self._scanned]
        return list(zip(self._groups, vectors, strict=True))

    def _of_group(self, values: tf.Tensor, group: HistoryGroup) -> tf.Tensor:
        """Of values [B, ...] those of the samples of a group; one group has them in their order."""
        return values if len(self._groups) == 1 else tf.gather(values, group.samples)

    def _together(self, parts: list[tuple[tf.Tensor, ...]]) -> tuple[tf.Tensor, ...]:
        """Tensors of all groups in the order of the batch."""
        if len(self._groups) == 1:
            return parts[0]
        samples = tf.concat([group.samples for group in self._groups], axis=0)
        order = tf.math.invert_permutation(samples)
        return tuple(tf.gather(tf.concat(t, axis=0), order) for t in zip(*parts, strict=True))


class Embedded(NamedTuple):
    """B samples as input units get them.

    Attributes:
        fields: float32 [B, n, e], the categorical fields, those of several values last.
        history: their behaviours, not looked up yet.
        dense: float32 [B, m].
        rows: int32 or int64 [B, n'], the fields of one value as rows of the table.
        user: int64 [B], or None where nothing tells users apart.
        label: float32 [B], or None while serving.
    """

    fields: tf.Tensor
    history: History
    dense: tf.Tensor
    rows: tf.Tensor
    user: tf.Tensor | None = None
    label: tf.Tensor | None = None


def best_of(
    group: HistoryGroup, vectors: tf.Tensor, queries: tf.Tensor, count: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """`History.choose` for the b samples of one group.

    Args:
        group: h histories.
        vectors: float32 [h, L, w], of their behaviours.
        queries: float32 [b, q, w].
        count: k.

    Returns:
        Rows [b, q, k, F] and which are found, bool [b, q, k].
    """
    products = _products(group, vectors, queries)
    valid = _valid(group)[:, tf.newaxis]
    indices, found = top_indices(products, valid, count, branches=not devices.gpus())
    return _rows_at(group, indices, found), found


def _products(group: HistoryGroup, vectors: tf.Tensor, queries: tf.Tensor) -> tf.Tensor:
    """Inner products [b, q, L] of queries [b, q, w] with vectors [h, L, w]."""
    if not group.windows:
        return tf.matmul(queries, vectors, transpose_b=True)
    # The queries of all samples of a history meet it in one product.
    alone = _one_history(group)
    placed = queries[tf.newaxis] if alone else tf.gather(queries, group.windows.at)
    (h, t, q, w), length = tf.unstack(tf.shape(placed)), tf.shape(vectors)[1]
    products = tf.matmul(tf.reshape(placed, [h, t * q, w]), vectors, transpose_b=True)
    products = tf.reshape(products, [h * t, q, length])
    products = products if alone else tf.gather(products, group.windows.place)
    return tf.ensure_shape(products, [None, queries.shape[1], None])


def _valid(group: HistoryGroup) -> tf.Tensor:
    """Which behaviours of its history each sample sees, bool [b, L]."""
    if not group.windows:
        return group.mask
    first, stop = group.windows.first[:, tf.newaxis], group.windows.stop[:, tf.newaxis]
    position = tf.cast(tf.range(tf.shape(group.mask)[1]), first.dtype)
    return (position >= first) & (position < stop) & _of_samples(group, group.mask)


def _length(group: HistoryGroup) -> tf.Tensor:
    """Valid behaviours that each sample sees, float32 [b]."""
    if not group.windows:
        return tf.reduce_sum(tf.cast(group.mask, tf.float32), axis=1)
    index_type = group.windows.first.dtype
    before = tf.cumsum(tf.cast(group.mask, index_type), axis=1)
    before = tf.concat([tf.zeros([tf.shape(before)[0], 1], index_type), before], axis=1)
    first, stop = _at(group, before, group.windows.first), _at(group, before, group.windows.stop)
    return tf.cast(stop - first, tf.float32)


def _longest(group: HistoryGroup) -> int | tf.Tensor:
    """How many behaviours a sample sees at most, padding included; int32 if a tensor."""
    if not group.windows:
        length = group.mask.shape[1]
        return tf.shape(group.mask)[1] if length is None else length
    seen = tf.reduce_max(group.windows.stop - group.windows.first)
    return tf.maximum(tf.cast(seen, tf.int32), 1)


def _first_of(group: HistoryGroup, count: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows [b, count, F] and mask [b, count] of the first behaviours that each sample sees."""
    if not group.windows:
        return padded(group.rows[:, :count], count, 1), padded(group.mask[:, :count], count, 1)
    first = group.windows.first[:, tf.newaxis]
    indices = first + tf.cast(tf.range(count), first.dtype)
    seen = indices < group.windows.stop[:, tf.newaxis]
    indices = tf.where(seen, indices, 0)
    return _rows_at(group, indices, seen), seen & _at(group, group.mask, indices)


def _rows_at(group: HistoryGroup, indices: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
    """Rows [b, ..., F] at indices [b, ...] of the histories, 0 where nothing is found."""
    return tf.where(found[..., tf.newaxis], _at(group, group.rows, indices), 0)


def _at(group: HistoryGroup, values: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """Values [b, ..., *] of those of the histories [h, L, *] at indices [b, ...]."""
    if not group.windows:
        return tf.gather(values, indices, batch_dims=1)
    start = tf.cast(_history(group), indices.dtype) * tf.cast(tf.shape(values)[1], indices.dtype)
    start = tf.reshape(start, [-1] + [1] * (len(indices.shape) - 1))
    return tf.gather(tf.reshape(values, [-1, *values.shape[2:]]), start + indices)


def _of_samples(group: HistoryGroup, values: tf.Tensor) -> tf.Tensor:
    """Values [h, ...] of the histories as [b, ...] of the samples, or [1, ...] of all of them."""
    if not group.windows or _one_history(group):
        return values
    return tf.gather(values, _history(group))


def _history(group: HistoryGroup) -> tf.Tensor:
    """The history of each sample of a group with windows [b]."""
    place = group.windows.place
    return place // tf.cast(tf.maximum(tf.shape(group.windows.at)[1], 1), place.dtype)


def _one_history(group: HistoryGroup) -> bool:
    """Whether the graph knows that all samples have the same history, as in a request."""
    return group.rows.shape[0] == 1


def _side_by_side(embedded: tf.Tensor) -> tf.Tensor:
    """[..., F, e] as [..., d]."""
    *outer, fields, dim = embedded.shape
    if outer.count(None) == 1:
        return tf.reshape(embedded, [*(-1 if n is None else n for n in outer), fields * dim])
    shape = tf.concat([tf.shape(embedded)[:-2], [fields * dim]], axis=0)
    return tf.ensure_shape(tf.reshape(embedded, shape), [*outer, fields * dim])
