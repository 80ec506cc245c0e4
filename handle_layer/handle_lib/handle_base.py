"""The base of every input unit: which features it reads, and how to pick them from a batch."""

from typing import Any

import tensorflow as tf

from diffumin_tf.config import Features, TaskConfig
from diffumin_tf.data.features import FeatureLayout
from diffumin_tf.errors import ConfigError
from diffumin_tf.history import History


class InputUnit(tf.keras.layers.Layer):
    """Turns the embedded features of a batch into one vector a sample for the tower.

    A subclass sets `default_features` (or leaves it None, then the config must list features),
    builds its layers in ``__init__`` and composes them in ``call``. It adds its auxiliary losses
    with ``add_loss``. A unit that averages the history::

      class AverageHistory(InputUnit):
          def call(self, inputs, training=False):
              behaviours, mask = self.history(inputs).whole()  # [B, L, d], [B, L]
              weights = tf.cast(mask, tf.float32)[:, :, tf.newaxis]
              total = tf.reduce_sum(weights * behaviours, axis=1)
              return total / tf.maximum(tf.reduce_sum(weights, axis=1), 1.0)

    Where a unit picks few behaviours of a long history, `History.choose` and `History.embed`
    differentiate those alone.

    Args:
      config: the experiment.
      layout: where each feature lies in the batch.

    Call arguments:
      inputs: ``fields`` float32 [B, n, e], ``history``: a `History` of B samples, ``dense``
        float32 [B, m] and, outside of serving, ``user`` int64 [B].
      training: whether to add losses and noise.

    Returns:
      float32 [B, any fixed width].
    """

    default_features: Features | None = None

    def __init__(self, config: TaskConfig, layout: FeatureLayout, **kwargs) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.features = self.features_of(config)
        self._layout = layout

    @classmethod
    def features_of(cls, config: TaskConfig) -> Features:
        """The features of the config, or the unit's own.

        Raises:
          ConfigError: neither names any.
        """
        features = config.features or cls.default_features
        if features is None:
            raise ConfigError(f"features: {cls.__name__} has no default; list them in the config")
        return features

    @property
    def field_count(self) -> int:
        """F, the fields of one behaviour."""
        return len(self.features.behaviours)

    @property
    def width(self) -> int:
        """d = F·e, the width of one behaviour."""
        return self.field_count * self.config.embed_dim

    def select(self, inputs: dict[str, Any], role: str) -> tf.Tensor:
        """Embeddings of the ``user``, ``candidate`` or ``context`` features, side by side.

        Returns:
          float32 [B, features·e].
        """
        names = getattr(self.features, role)
        places = tf.constant([self._layout.fields.index(n) for n in names], tf.int32)
        picked = tf.gather(inputs["fields"], places, axis=1)
        return tf.reshape(picked, [tf.shape(picked)[0], len(names) * self.config.embed_dim])

    def history(self, inputs: dict[str, Any]) -> History:
        """The histories of the batch with the behaviour fields of this unit."""
        places = [self._layout.behaviours.index(n) for n in self.features.behaviours]
        return inputs["history"].pick(places)

    def partners(self) -> list[int | None]:
        """For each behaviour field, the candidate feature of the same id space, if any."""
        spaces = [self._layout.spaces[name] for name in self.features.candidate]
        return [
            spaces.index(space) if space in spaces else None
            for space in (self._layout.spaces[name] for name in self.features.behaviours)
        ]
