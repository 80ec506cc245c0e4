"""Scalars for TensorBoard."""

from collections.abc import Mapping

import tensorflow as tf

# What tf.summary.scalar writes; that function needs the tensorboard package to write, not to show.
_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1
)


class Summaries:
    """Writes event files into a folder; None writes nothing."""

    def __init__(self, folder: str | None) -> None:
        self._writer = tf.summary.create_file_writer(folder) if folder else None

    def write(self, prefix: str, step: int, values: Mapping[str, float | None]) -> None:
        """Writes the values that there are as `<prefix><name>`."""
        if not self._writer:
            return
        with self._writer.as_default(step=step):
            for name, value in values.items():
                if value is not None:
                    tf.summary.write(prefix + name, tf.cast(value, tf.float32), metadata=_SCALAR)

    def flush(self) -> None:
        if self._writer:
            self._writer.flush()
