"""DiffuMIN as the released graph computes it: oracle of the product, baseline of its benchmarks.

Nothing here is clever, on purpose: one gather a field, Python loops over channels and sampling
steps, scores by the broadcast product `[B, L, C, d]`, gradients through every behaviour. It is
written to be checked against the paper by reading.
"""

import math

import tensorflow as tf

from diffumin_tf.input.batch import Batch
from diffumin_tf.layers.diffumin.denoiser import sinusoid
from diffumin_tf.layers.diffumin.gram_schmidt import orthonormalise
from diffumin_tf.layers.diffumin.noise_schedule import CLEAN
from diffumin_tf.layers.unit_vectors import unit_vectors
from diffumin_tf.model import RankingModel

# As in OMIE: keeps 16.1 % of 1000 at 161 where floating point says a little more.
_CEIL_SLACK = 1e-6


class Straightforward:
    """The function of a `RankingModel` with one DiffuMIN unit, step by step, on its weights.

    Parts that have one obvious form (interest summary, batch norm, projection heads, tower) are
    called as they are, so their moving averages move here as they do there. The noise comes from
    the model's stream, in the order and shapes in which the model draws it: with the stream reset
    before each, both return the same numbers. Gradients pass through all sampling steps.

    Every method takes a `Batch` whose histories are one group of all samples, of any length.

    Args:
        model: a model whose weights exist; compiled, if `train_step` is called.

    Raises:
        ValueError: the model has more than one unit, or dropout.
    """

    def __init__(self, model: RankingModel) -> None:
        if len(model.units) != 1:
            raise ValueError(f"`model` must have one unit, received {len(model.units)}.")
        (self._unit,) = model.units
        self._config = self._unit.config
        if self._config.dropout_rate:
            raise ValueError(
                f"`model` must have dropout_rate 0, received {self._config.dropout_rate}."
            )
        self._model = model

    def logits(
        self, batch: Batch, training: bool = False
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Click logits [B], and in training the weighted losses `diffusion`, `contrastive`."""
        features, (group,) = self._unit.features, batch.histories
        raw_candidate, user, context = (
            self._side_by_side(batch.fields, self._model.layout.fields, names)
            for names in (features.candidate, features.user, features.context)
        )
        history = self._side_by_side(group.rows, self._model.layout.behaviours, features.behaviours)
        mask = group.mask
        project = self._unit._as_behaviour
        candidate = project(raw_candidate) if project else raw_candidate

        parts, losses = [raw_candidate, user, context], {}
        if self._config.use_omie:
            interests, channels, live = self._extract(history, candidate, mask)
            parts.append(self._unit._summarise(interests, training=training))
            if self._config.channel_share:
                shares = self._shares(history, candidate, mask, channels)
                parts.append(self._unit._share(shares, training=training))
            if self._config.use_dmig:
                if self._config.stop_interest_gradient:
                    interests, channels = tf.stop_gradient(interests), tf.stop_gradient(channels)
                generated, losses = self._generate(interests, channels, live, training)
                parts += tf.unstack(generated, axis=1)
                if self._config.use_cmic and training:
                    loss = self._contrastive_loss(interests, generated, live, batch.user)
                    losses["contrastive"] = loss
        if self._config.subseq_len:
            parts.append(self._short_term_interest(history, candidate, mask))
        if features.dense:
            parts.append(self._unit._dense_norm(batch.dense, training=training))
        return self._model.tower(tf.concat(parts, axis=1), training=training), losses

    def score(self, batch: Batch) -> tf.Tensor:
        """Click probabilities pctr at inference, float32 [B]."""
        return tf.sigmoid(self.logits(batch)[0])

    def loss(self, batch: Batch) -> tf.Tensor:
        """Training loss: mean binary cross-entropy of the clicks and the weighted losses."""
        logits, losses = self.logits(batch, training=True)
        click = tf.nn.sigmoid_cross_entropy_with_logits(batch.label, logits)
        return tf.add_n([tf.reduce_mean(click), *losses.values()])

    def train_step(self, batch: Batch) -> tf.Tensor:
        """One update of the model's weights by the model's two optimisers; returns the loss."""
        table = self._model.embedding.table
        rest = [v for v in self._model.trainable_variables if v is not table]
        with tf.GradientTape() as tape:
            loss = self.loss(batch)
        gradients = tape.gradient(loss, [table, *rest])
        self._model.table_optimizer.apply_gradients([(gradients[0], table)])
        self._model.optimizer.apply_gradients(zip(gradients[1:], rest, strict=True))
        return loss

    def _lookup(self, rows: tf.Tensor) -> tf.Tensor:
        """Embeddings of one field; row 0 reads as zero and never trains."""
        known = tf.cast(rows != 0, tf.float32)[..., tf.newaxis]
        return tf.gather(self._model.embedding.table, rows) * known

    def _side_by_side(
        self, rows: tf.Tensor, layout: tuple[str, ...], names: tuple[str, ...]
    ) -> tf.Tensor:
        """Embeddings [..., names·e] of the named fields among rows [..., F]."""
        vectors = [self._lookup(rows[..., layout.index(name)]) for name in names]
        return tf.concat(vectors, axis=-1) if vectors else tf.zeros([tf.shape(rows)[0], 0])

    def _extract(self, history, candidate, mask) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """OMIE: interests r [B, C, d], channels O [B, C, d] and the live channels [B, C]."""
        omie = self._unit._extract
        batch, length, width = tf.shape(history)[0], tf.shape(history)[1], history.shape[2]
        vectors = _dense(candidate, omie.projection)
        channels = orthonormalise(tf.reshape(vectors, [-1, omie.channels, width]))
        products = history[:, :, tf.newaxis, :] * channels[:, tf.newaxis, :, :]
        scores = tf.reduce_sum(products, axis=3)
        route = tf.argmax(scores, axis=2)
        share = math.ceil(omie.top_p * omie.seq_len / 100 - _CEIL_SLACK)
        k = tf.minimum(max(share, 1), length)
        count = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1, keepdims=True)
        samples = tf.repeat(tf.range(batch)[:, tf.newaxis], k, axis=1)

        interests, live = [], []
        for channel in range(omie.channels):
            score = scores[:, :, channel]
            best = tf.math.top_k(tf.where(mask, score, -math.inf), k).indices
            indices = tf.stack([samples, best], axis=2)
            among_best = tf.scatter_nd(indices, tf.ones_like(best), [batch, length]) > 0
            kept = (route == channel) & among_best & mask
            if omie.aggregation == "softmax":
                score = tf.nn.softmax(tf.where(kept, score, score.dtype.min), axis=1)
            weights = tf.where(kept, score, 0.0)[:, :, tf.newaxis]
            interest = tf.reduce_sum(weights * history, axis=1)
            if omie.aggregation == "mean":
                interest /= tf.maximum(count, 1.0)
            interests.append(interest)
            live.append(tf.reduce_any(kept, axis=1))
        return tf.stack(interests, axis=1), channels, tf.stack(live, axis=1)

    def _shares(self, history, candidate, mask, channels) -> tf.Tensor:
        """Which share of the history lies along each channel, [B, C]."""
        products = history[:, :, tf.newaxis, :] * channels[:, tf.newaxis, :, :]
        squares = tf.square(tf.reduce_sum(products, axis=3))
        weights = tf.cast(mask, tf.float32)[:, :, tf.newaxis]
        count = tf.maximum(tf.reduce_sum(weights, axis=1), 1.0)
        of_candidate = tf.square(tf.reduce_sum(channels * candidate[:, tf.newaxis], axis=2))
        share = tf.reduce_sum(weights * squares, axis=1) / count / tf.maximum(of_candidate, 1e-6)
        return tf.stop_gradient(tf.minimum(share, 4.0))

    def _generate(
        self, interests, channels, live, training
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """DMIG: generated interests r* [B, C, d], and in training the weighted L_d."""
        dmig = self._unit._generate
        x0, losses = unit_vectors(interests), {}
        if training:
            losses["diffusion"] = dmig.loss_weight * self._diffusion_loss(x0, channels, live)
            noise = dmig.random.normal(tf.shape(x0))
        else:
            noise = dmig.sampling_noise
        timesteps = [*dmig.diffusion.sampling_timesteps.tolist(), CLEAN]
        generated = []
        for channel in range(x0.shape[1]):
            x = dmig.schedule.add_noise(x0[:, channel], noise[:, channel], timesteps[0])
            for t, previous_t in zip(timesteps[:-1], timesteps[1:], strict=True):
                at = tf.fill([tf.shape(x)[0]], t)
                predicted = self._denoise(x, x0, channels, at, live, channel)
                if dmig.diffusion.prediction_type == "epsilon":
                    predicted = dmig.schedule.predict_x0(x, predicted, t)
                x = dmig.schedule.step(x, predicted, t, previous_t)
            generated.append(tf.where(_at(live, channel), x, 0.0))
        return tf.stack(generated, axis=1), losses

    def _diffusion_loss(self, x0, channels, live) -> tf.Tensor:
        """L_d, the mean over live channels of the squared error at a random timestep."""
        dmig = self._unit._generate
        timesteps = dmig.random.integers(tf.shape(live), dmig.schedule.timesteps)
        noise = dmig.random.normal(tf.shape(x0))
        target = x0 if dmig.diffusion.prediction_type == "sample" else noise
        errors = []
        for channel in range(x0.shape[1]):
            t = timesteps[:, channel]
            noisy = dmig.schedule.add_noise(x0[:, channel], noise[:, channel], t)
            predicted = self._denoise(noisy, x0, channels, t, live, channel)
            errors.append(tf.reduce_sum(tf.square(predicted - target[:, channel]), axis=1))
        return _mean_over_live(tf.stack(errors, axis=1), live)

    def _denoise(self, noisy, x0, channels, timestep, live, channel) -> tf.Tensor:
        """x̂₀ or ε̂ [B, d] of one channel, from its noisy interest and the others' clean ones."""
        dmig = self._unit._generate
        denoiser, width = dmig.denoiser, noisy.shape[1]
        time = tf.nn.swish(_dense(sinusoid(timestep, width), denoiser.time_hidden))
        time = _dense(time, denoiser.time_output)
        tokens = _replaced(x0, channel, noisy) + time[:, tf.newaxis]
        allowed = _replaced(live, channel, tf.ones_like(live[:, channel]))
        condition = _at(channels, channel)
        for block in denoiser.blocks:
            tokens = _block(block, tokens, allowed, condition)
        predicted = tokens[:, channel]
        # The last layer norm gives length √d, and x₀ has length 1.
        return predicted * width**-0.5 if dmig.diffusion.prediction_type == "sample" else predicted

    def _contrastive_loss(self, interests, generated, live, user) -> tf.Tensor:
        """CMIC: the weighted L_cl."""
        cmic = self._unit._calibrate
        anchors = unit_vectors(cmic.extracted_head(interests))
        others = unit_vectors(cmic.generated_head(generated))
        positive = tf.eye(tf.shape(live)[0], dtype=tf.bool)
        same_user = user[:, tf.newaxis] == user[tf.newaxis, :] if tf.is_tensor(user) else positive
        losses = []
        for channel in range(live.shape[1]):
            cosines = tf.matmul(anchors[:, channel], others[:, channel], transpose_b=True)
            logits = cosines / cmic.temp
            negative = ~same_user & live[:, channel]
            masked = tf.where(positive | negative, logits, logits.dtype.min)
            losses.append(tf.reduce_logsumexp(masked, axis=1) - tf.linalg.diag_part(logits))
        return cmic.loss_weight * _mean_over_live(tf.stack(losses, axis=1), live)

    def _short_term_interest(self, history, candidate, mask) -> tf.Tensor:
        """e*_s [B, d]: the candidate's output beside the K most recent behaviours."""
        recent = self._config.subseq_len
        tokens = tf.concat([history[:, :recent], candidate[:, tf.newaxis]], axis=1)
        allowed = tf.concat([mask[:, :recent], tf.ones_like(mask[:, :1])], axis=1)
        for block in self._unit._short_term.blocks:
            tokens = _block(block, tokens, allowed)
        return tokens[:, -1]


def _at(tensor: tf.Tensor, channel: int) -> tf.Tensor:
    """One channel [B, 1, …] of [B, C, …]."""
    # Not [:, channel, tf.newaxis]: where the tensor was stacked, graph optimisation replaces that
    # slice by the part that was stacked, without the new axis.
    return tf.expand_dims(tensor[:, channel], axis=1)


def _replaced(channels: tf.Tensor, channel: int, value: tf.Tensor) -> tf.Tensor:
    """The channels [B, C, …] with one of them replaced by `value` [B, …]."""
    parts = [channels[:, :channel], value[:, tf.newaxis], channels[:, channel + 1 :]]
    return tf.concat(parts, axis=1)


def _mean_over_live(losses: tf.Tensor, live: tf.Tensor) -> tf.Tensor:
    counted = tf.cast(live, tf.float32)
    return tf.reduce_sum(losses * counted) / tf.maximum(tf.reduce_sum(counted), 1.0)


def _block(block, tokens, allowed, condition=None) -> tf.Tensor:
    """All tokens [B, N, d] after self-attention, attention to the condition, feed-forward."""
    attention = block.attention
    query, key = attention.query_projection, attention.key_projection
    values = _dense(tokens, attention.value_projection)
    mixed = _attention(
        _dense(tokens, query), _dense(tokens, key), values, allowed, attention.num_heads
    )
    attended = _dense(mixed, attention.output_projection)
    tokens = _layer_norm(tokens + attended, block.attention_norm)
    if condition is not None:
        # The model has no query and key kernels here, because the softmax over a single key is 1
        # whatever they are; those of the self-attention stand in for them.
        attended = _attention(
            _dense(tokens, query),
            _dense(condition, key),
            _dense(condition, block.condition_projection),
            tf.ones_like(allowed[:, :1]),
            attention.num_heads,
        )
        tokens = _layer_norm(tokens + attended, block.condition_norm)
    hidden = tf.nn.relu(_dense(tokens, block.hidden))
    return _layer_norm(tokens + _dense(hidden, block.output_projection), block.feed_forward_norm)


def _attention(query, keys, values, allowed, num_heads) -> tf.Tensor:
    """Softmax(Q Kᵀ / √(d/heads)) V in every head; at least one key [B, K] must be allowed."""
    q, k, v = (_split_heads(tokens, num_heads) for tokens in (query, keys, values))
    logits = tf.matmul(q, k, transpose_b=True) * (q.shape[-1] ** -0.5)
    logits = tf.where(allowed[:, tf.newaxis, tf.newaxis, :], logits, logits.dtype.min)
    mixed = tf.matmul(tf.nn.softmax(logits), v)
    return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), tf.shape(query))


def _split_heads(tokens: tf.Tensor, num_heads: int) -> tf.Tensor:
    """[B, heads, N, d/heads] from [B, N, d]."""
    head_width = tokens.shape[2] // num_heads
    parts = tf.reshape(tokens, [-1, tf.shape(tokens)[1], num_heads, head_width])
    return tf.transpose(parts, [0, 2, 1, 3])


def _dense(inputs: tf.Tensor, layer: tf.keras.layers.Dense) -> tf.Tensor:
    """The affine part of a dense layer."""
    outputs = tf.tensordot(inputs, layer.kernel, axes=1)
    return outputs + layer.bias if layer.use_bias else outputs


def _layer_norm(inputs: tf.Tensor, layer: tf.keras.layers.LayerNormalization) -> tf.Tensor:
    mean, variance = tf.nn.moments(inputs, axes=[-1], keepdims=True)
    normal = (inputs - mean) * tf.math.rsqrt(variance + layer.epsilon)
    return normal * layer.gamma + layer.beta
