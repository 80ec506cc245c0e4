"""Diffusion multi-interest generator (DMIG): extracted interests become generated ones."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import tensorflow as tf

from diffumin_tf.layers import checks, replicas
from diffumin_tf.layers.diffumin.denoiser import Denoiser, Prepared, Time
from diffumin_tf.layers.diffumin.noise_schedule import CLEAN, SCHEDULES, NoiseSchedule
from diffumin_tf.layers.random_stream import RandomStream
from diffumin_tf.layers.unit_vectors import unit_vectors
from diffumin_tf.layers.xla import compiled_in_training

PREDICTION_TYPES = ("sample", "epsilon")


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class DiffusionMultiInterestGenerator(tf.keras.layers.Layer):
    """Generates an interest per channel by diffusion, guided by the interests extracted.

    ```
    x₀  = r / ‖r‖,   x̂₀ = denoiser / √d, or with residual  c(t) x_t + g ⊙ denoiser / √d
    L_d = mean over live channels of ‖x̂₀(x_t) − x₀‖²,   t ~ U{0 … T − 1},  ε ~ N(0, I)
    r*  = the x̂₀ after S deterministic steps from x₀ noised to start_timestep
    ```

    In training `loss_weight · L_d` is added to the losses of the model, and the metric
    `diffusion_loss` follows L_d. At inference the noise of r* is one fixed draw, held as a weight:
    the same request always gives the same result, alone or in any batch. Under `tf.distribute` the
    mean is over the global batch, and its noise is that of one device.

    Args:
        timesteps: int. Timesteps T of the diffusion process.
        infer_timesteps: int. Sampling steps S, at most `start_timestep + 1`.
        start_timestep: int in [0, T) or None. Timestep from which sampling starts. None takes the
            end of the first tenth of the process, or S − 1 if that is later.
        beta_sche: `"linear"`, `"exp"` or `"cosine"` (see `NoiseSchedule`).
        beta_start: float in (0, 1). First β of the linear schedule.
        beta_end: float in (0, 1). Last β of the linear schedule.
        n_layers: int. Blocks of the denoiser.
        num_heads: int. Attention heads of the denoiser; it divides d.
        dff_factor: int. Hidden width of the denoiser's feed-forward part, in multiples of d.
        prediction_type: `"sample"` (the denoiser predicts x₀) or `"epsilon"` (it predicts the
            noise, and L_d = mean ‖ε̂ − ε‖²), in training and in sampling alike.
        loss_weight: float. Weight of L_d in the loss of the model (`lamda1`).
        dropout_rate: float in [0, 1). Dropout in the denoiser.
        stop_target_gradient: bool. Whether the target x₀ of L_d is taken as a constant.
        residual: bool. Whether the denoiser corrects c(t) x_t, the multiple of x_t nearest to x₀
            on average, by g ⊙ denoiser / √d with weights g that start at zero: the first r* is the
            interest with what is left of its noise. Needs `prediction_type` `"sample"`.
        sampler_grad_steps: int or None. How many of the last sampling steps training
            differentiates; None means all of them.
        parts: int. Parts of a batch that inference may compute at the same time.
        jit_compile: bool. Whether XLA compiles the layer for training, anew for every batch size.
        seed: int. Seed of the noise.

    Call arguments:
        interests: `[B, C, d]`, float32. Extracted interests r.
        channels: `[B, C, d]`, float32. Orthonormal channels o_i.
        live: `[B, C]`, bool, or None. Which channels hold an interest; None means all.
        training: bool. Whether to draw noise and add the loss.

    Returns:
        Generated interests r* `[B, C, d]`, float32, zero in dead channels.

    Raises:
        ValueError: if an argument is out of range or an input has the wrong shape.

    Example:

    ```python
    generator = DiffusionMultiInterestGenerator(timesteps=100, infer_timesteps=5)
    interests, channels = tf.random.normal([4, 3, 24]), tf.random.normal([4, 3, 24])
    generated = generator(interests, channels, training=True)  # [4, 3, 24]
    (weighted_loss,) = generator.losses
    ```

    Source: the DiffuMIN paper (RecSys '25), diffusion multi-interest generator.
    """

    def __init__(
        self,
        timesteps: int = 1000,
        infer_timesteps: int = 10,
        start_timestep: int | None = None,
        beta_sche: str = "linear",
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        n_layers: int = 2,
        num_heads: int = 2,
        dff_factor: int = 3,
        prediction_type: str = "sample",
        loss_weight: float = 0.01,
        dropout_rate: float = 0.0,
        stop_target_gradient: bool = False,
        residual: bool = False,
        sampler_grad_steps: int | None = 1,
        parts: int = 1,
        jit_compile: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        checks.choice("beta_sche", beta_sche, SCHEDULES)
        self.schedule = NoiseSchedule(beta_sche, timesteps, beta_start, beta_end)
        self.infer_timesteps = checks.positive_int("infer_timesteps", infer_timesteps)
        self.start_timestep = start_timestep
        if start_timestep is None:
            start_timestep = max(timesteps // 10, self.infer_timesteps) - 1
        self.sampling_timesteps = self.schedule.sampling_timesteps(
            start_timestep, self.infer_timesteps
        )
        self.prediction_type = checks.choice("prediction_type", prediction_type, PREDICTION_TYPES)
        self.loss_weight = checks.not_negative("loss_weight", loss_weight)
        self.stop_target_gradient = bool(stop_target_gradient)
        self.residual = bool(residual)
        if self.residual and prediction_type != "sample":
            raise ValueError(
                f"`residual` needs prediction_type 'sample', received {prediction_type!r}."
            )
        if sampler_grad_steps is not None:
            sampler_grad_steps = checks.positive_int("sampler_grad_steps", sampler_grad_steps)
        self.sampler_grad_steps = sampler_grad_steps
        self.parts = checks.positive_int("parts", parts)
        self.jit_compile = bool(jit_compile)
        self._learn = compiled_in_training(self._learn_from, self.jit_compile)
        self.seed = checks.integer("seed", seed)
        self.denoiser = Denoiser(
            n_layers, num_heads, dff_factor, dropout_rate, seed=self.seed + 1, name="denoiser"
        )
        self.random = RandomStream(self.seed)
        self.diffusion_loss = tf.keras.metrics.Mean(name="diffusion_loss")

    def build(self, input_shape: tf.TensorShape) -> None:
        sizes = checks.static_sizes("interests", input_shape, "[B, C, d]", known=2)
        self.channel_num, self.width = sizes
        self.denoiser.build([None, *sizes])
        fixed_noise = np.random.default_rng(self.seed).standard_normal([1, *sizes], np.float32)
        self.sampling_noise = self.add_weight(
            name="sampling_noise",
            shape=fixed_noise.shape,
            initializer=tf.keras.initializers.Constant(fixed_noise),
            trainable=False,
        )
        if self.residual:
            self.correction = self.add_weight(
                name="correction", shape=[self.width], initializer="zeros"
            )
        super().build(input_shape)

    def call(
        self,
        interests: tf.Tensor,
        channels: tf.Tensor,
        live: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        shape = [interests.shape[0], self.channel_num, self.width]
        interests = checks.tensor("interests", interests, "[B, C, d]", shape)
        channels = checks.tensor("channels", channels, "[B, C, d]", shape)
        if live is None:
            live = tf.ones(tf.shape(interests)[:2], tf.bool)
        live = checks.tensor("live", live, "[B, C]", shape[:2], tf.bool)

        if not training:
            return self._infer(interests, channels, live)
        rows = replicas.batch_rows(tf.shape(live)[0])
        t = self.random.integers(tf.shape(live), self.schedule.timesteps, rows)
        loss_noise = self.random.normal(tf.shape(interests), rows)
        noise = self.random.normal(tf.shape(interests), rows)
        generated, *errors = self._learn(interests, channels, live, t, loss_noise, noise, training)
        loss = replicas.mean(*errors)
        self.add_loss(self.loss_weight * loss)
        self.diffusion_loss.update_state(loss)
        return generated

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "timesteps": self.schedule.timesteps,
            "infer_timesteps": self.infer_timesteps,
            "start_timestep": self.start_timestep,
            "beta_sche": self.schedule.kind,
            "beta_start": self.schedule.beta_start,
            "beta_end": self.schedule.beta_end,
            "n_layers": self.denoiser.n_layers,
            "num_heads": self.denoiser.num_heads,
            "dff_factor": self.denoiser.dff_factor,
            "prediction_type": self.prediction_type,
            "loss_weight": self.loss_weight,
            "dropout_rate": self.denoiser.dropout_rate,
            "stop_target_gradient": self.stop_target_gradient,
            "residual": self.residual,
            "sampler_grad_steps": self.sampler_grad_steps,
            "parts": self.parts,
            "jit_compile": self.jit_compile,
            "seed": self.seed,
        }

    def _infer(self, interests: tf.Tensor, channels: tf.Tensor, live: tf.Tensor) -> tf.Tensor:
        """r* `[B, C, d]` by the fixed noise, the parts of the batch beside each other.

        Most operations of a step are too small to be worth a second core each.
        """
        count = tf.shape(interests)[0]
        ends = [count * part // self.parts for part in range(self.parts + 1)]
        generated = []
        for start, end in itertools.pairwise(ends):
            x0, alive = unit_vectors(interests[start:end]), live[start:end]
            prepared = self.denoiser.prepare(x0, channels[start:end], alive)
            sampled = self._sample(x0, prepared, self.sampling_noise, training=False)
            generated.append(tf.where(alive[:, :, tf.newaxis], sampled, 0.0))
        return tf.ensure_shape(tf.concat(generated, axis=0), interests.shape)

    def _learn_from(
        self,
        interests: tf.Tensor,
        channels: tf.Tensor,
        live: tf.Tensor,
        t: tf.Tensor,
        loss_noise: tf.Tensor,
        noise: tf.Tensor,
        training: bool,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """r* `[B, C, d]`, and the sum and the number of the errors that L_d is the mean of."""
        x0 = unit_vectors(interests)
        prepared = self.denoiser.prepare(x0, channels, live)
        errors = self._errors(x0, prepared, t, loss_noise)
        counted = tf.cast(live, tf.float32)
        generated = self._sample(x0, prepared, noise, training)
        return (
            tf.where(live[:, :, tf.newaxis], generated, 0.0),
            tf.reduce_sum(errors * counted),
            tf.reduce_sum(counted),
        )

    def _predict(
        self, noisy: tf.Tensor, prepared: Prepared, t: tf.Tensor, time: Time, training: bool
    ) -> tf.Tensor:
        """The denoiser's x̂₀ or ε̂, `[B, C, d]`."""
        predicted = self.denoiser.step(noisy, prepared, time, training)
        if self.prediction_type == "sample":
            # The denoiser ends in a layer norm, of length √d; x₀ has length 1.
            predicted *= self.width**-0.5
        if self.residual:
            predicted *= self.correction
            predicted += self.schedule.linear_estimate(noisy, 1 / self.width, t)
        return predicted

    def _errors(
        self, x0: tf.Tensor, prepared: Prepared, t: tf.Tensor, noise: tf.Tensor
    ) -> tf.Tensor:
        """Squared errors of the denoiser at the timesteps t, `[B, C]`."""
        noisy = self.schedule.add_noise(x0, noise, t)
        predicted = self._predict(noisy, prepared, t, self.denoiser.embed_time(t), training=True)
        target = x0 if self.prediction_type == "sample" else noise
        if self.stop_target_gradient:
            target = tf.stop_gradient(target)
        return tf.reduce_sum(tf.square(predicted - target), axis=-1)

    def _sample(
        self, x0: tf.Tensor, prepared: Prepared, noise: tf.Tensor, training: bool
    ) -> tf.Tensor:
        timesteps = tf.constant([*self.sampling_timesteps, CLEAN], tf.int32)
        times = self.denoiser.embed_time(timesteps[:-1])

        def step(place: int | tf.Tensor, x: tf.Tensor) -> tf.Tensor:
            t, previous_t = timesteps[place], timesteps[place + 1]
            time = tf.nest.map_structure(lambda all_steps: all_steps[place], times)
            predicted = self._predict(x, prepared, t, time, training)
            if self.prediction_type == "epsilon":
                predicted = self.schedule.predict_x0(x, predicted, t)
            return self.schedule.step(x, predicted, t, previous_t)

        x = self.schedule.add_noise(x0, noise, timesteps[0])
        steps = self.infer_timesteps
        differentiated = min(self.sampler_grad_steps or steps, steps) if training else 0
        constant = steps - differentiated
        if constant:
            # A loop compiles once however many steps there are; nothing differentiates it.
            _, x = tf.while_loop(
                lambda place, x: place < constant,
                lambda place, x: (place + 1, step(place, x)),
                (0, x),
                maximum_iterations=constant,
            )
            x = tf.stop_gradient(x) if training else x
        for place in range(constant, steps):
            x = step(place, x)
        return x
