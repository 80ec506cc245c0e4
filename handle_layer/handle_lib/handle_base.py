"""The bases of input units: which features they read, and what models of a history share."""

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from diffumin_tf.config.task import Features, TaskConfig
from diffumin_tf.errors import ConfigError
from diffumin_tf.history import Embedded, History
from diffumin_tf.input.features import FeatureLayout
from diffumin_tf.layers import (
    BatchNorm,
    FieldAlignedProjection,
    MultiHeadAttention,
    TransformerEncoder,
)
from diffumin_tf.layers.xla import compiled_in_training


class Queries(NamedTuple):
    """What a unit looks for in histories, with gradients.

    Attributes:
        selected: float32 [B, features·e], the candidate features.
        candidate: float32 [B, d], e_s; where a unit does not compare it may be of another width.
        vectors: float32 [B, ...], what else `search` asks for, or `()`.
    """

    selected: tf.Tensor
    candidate: tf.Tensor
    vectors: tf.Tensor | tuple[()] = ()


class Found(NamedTuple):
    """What a unit found, none of it with gradients but the embeddings.

    Attributes:
        behaviours: by a name, rows of behaviours that train, int32 or int64 [B, ..., F], and which
            of them there are, bool [B, ...]. `embedded` puts float32 [B, ..., d] in place of rows.
        beside: by a name, whatever else goes into the result: tensors [B, ...] such as lengths.
    """

    behaviours: dict[str, tuple[tf.Tensor, tf.Tensor]] = {}
    beside: dict[str, Any] = {}

    def embedded(self, history: History) -> "Found":
        """The same with its behaviours looked up."""
        pairs = self.behaviours.items()
        looked_up = {name: (history.embed(rows), mask) for name, (rows, mask) in pairs}
        return self._replace(behaviours=looked_up)


