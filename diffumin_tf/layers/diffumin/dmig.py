"""Diffusion multi-interest generator (DMIG): extracted interests become generated ones."""

import dataclasses
import itertools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from diffumin_tf.layers import checks, replicas
from diffumin_tf.layers.diffumin.denoiser import Denoiser
from diffumin_tf.layers.diffumin.diffusion import DenoiserConfig, Diffusion
from diffumin_tf.layers.diffumin.fast_denoiser import FastDenoiser, Prepared
from diffumin_tf.layers.diffumin.noise_schedule import CLEAN
from diffumin_tf.layers.random_stream import RandomStream
from diffumin_tf.layers.unit_vectors import unit_vectors
from diffumin_tf.layers.xla import compiled_in_training


class Draws(NamedTuple):
    """Random numbers of one training step of `DiffusionMultiInterestGenerator`.

    Attributes:
        timesteps: `[B, C]`, int64. The t of the loss.
        loss_noise: `[B, C, d]`, float32. The ε of the loss.
        noise: `[B, C, d]`, float32. What sampling starts from.
    """

    timesteps: tf.Tensor
    loss_noise: tf.Tensor
    noise: tf.Tensor


@tf.keras.utils.register_keras_serializable(package="diffumin_tf")
class DiffusionMultiInterestGenerator(tf.keras.layers.Layer):
    """Generates an interest per channel by diffusion, guided by the interests extracted.

    ```
    x₀  = r / ‖r‖,   x̂₀ = denoiser / √d
    L_d = mean over live channels of ‖x̂₀(x_t) − x₀‖²,   t ~ U{0 … T − 1},  ε ~ N(0, I)
    r*  = the x̂₀ after S deterministic steps from x₀ noised to start_timestep
    ```

    In training `loss_weight · L_d` is added to the losses of the model, and the metric
    `diffusion_loss` follows L_d. At inference the noise of r* is one fixed draw, which is a weight:
    the same request always gives the same result, alone or in any batch. Under `tf.distribute` the
    mean is over the global batch, and its noise is that of one device.

    Args:
        diffusion: `Diffusion` or None. The process; None means its defaults.
        denoiser: `DenoiserConfig` or None. The network; None means its defaults.
        loss_weight: float. Weight of L_d in the loss of the model (`lamda1`).
        parts: int. Parts of a batch that inference may compute at the same time.
        jit_compile: bool. Whether XLA compiles the layer for training, anew for every batch size.
        seed: int. Seed of the noise.

    Call arguments:
        interests: `[B, C, d]`, float32. Extracted interests r.
        channels: `[B, C, d]`, float32. Orthonormal channels o_i.
        live: `[B, C]`, bool, or None. Which channels hold an interest; None means all.
        draws: `Draws` or None. The noise of a training step; None draws it.
        training: bool. Whether to add the loss.

    Returns:
        Generated interests r* `[B, C, d]`, float32, zero in dead channels.

    Raises:
        ValueError: if an argument is out of range or an input has the wrong shape.

    Example:

    ```python
    generator = DiffusionMultiInterestGenerator(Diffusion(timesteps=100, infer_timesteps=5))
    interests, channels = tf.random.normal([4, 3, 24]), tf.random.normal([4, 3, 24])
    generated = generator(interests, channels, training=True)  # [4, 3, 24]
    (weighted_loss,) = generator.losses
    ```

    Source: the DiffuMIN paper (RecSys '25), diffusion multi-interest generator.
    """

    def __init__(
        self,
        diffusion: Diffusion | None = None,
        denoiser: DenoiserConfig | None = None,
        loss_weight: float = 0.01,
        parts: int = 1,
        jit_compile: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.diffusion = diffusion or Diffusion()
        self.denoiser_config = denoiser or DenoiserConfig()
        self.loss_weight = checks.not_negative("loss_weight", loss_weight)
        self.parts = checks.positive_int("parts", parts)
        self.jit_compile = bool(jit_compile)
        self.seed = checks.integer("seed", seed)
        self.schedule = self.diffusion.schedule
        self.denoiser = Denoiser(
            **dataclasses.asdict(self.denoiser_config), seed=self.seed + 1, name="denoiser"
        )
        self.random = RandomStream(self.seed)
        self.diffusion_loss = tf.keras.metrics.Mean(name="diffusion_loss")
        self._learn = compiled_in_training(self._learn_from, self.jit_compile)

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
        super().build(input_shape)

    def call(
        self,
        interests: tf.Tensor,
        channels: tf.Tensor,
        live: tf.Tensor | None = None,
        draws: Draws | None = None,
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
        draws = draws or self.draw(tf.shape(live)[0])
        generated, *errors = self._learn(interests, channels, live, *draws, training)
        loss = replicas.mean(*errors)
        self.add_loss(self.loss_weight * loss)
        self.diffusion_loss.update_state(loss)
        return generated

    def draw(self, samples: tf.Tensor) -> Draws:
        """The random numbers of a training step on B samples, for a layer that is built."""
        rows, shape = replicas.batch_rows(samples), [samples, self.channel_num]
        timesteps = self.random.integers(shape, self.schedule.timesteps, rows)
        return Draws(
            # As int32 they would go to a compiled function by way of the host.
            tf.cast(timesteps, tf.int64),
            self.random.normal([*shape, self.width], rows),
            self.random.normal([*shape, self.width], rows),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "diffusion": dataclasses.asdict(self.diffusion),
            "denoiser": dataclasses.asdict(self.denoiser_config),
            "loss_weight": self.loss_weight,
            "parts": self.parts,
            "jit_compile": self.jit_compile,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DiffusionMultiInterestGenerator":
        groups = {
            "diffusion": Diffusion(**config["diffusion"]),
            "denoiser": DenoiserConfig(**config["denoiser"]),
        }
        return cls(**{**config, **groups})

    def _infer(self, interests: tf.Tensor, channels: tf.Tensor, live: tf.Tensor) -> tf.Tensor:
        """r* `[B, C, d]` by the fixed noise, the parts of the batch beside each other.

        Most operations of a step are too small to be worth a second core each.
        """
        count, denoiser = tf.shape(interests)[0], FastDenoiser(self.denoiser)
        ends = [count * part // self.parts for part in range(self.parts + 1)]
        generated = []
        for start, end in itertools.pairwise(ends):
            x0, alive = unit_vectors(interests[start:end]), live[start:end]
            prepared = denoiser.prepare(x0, channels[start:end], alive)
            sampled = self._sample(x0, denoiser, prepared, self.sampling_noise, training=False)
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
        denoiser = FastDenoiser(self.denoiser)
        prepared = denoiser.prepare(x0, channels, live)
        errors = self._errors(x0, denoiser, prepared, t, loss_noise)
        counted = tf.cast(live, tf.float32)
        generated = self._sample(x0, denoiser, prepared, noise, training)
        return (
            tf.where(live[:, :, tf.newaxis], generated, 0.0),
            tf.reduce_sum(errors * counted),
            tf.reduce_sum(counted),
        )

    def _errors(
        self,
        x0: tf.Tensor,
        denoiser: FastDenoiser,
        prepared: Prepared,
        t: tf.Tensor,
        noise: tf.Tensor,
    ) -> tf.Tensor:
        """Squared errors of the denoiser at the timesteps t, `[B, C]`."""
        noisy = self.schedule.add_noise(x0, noise, t)
        predicted = denoiser(noisy, prepared, denoiser.embed_time(t), training=True)
        target = x0 if self.diffusion.prediction_type == "sample" else noise
        return tf.reduce_sum(tf.square(self._scale * predicted - target), axis=-1)

    @property
    def _scale(self) -> float:
        """Of what the denoiser returns, to be x̂₀ or ε̂."""
        # The denoiser ends in a layer norm, of length √d; x₀ has length 1.
        return self.width**-0.5 if self.diffusion.prediction_type == "sample" else 1.0

    def _sample(
        self,
        x0: tf.Tensor,
        denoiser: FastDenoiser,
        prepared: Prepared,
        noise: tf.Tensor,
        training: bool,
    ) -> tf.Tensor:
        timesteps = np.append(self.diffusion.sampling_timesteps, CLEAN)
        of_x, of_prediction = self.schedule.step_weights(timesteps, self.diffusion.prediction_type)
        of_x = tf.constant(of_x, tf.float32)
        of_prediction = tf.constant(self._scale * of_prediction, tf.float32)
        times = denoiser.embed_time(timesteps[:-1])

        def step(index: int | tf.Tensor, x: tf.Tensor) -> tf.Tensor:
            time = tf.nest.map_structure(lambda all_steps: all_steps[index], times)
            predicted = denoiser(x, prepared, time, training)
            return of_x[index] * x + of_prediction[index] * predicted

        x = self.schedule.add_noise(x0, noise, int(timesteps[0]))
        steps = self.diffusion.infer_timesteps
        differentiated = min(self.diffusion.sampler_grad_steps or steps, steps) if training else 0
        constant = steps - differentiated
        if constant:
            # A loop compiles once however many steps there are; nothing differentiates it. XLA sees
            # how often it turns, which with `maximum_iterations` it does not.
            _, x = tf.while_loop(
                lambda index, x: index < constant,
                lambda index, x: (index + 1, step(index, x)),
                (0, x),
            )
            x = tf.stop_gradient(x) if training else x
        for index in range(constant, steps):
            x = step(index, x)
        return x
