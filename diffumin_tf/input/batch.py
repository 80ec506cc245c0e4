"""What one batch holds: the type of everything between the input pipeline and the model."""

from typing import Any, NamedTuple

import tensorflow as tf


class Windows(NamedTuple):
    """Which of h histories each of b samples has, and which part of it the sample sees.

    The samples of a history stand side by side in places [h, t], so that all of a group are scored
    by one product; where a history has fewer than t, places are filled up with any sample.

    Attributes:
        at: int32 [h, t], the sample, of b, in each place.
        place: int32 [b], the place of each sample in `at`, flattened: history `place // t`.
        first, stop: int32 [b], the sample sees behaviours [first, stop) of its history.
    """

    at: tf.Tensor
    place: tf.Tensor
    first: tf.Tensor
    stop: tf.Tensor


class HistoryGroup(NamedTuple):
    """Histories, padded to one length L, of b samples of a batch.

    Attributes:
        rows: int32 [h, L, F], most recent first.
        mask: bool [h, L], false where the behaviour is padding.
        samples: int32 [b], indices of the samples in the batch, ascending.
        windows: where several samples share a history, or see a part of it alone; `()` where
            history i is that of sample i, and all of it.
    """

    rows: tf.Tensor
    mask: tf.Tensor
    samples: tf.Tensor
    windows: Windows | tuple[()] = ()


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
        histories: groups that hold every sample once.
        dense: float32 [B, m].
        user: int64 [B], or `()` where nothing tells users apart.
        label: float32 [B], or `()` where none is known, as while serving.
        multi: the fields of several values, with b = B; or b = 1 where all samples share one.
    """

    fields: tf.Tensor
    histories: tuple[HistoryGroup, ...]
    dense: tf.Tensor
    user: tf.Tensor | tuple[()] = ()
    label: tf.Tensor | tuple[()] = ()
    multi: tuple[Bags, ...] = ()


def in_int64(batch: Batch) -> Batch:
    """The batch with rows and indices in int64, which a GPU computes with.

    TensorFlow takes int32 for shapes: most of what computes with int32 runs on the host, even where
    there is a GPU, and data would go there and back.
    """

    def widened(x: tf.Tensor) -> tf.Tensor:
        return tf.cast(x, tf.int64) if x.dtype == tf.int32 else x

    return tf.nest.map_structure(widened, batch)


def open_ended(nest: Any) -> Any:
    """The types of the tensors of a nest, for as many as may come.

    Args:
        nest: tensors [b, ...], or a `Batch` of them.

    Returns:
        The nest of `tf.TensorSpec` for any b; of a batch also for histories of any length, with any
        number of samples each.
    """
    specs = tf.nest.map_structure(lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), nest)
    if isinstance(nest, Batch):
        specs = specs._replace(histories=tuple(map(_of_any_length, specs.histories)))
    return specs


def _of_any_length(group: HistoryGroup) -> HistoryGroup:
    fields, windows = group.rows.shape[2], group.windows
    return group._replace(
        rows=tf.TensorSpec([None, None, fields], tf.int32),
        mask=tf.TensorSpec([None, None], tf.bool),
        windows=windows and windows._replace(at=tf.TensorSpec([None, None], tf.int32)),
    )
