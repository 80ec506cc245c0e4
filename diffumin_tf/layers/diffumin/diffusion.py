"""The two groups of settings of DMIG: the diffusion process, and the network that undoes it."""

import dataclasses

import numpy as np

from diffumin_tf.layers import checks
from diffumin_tf.layers.diffumin.noise_schedule import SCHEDULES, NoiseSchedule

PREDICTION_TYPES = ("sample", "epsilon")


@dataclasses.dataclass(frozen=True)
class Diffusion:
    """How much noise there is at which timestep, and how sampling takes it off.

    Args:
        timesteps: int. Timesteps T of the diffusion process.
        infer_timesteps: int. Sampling steps S, at most `start_timestep + 1`.
        start_timestep: int in [0, T) or None. Timestep from which sampling starts. None takes the
            end of the first tenth of the process, or S − 1 if that is later.
        beta_sche: `"linear"`, `"exp"` or `"cosine"` (see `NoiseSchedule`).
        beta_start: float in (0, 1). First β of the linear schedule.
        beta_end: float in (0, 1). Last β of the linear schedule.
        prediction_type: `"sample"` (the denoiser predicts x₀) or `"epsilon"` (it predicts the
            noise, and L_d = mean ‖ε̂ − ε‖²), in training and in sampling alike.
        sampler_grad_steps: int or None. How many of the last sampling steps training
            differentiates; None means all of them.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    ```python
    diffusion = Diffusion(timesteps=100, infer_timesteps=3, start_timestep=10)
    diffusion.sampling_timesteps  # [10, 5, 0]
    ```
    """

    timesteps: int = 1000
    infer_timesteps: int = 10
    start_timestep: int | None = None
    beta_sche: str = "linear"
    beta_start: float = 1e-4
    beta_end: float = 0.02
    prediction_type: str = "sample"
    sampler_grad_steps: int | None = 1

    def __post_init__(self) -> None:
        checks.choice("beta_sche", self.beta_sche, SCHEDULES)
        checks.choice("prediction_type", self.prediction_type, PREDICTION_TYPES)
        checks.positive_int("infer_timesteps", self.infer_timesteps)
        if self.sampler_grad_steps is not None:
            checks.positive_int("sampler_grad_steps", self.sampler_grad_steps)
        _ = self.sampling_timesteps  # checks the rest

    @property
    def schedule(self) -> NoiseSchedule:
        return NoiseSchedule(self.beta_sche, self.timesteps, self.beta_start, self.beta_end)

    @property
    def sampling_timesteps(self) -> np.ndarray:
        """`[S]`, int64, descending."""
        schedule, start = self.schedule, self.start_timestep
        if start is None:
            start = max(self.timesteps // 10, self.infer_timesteps) - 1
        return schedule.sampling_timesteps(start, self.infer_timesteps)


@dataclasses.dataclass(frozen=True)
class DenoiserConfig:
    """The size of the denoiser.

    Args:
        n_layers: int. Blocks.
        num_heads: int. Attention heads; it divides d.
        dff_factor: int. Hidden width of the feed-forward part, in multiples of d.
        dropout_rate: float in [0, 1). Dropout before every residual.

    Example:

    ```python
    config = DenoiserConfig(n_layers=1, num_heads=4)
    generator = DiffusionMultiInterestGenerator(Diffusion(infer_timesteps=3), config)
    ```
    """

    n_layers: int = 2
    num_heads: int = 2
    dff_factor: int = 3
    dropout_rate: float = 0.0
