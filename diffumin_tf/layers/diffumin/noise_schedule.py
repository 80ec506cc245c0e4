"""The noise of a diffusion process: how much of it at which timestep, and how to take it off."""

import numpy as np
import tensorflow as tf

from diffumin_tf.layers import checks

SCHEDULES = ("linear", "exp", "cosine")

# Continuous rates of the exponential schedule (variance-preserving SDE of Song et al., 2021).
_EXP_RATE_MIN, _EXP_RATE_MAX = 0.1, 10.0
# Offset and clip range of the cosine schedule (Nichol and Dhariwal, 2021).
_COSINE_OFFSET = 0.008
_COSINE_BETA_MIN, _COSINE_BETA_MAX = 1e-4, 0.9999

CLEAN = -1


class NoiseSchedule:
    """Variances β_t of a diffusion process and the steps that follow from them.

    ```
    x_t     = √ᾱ_t x₀ + √(1 − ᾱ_t) ε        ᾱ_t = Π_{s ≤ t} (1 − β_s)
    linear    β_t = beta_start + (beta_end − beta_start) t / (T − 1)
    exp       β_t = 1 − exp(−b_min/T − x_t (b_max − b_min)/(2T²)),  x = linspace(1, 2T + 1, T)
    cosine    β_t = 1 − f(t + 1)/f(t),  f(t) = cos²(π/2 · (t/T + s)/(1 + s)),  clipped
    ```

    All of it is computed in float64; only the coefficients that meet a tensor are float32. In the
    methods below `x` is `[..., d]` float32, and a timestep is a Python int or an int tensor whose
    shape is a prefix of the shape of `x`, such as `[B, C]` for `[B, C, d]`.

    Args:
        kind: `"linear"`, `"exp"` or `"cosine"`.
        timesteps: int. Number of timesteps T; they are counted from 0 to T − 1.
        beta_start: float in (0, 1). First β of the linear schedule; the others do not use it.
        beta_end: float in (0, 1). Last β of the linear schedule; the others do not use it.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    ```python
    schedule = NoiseSchedule("linear", timesteps=1000)
    clean, noise = tf.ones([2, 3, 8]), tf.random.normal([2, 3, 8])
    noisy = schedule.add_noise(clean, noise, t=99)
    less_noisy = schedule.step(noisy, clean, t=99, previous_t=49)
    ```

    Source: the DiffuMIN paper (RecSys '25), diffusion multi-interest generator; the
    deterministic step is DDIM (Song et al., 2021) with η = 0.
    """

    def __init__(
        self,
        kind: str = "linear",
        timesteps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
    ) -> None:
        self.kind = checks.choice("kind", kind, SCHEDULES)
        self.timesteps = checks.positive_int("timesteps", timesteps)
        self.beta_start = _beta("beta_start", beta_start)
        self.beta_end = _beta("beta_end", beta_end)
        self.betas = self._betas()
        self.alphas_cumprod = np.cumprod(1.0 - self.betas)
        # One entry in front for the timestep CLEAN = -1, at which there is no noise.
        self._signal_share = np.concatenate([[1.0], self.alphas_cumprod])
        self._signal = np.sqrt(self._signal_share).astype(np.float32)
        self._noise = np.sqrt(1.0 - self._signal_share).astype(np.float32)

    def add_noise(self, x0: tf.Tensor, noise: tf.Tensor, t: int | tf.Tensor) -> tf.Tensor:
        """The forward process: `x_t = √ᾱ_t x₀ + √(1 − ᾱ_t) ε`."""
        signal_scale, noise_scale = self._scales(t, x0)
        return signal_scale * x0 + noise_scale * noise

    def predict_x0(self, x_t: tf.Tensor, eps: tf.Tensor, t: int | tf.Tensor) -> tf.Tensor:
        """The x₀ that `add_noise` turned into `x_t` if the noise was `eps`."""
        signal_scale, noise_scale = self._scales(t, x_t)
        return (x_t - noise_scale * eps) / signal_scale

    def predict_noise(self, x_t: tf.Tensor, x0: tf.Tensor, t: int | tf.Tensor) -> tf.Tensor:
        """The noise that `add_noise` turned into `x_t` if it started from `x0`."""
        signal_scale, noise_scale = self._scales(t, x_t)
        return (x_t - signal_scale * x0) / noise_scale

    def step(
        self, x_t: tf.Tensor, x0: tf.Tensor, t: int | tf.Tensor, previous_t: int | tf.Tensor
    ) -> tf.Tensor:
        """The deterministic step (DDIM, η = 0) from timestep `t` down to `previous_t`.

        ```
        x_s = √ᾱ_s x̂₀ + √(1 − ᾱ_s) ε̂,   ε̂ = (x_t − √ᾱ_t x̂₀) / √(1 − ᾱ_t)
        ```

        Args:
            x_t: `[..., d]`, float32. The noisy vectors.
            x0: `[..., d]`, float32. The clean vectors as predicted from `x_t`.
            t: timestep of `x_t`.
            previous_t: timestep to go to; -1 is the clean end, where the result is `x0`.

        Returns:
            `[..., d]`, float32.
        """
        eps = self.predict_noise(x_t, x0, t)
        signal_scale, noise_scale = self._scales(previous_t, x_t, lowest=CLEAN)
        return signal_scale * x0 + noise_scale * eps

    def step_weights(
        self, timesteps: np.ndarray, prediction_type: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """`step` as weights: `x_s = weight_of_x x_t + weight_of_prediction prediction`.

        Args:
            timesteps: `[S + 1]`, int. The timesteps of S steps and the one after the last, which
                may be -1, the clean end.
            prediction_type: `"sample"` where x₀ is predicted, `"epsilon"` where the noise is.

        Returns:
            Weights of x_t and of the prediction, `[S]` each, float64.
        """
        signal_share = self._signal_share[timesteps + 1]
        signal, noise = np.sqrt(signal_share), np.sqrt(1.0 - signal_share)
        of_x = noise[1:] / noise[:-1]
        of_x0 = signal[1:] - of_x * signal[:-1]
        if prediction_type == "sample":
            return of_x, of_x0
        return of_x + of_x0 / signal[:-1], -of_x0 * noise[:-1] / signal[:-1]

    def sampling_timesteps(self, start_timestep: int, steps: int) -> np.ndarray:
        """`steps` different timesteps, evenly from `start_timestep` down to 0.

        Args:
            start_timestep: int in [0, T). The first of them, and the only one if `steps` is 1.
            steps: int. How many, at most `start_timestep + 1`.

        Returns:
            `[steps]`, int64, descending.

        Raises:
            ValueError: if `start_timestep` is outside [0, T) or too small for `steps`.
        """
        start_timestep = self._timestep("start_timestep", start_timestep, lowest=0)
        steps = checks.positive_int("steps", steps)
        if steps > start_timestep + 1:
            raise ValueError(
                f"`steps` must be at most start_timestep + 1 = {start_timestep + 1}, because there "
                f"are no more timesteps to visit, received {steps}."
            )
        if steps == 1:
            return np.array([start_timestep])
        # Rounds start · i / (steps − 1) half up in integers, which keeps the timesteps different.
        gaps = steps - 1
        return (2 * start_timestep * np.arange(gaps, -1, -1) + gaps) // (2 * gaps)

    def _betas(self) -> np.ndarray:
        steps = self.timesteps
        if self.kind == "linear":
            return np.linspace(self.beta_start, self.beta_end, steps)
        if self.kind == "exp":
            x = np.linspace(1, 2 * steps + 1, steps)
            slope = (_EXP_RATE_MAX - _EXP_RATE_MIN) / (2 * steps**2)
            return -np.expm1(-_EXP_RATE_MIN / steps - x * slope)
        time = (np.arange(steps + 1) / steps + _COSINE_OFFSET) / (1 + _COSINE_OFFSET)
        signal = np.cos(time * np.pi / 2) ** 2
        return np.clip(1.0 - signal[1:] / signal[:-1], _COSINE_BETA_MIN, _COSINE_BETA_MAX)

    def _scales(
        self, t: int | tf.Tensor, x: tf.Tensor, lowest: int = 0
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """`√ᾱ_t` and `√(1 − ᾱ_t)`, shaped to be multiplied with `x`."""
        if not tf.is_tensor(t) and np.ndim(t) == 0:
            t = self._timestep("t", t, lowest)
            return tf.constant(self._signal[t + 1]), tf.constant(self._noise[t + 1])
        index = tf.convert_to_tensor(t) + 1
        missing_axes = len(x.shape) - len(index.shape)
        index = tf.reshape(index, tf.concat([tf.shape(index), [1] * missing_axes], axis=0))
        return tf.gather(self._signal, index), tf.gather(self._noise, index)

    def _timestep(self, argument: str, value: int, lowest: int) -> int:
        value = checks.integer(argument, value)
        if not lowest <= value < self.timesteps:
            raise ValueError(
                f"`{argument}` must be in [{lowest}, timesteps) = [{lowest}, {self.timesteps}), "
                f"received {value}."
            )
        return value


def _beta(argument: str, value: float) -> float:
    return checks.number(argument, value, "in (0, 1)", lambda x: 0 < x < 1)
