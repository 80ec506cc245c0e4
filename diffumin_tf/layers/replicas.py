"""What the replicas of a `tf.distribute` strategy share in a training step.

Every function also works without a strategy and in cross-replica context: there is one replica
then, nothing is communicated, and no operation is added. With more than one replica each of them
must make the same calls in the same order, outside of XLA and of control flow.
"""

from typing import Any, NamedTuple

import tensorflow as tf


class BatchRows(NamedTuple):
    """Which rows of the global batch a replica holds; they are in the order of the replicas.

    Attributes:
        offset: scalar, int. Rows of the replicas before this one.
        total: scalar, int. Rows of all replicas.
    """

    offset: int | tf.Tensor
    total: int | tf.Tensor


def count() -> int:
    """N, the replicas that compute one step together."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def index() -> int | tf.Tensor:
    """r in [0, N), the number of this replica."""
    return 0 if count() == 1 else tf.distribute.get_replica_context().replica_id_in_sync_group


def local_copy(variable: tf.Variable) -> tf.Variable:
    """This replica's copy of a mirrored variable; the first copy in cross-replica context.

    `tf.gather` reads single rows of such a copy, but all rows of a mirrored variable, and after
    that an update of some rows has to copy the whole variable.
    """
    copies = tf.distribute.get_strategy().experimental_local_results(variable)
    if len(copies) == 1:
        return copies[0]
    try:
        handle = variable.handle
    except ValueError:  # raised in cross-replica context
        return copies[0]
    return next(copy for copy in copies if copy.handle is handle)


def total(tensors: Any) -> Any:
    """The sum over replicas of a nest of tensors of one type; gradients are summed likewise."""
    return _reduced(tf.distribute.ReduceOp.SUM, tensors)


def average(tensors: Any) -> Any:
    """The mean over replicas of a nest of tensors of one type, as are their gradients."""
    return _reduced(tf.distribute.ReduceOp.MEAN, tensors)


def mean(summed: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
    """The loss of this replica, such that the average over replicas is the mean of all terms.

    ```
    loss_r = summed_r / (max(Σ counted, 1) / N)
    ```

    Args:
        summed: scalar, float32. Sum of the terms of this replica.
        counted: scalar, float32. Number of them, a whole one.

    Returns:
        Scalar, float32; 0 if no replica has a term.
    """
    terms = tf.maximum(total(counted), 1.0)
    return summed / (terms if count() == 1 else terms / count())


def batch_rows(samples: int | tf.Tensor) -> BatchRows:
    """Which rows of the global batch are the samples of this replica.

    Args:
        samples: scalar, int. Samples of this replica, 0 or more.
    """
    if count() == 1:
        return BatchRows(0, samples)
    # One short sum costs less than gathering, which begins by gathering the shapes.
    sizes = total(tf.one_hot(index(), count(), dtype=tf.int64) * tf.cast(samples, tf.int64))
    before = tf.reduce_sum(tf.where(tf.range(count()) < index(), sizes, 0))
    return BatchRows(tf.cast(before, tf.int32), tf.cast(tf.reduce_sum(sizes), tf.int32))


def gather(tensors: Any, rows: BatchRows) -> Any:
    """The rows of all replicas, with gradients to each.

    Args:
        tensors: nest of tensors `[samples of this replica, ...]`, numbers.
        rows: from `batch_rows`.

    Returns:
        Nest of tensors `[samples of all replicas, ...]`.
    """
    if count() == 1:
        return tensors

    def gathered(x: tf.Tensor) -> tf.Tensor:
        after = rows.total - rows.offset - tf.shape(x)[0]
        # One by one, because a reduction of several tensors wants them of one type.
        return total(tf.pad(x, [[rows.offset, after]] + [[0, 0]] * (len(x.shape) - 1)))

    return tf.nest.map_structure(gathered, tensors)


def _reduced(operation: tf.distribute.ReduceOp, tensors: Any) -> Any:
    if count() == 1:
        return tensors
    return tf.distribute.get_replica_context().all_reduce(operation, tensors)
