"""Splits the CPU in two for the tests of replicas; import it before TensorFlow's first operation.

There is one mirrored strategy a process: those of a second one would mix up its reductions with
those of the first.
"""

import functools

import numpy as np
import tensorflow as tf

COUNT = 2


def _split() -> None:
    (cpu,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * COUNT
    if tf.config.get_logical_device_configuration(cpu) is None:
        tf.config.set_logical_device_configuration(cpu, parts)


_split()


@functools.cache
def mirrored():
    """The strategy of two replicas."""
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(COUNT)])


def parts(rows, sizes):
    """The rows of every replica, out of a nest of arrays with the rows of the global batch."""
    ends = np.cumsum([0, *sizes])
    return [
        tf.nest.map_structure(lambda x, a=a, b=b: tf.constant(x[a:b]), rows)
        for a, b in zip(ends[:-1], ends[1:], strict=True)
    ]


def distributed(values):
    """One value a replica, on its device, as `strategy.run` takes them."""

    def on_device(context):
        replica = context.replica_id_in_sync_group
        with tf.device(f"CPU:{replica}"):
            return tf.nest.map_structure(tf.identity, values[replica])

    return mirrored().experimental_distribute_values_from_function(on_device)


def per_replica(results):
    """What every replica returned from `strategy.run`."""
    local = mirrored().experimental_local_results
    return [tf.nest.map_structure(lambda x, r=r: local(x)[r], results) for r in range(COUNT)]


def run(function, values):
    """What `function` returns on every replica, given one value a replica."""
    return per_replica(mirrored().run(function, args=(distributed(values),)))
