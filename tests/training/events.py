"""Reads the scalars that a run wrote for TensorBoard."""

import glob

import tensorflow as tf


def scalars(folder):
    """Values by tag and step; of a step that was done again, the last."""
    found = {}
    for file in sorted(glob.glob(f"{folder}/events*")):
        for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    return found
