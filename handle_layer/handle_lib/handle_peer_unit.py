"""The peers of DiffuMIN: other models of the long history, with all else the same.

Each is a `HistoryUnit`, so that features, embeddings, short-term encoder and tower are those that
DiffuMIN has under the same configuration.
"""

import tensorflow as tf

from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import ConfigError
from diffumin_tf.history import Embedded
from diffumin_tf.input.features import FeatureLayout
from diffumin_tf.layers import (
    ActivationUnit,
    SampledHashAttention,
    SimHash,
    SoftSearch,
    TwinAttention,
)
from handle_layer.handle_lib.handle_base import (
    Found,
    HistoryUnit,
    InterestUnit,
    Queries,
    SearchUnit,
    WholeUnit,
)


class NoHistory(HistoryUnit):
    """The tower alone: no history, neither long-term nor short-term, whatever `subseq_len` is."""

    compares = False

    @property
    def subseq_len(self) -> int:
        return 0

    def long_term(
        self, queries: Queries, found: Found, inputs: Embedded, training: bool
    ) -> list[tf.Tensor]:
        return []


class MeanPooling(WholeUnit):
    """The mean of the valid behaviours, as in Covington et al., YouTube (RecSys '16)."""

    compares = False

    def interest(
        self, queries: Queries, found: Found, inputs: Embedded, training: bool
    ) -> tf.Tensor:
        behaviours, mask = found.behaviours["whole"]
        weights = tf.cast(mask, tf.float32)
        lengths = tf.reduce_sum(weights, axis=1, keepdims=True)
        return _weighted_sum(weights, behaviours) / tf.maximum(lengths, 1.0)


class DIN(WholeUnit):
    """Deep Interest Network (Zhou et al., KDD '18): a weighted sum of all behaviours.

    The weights of `ActivationUnit` are not normalised. Its hidden layer has the 36 units of the
    paper and the `activation` of the tower, where `relu` stands for PReLU here.
    """

    def __init__(self, config: TaskConfig, layout: FeatureLayout, **kwargs) -> None:
        super().__init__(config, layout, **kwargs)
        self._weigh = ActivationUnit(
            activation="dice" if config.activation == "dice" else "prelu",
            momentum=config.batch_norm_momentum,
            name="activation_unit",
        )

    def interest(
        self, queries: Queries, found: Found, inputs: Embedded, training: bool
    ) -> tf.Tensor:
        behaviours, mask = found.behaviours["whole"]
        weights = self._weigh(behaviours, queries.candidate, mask, training=training)
        return _weighted_sum(weights, behaviours)


class SIM_hard(SearchUnit):  # noqa: N801  (one of two searches of SIM)
    """Search-based Interest Model (Pi et al., CIKM '20), hard search.

    The search finds the `search_len` most recent behaviours that have the candidate's value in
    the behaviour field `search_field`, such as its category. A candidate whose value is unknown
    finds none.
    """

    def __init__(self, config: TaskConfig, layout: FeatureLayout, **kwargs) -> None:
        super().__init__(config, layout, **kwargs)
        names, partners = self.features.behaviours, self.partners()
        shared = {
            name: partner
            for name, partner in zip(names, partners, strict=True)
            if partner is not None and self.features.candidate[partner] in layout.fields
        }
        if config.search_field not in shared:
            raise ConfigError(
                f"search_field is {config.search_field!r} but SIM_hard searches by a behaviour "
                "field that the candidate has too, as one value: "
                f"{', '.join(shared) or 'there is none'}"
            )
        self._field = names.index(config.search_field)
        partner = self.features.candidate[shared[config.search_field]]
        self._wanted = layout.fields.index(partner)

    def search(self, queries: Queries, inputs: Embedded, training: bool) -> Found:
        wanted = inputs.rows[:, self._wanted]
        return Found({"chosen": inputs.history.matching(self._field, wanted, self.top_k)})


class SIM_soft(SearchUnit):  # noqa: N801  (one of two searches of SIM)
    """Search-based Interest Model (Pi et al., CIKM '20), soft search.

    The search finds the `search_len` behaviours with the highest inner products (`SoftSearch`).
    It learns by a click model over the whole history, whose loss counts as much as that of the
    clicks, as in the paper. The paper's attention also sees how long ago a behaviour was; here it
    does where that is a behaviour field.
    """

    def __init__(self, config: TaskConfig, layout: FeatureLayout, **kwargs) -> None:
        super().__init__(config, layout, **kwargs)
        self._search = SoftSearch(
            self.top_k,
            activation=config.activation,
            momentum=config.batch_norm_momentum,
            name="search",
        )
        self._search.build(tf.TensorShape([None, None, self.width]))

    def vectors(self, candidate: tf.Tensor, inputs: Embedded) -> tf.Tensor:
        return self._search.direction_of(candidate)

    def search(self, queries: Queries, inputs: Embedded, training: bool) -> Found:
        direction = queries.vectors[:, tf.newaxis]
        behaviours = {"chosen": _of_one_query(inputs.history.choose(direction, self.top_k))}
        if training:
            behaviours["whole"] = inputs.history.recent(inputs.history.longest())
        return Found(behaviours)

    def interest(
        self, queries: Queries, found: Found, inputs: Embedded, training: bool
    ) -> tf.Tensor:
        if training and inputs.label is not None:
            whole, mask = found.behaviours["whole"]
            self._search(whole, queries.candidate, mask, inputs.label, training=True)
        return super().interest(queries, found, inputs, training)


