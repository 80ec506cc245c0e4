"""The DiffuMIN input units: they name features and compose the layers of `diffumin_tf.layers`."""

import tensorflow as tf

from diffumin_tf.config.task import Features, TaskConfig
from diffumin_tf.errors import ConfigError
from diffumin_tf.history import Embedded
from diffumin_tf.input.features import FeatureLayout
from diffumin_tf.layers import (
    ChannelShare,
    ContrastiveMultiInterestCalibrator,
    DenoiserConfig,
    Diffusion,
    DiffusionMultiInterestGenerator,
    InterestSummary,
    OrthogonalMultiInterestExtractor,
)
from handle_layer.handle_lib.handle_base import Found, HistoryUnit, Queries


class Long_term_DiffuMIN(HistoryUnit):  # noqa: N801  (the name of the release)
    """DiffuMIN over long histories, with the features of the industrial data set as default.

    `concat[r, r*, e_other, e*_s]` of the paper, section 3.5: extracted interests (OMIE),
    generated interests (DMIG, kept near the extracted ones by CMIC), user, context, candidate and
    dense features, and the candidate as the short-term encoder sees it. `use_omie`,
    `use_dmig`, `use_cmic` and `subseq_len` 0 leave parts out: without OMIE there is nothing
    to generate from or to calibrate.
    """

    default_features = Features(
        candidate=("target_poi", "target_third_id", "target_aor_id"),
        behaviours=("item_id_list", "third_id_list", "aor_id_list"),
    )

    def __init__(self, config: TaskConfig, layout: FeatureLayout, **kwargs) -> None:
        super().__init__(config, layout, **kwargs)
        self._check_widths()
        if config.use_omie:
            self._build_interests([f for f, p in enumerate(self.partners()) if p is not None])

    @property
    def compares(self) -> bool:
        return self.config.use_omie

    def _check_widths(self) -> None:
        if self.config.channel_num > self.width:
            raise ConfigError(
                f"channel_num is {self.config.channel_num} but {self.field_count} behaviour fields "
                f"of embed_dim {self.config.embed_dim} give room for {self.width} orthogonal "
                "channels"
            )
        self.check_heads()

    def _build_interests(self, aligned_fields: list[int]) -> None:
        config = self.config
        self._extract = OrthogonalMultiInterestExtractor(
            channels=config.channel_num,
            top_p=config.top_p,
            seq_len=config.seq_len,
            field_dim=config.embed_dim,
            channel_init=config.channel_init,
            aggregation=config.aggregation,
            aligned_fields=aligned_fields[: config.channel_num],
            orthogonal=config.use_orthogonality,
            routing=config.use_routing,
            seed=config.seed,
            name="omie",
        )
        self._extract.build([None, None, self.width])
        self._summarise = InterestSummary(momentum=config.batch_norm_momentum, name="interests")
        if config.channel_share:
            self._share = ChannelShare(momentum=config.batch_norm_momentum, name="share")
        if config.use_dmig:
            self._generate = DiffusionMultiInterestGenerator(
                Diffusion(
                    timesteps=config.timesteps,
                    infer_timesteps=config.infer_timesteps,
                    start_timestep=config.start_timestep,
                    beta_sche=config.beta_sche,
                    beta_start=config.beta_start,
                    beta_end=config.beta_end,
                    prediction_type=config.prediction_type,
                    sampler_grad_steps=config.sampler_grad_steps,
                ),
                DenoiserConfig(
                    config.n_layers, config.num_heads, config.dff_factor, config.dropout_rate
                ),
                loss_weight=config.lamda1,
                parts=config.parallel_parts,
                jit_compile=config.jit_compile,
                seed=config.seed,
                name="dmig",
            )
        if config.use_dmig and config.use_cmic:
            self._calibrate = ContrastiveMultiInterestCalibrator(
                temp=config.temp,
                loss_weight=config.lamda2,
                negatives=config.contrastive_negatives,
                name="cmic",
            )

    def vectors(self, candidate: tf.Tensor, inputs: Embedded) -> tf.Tensor | tuple[()]:
        return self._extract.channels_of(candidate) if self.config.use_omie else ()

    def search(self, queries: Queries, inputs: Embedded, training: bool) -> Found:
        if not self.config.use_omie:
            return Found()
        history, channels = inputs.history, queries.vectors
        chosen = history.choose(channels, self._extract.top_k(self.config.seq_len))
        beside = {"lengths": history.lengths()}
        if self.config.use_dmig and training:
            beside["draws"] = self._generate.draw(tf.shape(channels)[0])
        if self.config.channel_share:
            of_samples = channels, queries.candidate
            beside["shares"] = history.look(ChannelShare.of, channels, *of_samples)
        return Found({"chosen": chosen}, beside)

    def long_term(
        self, queries: Queries, found: Found, inputs: Embedded, training: bool
    ) -> list[tf.Tensor]:
        if not self.config.use_omie:
            return []
        interests, channels, kept = self._interests(queries, found)
        parts = [self._summarise(interests, training=training)]
        if self.config.channel_share:
            parts.append(self._share(found.beside["shares"], training=training))
        if self.config.use_dmig:
            if self.config.stop_interest_gradient:
                interests, channels = tf.stop_gradient(interests), tf.stop_gradient(channels)
            live = tf.reduce_any(kept, axis=2)
            draws = found.beside.get("draws")
            generated = self._generate(interests, channels, live, draws, training=training)
            if self.config.use_cmic:
                generated = self._calibrate(
                    interests, generated, inputs.user, live, training=training
                )
            parts.append(tf.reshape(generated, [-1, self.config.channel_num * self.width]))
        return parts

    def extract(self, inputs: Embedded) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What OMIE makes of the histories, for a unit with `use_omie`.

        Returns:
            Interests r and channels, float32 [B, C, d], and which of the k best behaviours of a
            channel it keeps, bool [B, C, k].
        """
        inputs = inputs._replace(history=self.history(inputs))
        queries = self.queries(inputs)
        found = self.search(queries, inputs, training=False)
        return self._interests(queries, found.embedded(inputs.history))

    def _interests(self, queries: Queries, found: Found) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """As `extract`."""
        channels, lengths = queries.vectors, found.beside["lengths"]
        interests, kept = self._extract.aggregate(*found.behaviours["chosen"], channels, lengths)
        return interests, channels, kept

    def generate(self, interests: tf.Tensor, channels: tf.Tensor, live: tf.Tensor) -> tf.Tensor:
        """r* float32 [B, C, d] as it is served, for a unit with `use_dmig`."""
        return self._generate(interests, channels, live, training=False)


class Eleme_DiffuMIN(Long_term_DiffuMIN):  # noqa: N801  (the name of the release)
    """DiffuMIN with the features of the public Ele.me data set as default."""

    default_features = Features(
        user=("user_id", "gender", "visit_city", "is_supervip", "ctr_30", "ord_30"),
        candidate=(
            "shop_id",
            "item_id",
            "city_id",
            "district_id",
            "shop_aoi_id",
            "shop_geohash_6",
            "shop_geohash_12",
            "brand_id",
            "category_1_id",
            "merge_standard_food_id",
            "rank_7",
            "rank_30",
            "rank_90",
            "hours",
        ),
        context=("times", "hours", "time_type", "weekdays", "geohash12"),
        behaviours=(
            "shop_id_list",
            "item_id_list",
            "category_1_id_list",
            "shop_aoi_id_list",
            "hours_list",
        ),
        dense=("avg_price", "total_amt_30"),
    )
