"""What one batch holds: the type of everything between the input pipeline and the model."""

from typing import NamedTuple

import tensorflow as tf


class HistoryGroup(NamedTuple):
    """Histories of those b samples of a batch that are padded to one length L.

    Attributes:
        rows: int32 [b, L, F], most recent first.
        mask: bool [b, L], false where the behaviour is padding.
        samples: int32 [b], indices of the samples in the batch, ascending.
    """

    rows: tf.Tensor
    mask: tf.Tensor
    samples: tf.Tensor


class Bags(NamedTuple):
    """A field of several values: the bags of b samples, one after the other.

    Attributes:
        rows: int32 [T], those that are not row 0.
        counts: int32 [b], how many are of each sample.
    """

    rows: tf.Tensor
    counts: tf.Tensor


class Batch(NamedTuple):
    """B samples as rows of the embedding table and dense values.

    What a batch lacks is `()`, a nest without tensors. None would be the usual word, but
    `tf.distribute` cannot fill up the last batch of an epoch where a part of it is None.

    Attributes:
        fields: int32 [B, n], rows of the categorical fields of one value.
        histories: groups that hold every sample once; or a single `HistoryGroup` outside of a
            tuple, with b = 1: the history that all B samples share.
        dense: float32 [B, m].
        user: int64 [B], or `()` where nothing tells users apart.
        label: float32 [B], or `()` where none is known, as while serving.
        multi: the fields of several values, with b = B; or b = 1 where all samples share one.
    """

    fields: tf.Tensor
    histories: tuple[HistoryGroup, ...] | HistoryGroup
    dense: tf.Tensor
    user: tf.Tensor | tuple[()] = ()
    label: tf.Tensor | tuple[()] = ()
    multi: tuple[Bags, ...] = ()