class ETA(SearchUnit):
    """End-to-end Target Attention (Chen et al., 2022): search by SimHash.

    The search finds the `search_len` behaviours whose signatures of `hash_bits` bits are
    nearest to that of the candidate, by embeddings as they are in this step.
    """

    def __init__(self, config: TaskConfig, layout: FeatureLayout, **kwargs) -> None:
        super().__init__(config, layout, **kwargs)
        self._hash = SimHash(config.hash_bits, seed=config.seed, name="hash")

    def search(self, queries: Queries, inputs: Embedded, training: bool) -> Found:
        wanted = self._signs(queries.candidate)[:, tf.newaxis]
        chosen = inputs.history.choose(wanted, self.top_k, keys=self._signs)
        return Found({"chosen": _of_one_query(chosen)})

    def _signs(self, vectors: tf.Tensor) -> tf.Tensor:
        return SimHash.signs(self._hash(vectors))


class SDIM(WholeUnit):
    """Sampling-based Deep Interest Modeling (Cao et al., CIKM '22): attention by hash collisions.

    All behaviours take part: `hash_bits` bits in groups of `hash_width`
    (`SampledHashAttention`).
    """

    def __init__(self, config: TaskConfig, layout: FeatureLayout, **kwargs) -> None:
        super().__init__(config, layout, **kwargs)
        if config.hash_bits % config.hash_width:
            raise ConfigError(
                f"hash_width is {config.hash_width} but must divide hash_bits {config.hash_bits}"
            )
        self._attention = SampledHashAttention(
            config.hash_bits, config.hash_width, seed=config.seed, name="hash_attention"
        )

    def interest(
        self, queries: Queries, found: Found, inputs: Embedded, training: bool
    ) -> tf.Tensor:
        behaviours, mask = found.behaviours["whole"]
        return self._attention(behaviours, queries.candidate, mask)


class TWIN(InterestUnit):
    """TWo-stage Interest Network (Chang et al., KDD '23): search and attention by equal scores.

    The behaviour fields that the candidate has too are the inherent features of `TwinAttention`,
    the others the cross features. Each head keeps `search_len` behaviours.
    """

    compares = False  # fields are compared one by one

    def __init__(self, config: TaskConfig, layout: FeatureLayout, **kwargs) -> None:
        super().__init__(config, layout, **kwargs)
        self.check_heads()
        inherent = [f for f, partner in enumerate(self.partners()) if partner is not None]
        if not inherent:
            raise ConfigError(
                "features: TWIN compares the fields that candidate and behaviours share, but "
                f"{list(self.features.candidate)} and {list(self.features.behaviours)} share none"
            )
        self._attention = TwinAttention(
            config.num_heads,
            top_k=min(config.search_len, config.seq_len),
            field_dim=config.embed_dim,
            inherent=inherent,
            name="twin_attention",
        )
        self._attention.build(tf.TensorShape([None, None, self.width]))

    def vectors(self, candidate: tf.Tensor, inputs: Embedded) -> tf.Tensor:
        return self._attention.directions_of(self._inherent(inputs))

    def search(self, queries: Queries, inputs: Embedded, training: bool) -> Found:
        return Found({"chosen": inputs.history.choose(queries.vectors, self._attention.top_k)})

    def interest(
        self, queries: Queries, found: Found, inputs: Embedded, training: bool
    ) -> tf.Tensor:
        return self._attention.attend(*found.behaviours["chosen"], queries.vectors)

    def _inherent(self, inputs: Embedded) -> tf.Tensor:
        """The candidate's inherent features, side by side."""
        names = [self.features.candidate[p] for p in self.partners() if p is not None]
        return self.embedded(inputs, names)


def _of_one_query(chosen: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows [B, k, F] and mask [B, k] of those that were found by a single query each."""
    rows, mask = (tf.squeeze(x, axis=1) for x in chosen)
    return rows, mask


def _weighted_sum(weights: tf.Tensor, behaviours: tf.Tensor) -> tf.Tensor:
    """float32 [B, d] of weights [B, L] and behaviours [B, L, d]."""
    return tf.squeeze(tf.matmul(weights[:, tf.newaxis], behaviours), axis=1)