class InputUnit(tf.keras.layers.Layer):
    """Turns the embedded features of a batch into one vector a sample for the tower.

    A subclass sets `default_features` (or leaves it None, then the config must list features),
    builds its layers in `__init__` and composes them in `call`. It adds its auxiliary losses
    with `add_loss`. A unit that averages the history::

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
        inputs: B samples, an `Embedded`.
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

    def select(self, inputs: Embedded, role: str) -> tf.Tensor:
        """Embeddings of the `user`, `candidate` or `context` features, side by side.

        Returns:
            float32 [B, features·e].
        """
        return self.embedded(inputs, getattr(self.features, role))

    def embedded(self, inputs: Embedded, names: Sequence[str]) -> tf.Tensor:
        """Embeddings of the fields of these names, side by side, float32 [B, names·e]."""
        _, count, dim = inputs.fields.shape
        fields = tf.reshape(inputs.fields, [tf.shape(inputs.fields)[0], count * dim])
        indices = [self._layout.categorical.index(name) for name in names]
        # Slices and not a gather, whose gradient is a scatter.
        return tf.concat([fields[:, a * dim : b * dim] for a, b in _runs(indices)], axis=1)

    def history(self, inputs: Embedded) -> History:
        """The histories of the batch with the behaviour fields of this unit."""
        indices = [self._layout.behaviours.index(n) for n in self.features.behaviours]
        return inputs.history.pick(indices)

    def partners(self) -> list[int | None]:
        """For each behaviour field, the candidate feature of the same id space, if any."""
        spaces = [self._layout.spaces[name] for name in self.features.candidate]
        return [
            spaces.index(space) if space in spaces else None
            for space in (self._layout.spaces[name] for name in self.features.behaviours)
        ]


class HistoryUnit(InputUnit, abc.ABC):
    """All features side by side, what a long history adds, and the short-term encoder.

    `concat[candidate, user, context, long_term(…), e*_s, dense]`, where e*_s is the candidate as
    the short-term encoder sees it beside the `subseq_len` most recent behaviours (0 leaves it
    out). It takes three steps: `queries`, `find` and, with what was found embedded, `combine`.
    `find` alone reads a history, and has no gradients. A subclass makes a model of the long history
    of it by its `vectors`, `search` and `long_term`, so that models differ in nothing else.

    Call arguments:
        inputs, training: as for every unit.
        found: from `find` and embedded, if a caller has it; None finds and embeds.
    """

    # Whether `long_term` needs the candidate at the width of a behaviour.
    compares: bool = True

    def __init__(self, config: TaskConfig, layout: FeatureLayout, **kwargs) -> None:
        super().__init__(config, layout, **kwargs)
        self._as_behaviour = None
        partners = self.partners()
        aligned = partners == list(range(len(self.features.candidate)))
        if (self.compares or self.subseq_len) and not aligned:
            self._as_behaviour = FieldAlignedProjection(
                partners, config.embed_dim, seed=config.seed, name="candidate_projection"
            )
        if self.subseq_len:
            self._build_short_term()
        if self.features.dense:
            self._dense_norm = BatchNorm(momentum=config.batch_norm_momentum, name="dense_norm")

    @property
    def subseq_len(self) -> int:
        """K, the recent behaviours that the short-term encoder sees; 0 leaves it out."""
        return self.config.subseq_len

    def vectors(self, candidate: tf.Tensor, inputs: Embedded) -> tf.Tensor | tuple[()]:
        """What `search` compares behaviours with, beside the candidate."""
        return ()

    def search(self, queries: Queries, inputs: Embedded, training: bool) -> Found:
        """What `long_term` is to know of the histories, the only thing it knows of them.

        Args:
            queries: of the B samples.
            inputs: as in `call`, but the history has the behaviour fields of this unit alone.
            training: whether losses and noise will be added.

        Returns:
            By any names but `recent`, which are the behaviours of the short-term encoder.
        """
        return Found()

    @abc.abstractmethod
    def long_term(
        self, queries: Queries, found: Found, inputs: Embedded, training: bool
    ) -> list[tf.Tensor]:
        """What the tower sees of the whole history.

        Args:
            queries: as for `search`.
            found: what `search` returned, its behaviours embedded.
            inputs: as in `call`; the history was read by `search`.
            training: whether to add losses and noise.

        Returns:
            Tensors float32 [B, any fixed width].
        """

    def call(
        self, inputs: Embedded, training: bool = False, found: Found | None = None
    ) -> tf.Tensor:
        queries = self.queries(inputs)
        if found is None:
            found = self.find(queries, inputs, training).embedded(inputs.history)
        return self.combine(queries, found, inputs._replace(history=None), training)

    def queries(self, inputs: Embedded) -> Queries:
        """The first step: what to look for."""
        selected = self.select(inputs, "candidate")
        candidate = self._as_behaviour(selected) if self._as_behaviour else selected
        return Queries(selected, candidate, self.vectors(candidate, inputs))

    def find(self, queries: Queries, inputs: Embedded, training: bool) -> Found:
        """The second step, without gradients: what `search` finds, and the most recent ones."""
        inputs = inputs._replace(history=self.history(inputs))
        found = self.search(queries, inputs, training)
        if not self.subseq_len:
            return found
        recent = {"recent": inputs.history.recent(self.subseq_len)}
        return found._replace(behaviours=found.behaviours | recent)

    def combine(
        self, queries: Queries, found: Found, inputs: Embedded, training: bool
    ) -> tf.Tensor:
        """The third step: the result of `call`; `found` has its behaviours embedded."""
        parts = [queries.selected, self.select(inputs, "user"), self.select(inputs, "context")]
        parts += self.long_term(queries, found, inputs, training)
        if self.subseq_len:
            recent, mask = found.behaviours["recent"]
            parts.append(self._encode(recent, mask, queries.candidate, training))
        if self.features.dense:
            parts.append(self._dense_norm(inputs.dense, training=training))
        return tf.concat(parts, axis=1)

    def check_heads(self) -> None:
        """Raises ConfigError when attention heads do not divide the width of a behaviour."""
        if self.width % self.config.num_heads:
            raise ConfigError(
                f"num_heads is {self.config.num_heads} but must divide {self.width} "
                f"({self.field_count} behaviour fields of embed_dim {self.config.embed_dim})"
            )

    def _build_short_term(self) -> None:
        config = self.config
        self.check_heads()
        self._short_term = TransformerEncoder(
            n_layers=config.n_layers,
            num_heads=config.num_heads,
            dff_factor=config.dff_factor,
            dropout_rate=config.dropout_rate,
            seed=config.seed,
            name="short_term",
        )
        self._encode = compiled_in_training(self._short_term_interest, config.jit_compile)

    def _short_term_interest(self, recent, mask, candidate, training) -> tf.Tensor:
        """e*_s: the candidate after attending to the K most recent behaviours, [B, d]."""
        tokens = tf.concat([recent, candidate[:, tf.newaxis]], axis=1)
        valid = tf.pad(mask, [[0, 0], [0, 1]], constant_values=True)
        encoded = self._short_term(tokens, valid, training=training, last_only=True)
        return encoded[:, 0]


class InterestUnit(HistoryUnit):
    """A long history that becomes one interest vector, by the `interest` of a subclass.

    The tower sees it batch-normalised, as in the authors' code of DIN: an interest that is
    pooled from embeddings that start small would vanish beside the other inputs.
    """

    def __init__(self, config: TaskConfig, layout: FeatureLayout, **kwargs) -> None:
        super().__init__(config, layout, **kwargs)
        self._interest_norm = BatchNorm(momentum=config.batch_norm_momentum, name="interest_norm")

    @abc.abstractmethod
    def interest(
        self, queries: Queries, found: Found, inputs: Embedded, training: bool
    ) -> tf.Tensor:
        """What becomes of the whole history, float32 [B, any fixed width]; see `long_term`."""

    def long_term(
        self, queries: Queries, found: Found, inputs: Embedded, training: bool
    ) -> list[tf.Tensor]:
        interest = self.interest(queries, found, inputs, training)
        return [self._interest_norm(interest, training=training)]


class WholeUnit(InterestUnit):
    """An interest made of every behaviour of a history, with gradients to all of them."""

    def search(self, queries: Queries, inputs: Embedded, training: bool) -> Found:
        return Found({"whole": inputs.history.recent(inputs.history.longest())})


class SearchUnit(InterestUnit):
    """An interest by multi-head target attention to the behaviours that a subclass has found."""

    def __init__(self, config: TaskConfig, layout: FeatureLayout, **kwargs) -> None:
        super().__init__(config, layout, **kwargs)
        self.check_heads()
        self._attention = MultiHeadAttention(config.num_heads, name="target_attention")

    @property
    def top_k(self) -> int:
        """Behaviours that a search finds at most, k."""
        return min(self.config.search_len, self.config.seq_len)

    @abc.abstractmethod
    def search(self, queries: Queries, inputs: Embedded, training: bool) -> Found:
        """Behaviours `chosen`: rows [B, k, F] and mask bool [B, k]."""

    def interest(
        self, queries: Queries, found: Found, inputs: Embedded, training: bool
    ) -> tf.Tensor:
        query = queries.candidate[:, tf.newaxis]
        return self._attention(query, *found.behaviours["chosen"])[:, 0]


def _runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """Indices as ranges (first, stop) of neighbours, one empty range where there are none."""
    runs = []
    for index in indices:
        if runs and runs[-1][1] == index:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs or [(0, 0)]
