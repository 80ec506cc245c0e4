import numpy as np
import pytest

from diffumin_tf.layers import DenoiserConfig, Diffusion, RandomStream
from diffumin_tf.layers import DiffusionMultiInterestGenerator as Generator
from tests.layers import oracles
from tests.layers.helpers import denoiser_weights, normal, randomise

LIVE = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1]], bool)
SMALL = {"timesteps": 40, "infer_timesteps": 3, "start_timestep": 10}
INTERESTS, CHANNELS = normal(0, 4, 3, 6) * LIVE[:, :, None], normal(1, 4, 3, 6)
CLEAN = np.apply_along_axis(oracles.unit, -1, INTERESTS)


def generator(weight=0.01, **diffusion):
    layer = Generator(Diffusion(**{**SMALL, **diffusion}), loss_weight=weight, seed=3)
    layer(INTERESTS, CHANNELS, LIVE)
    randomise(layer, scale=0.15)
    return layer


@pytest.mark.parametrize("prediction_type", ["sample", "epsilon"])
@pytest.mark.parametrize(("steps", "timesteps"), [(1, [10]), (3, [10, 5, 0])])
def test_sampling_equals_the_equations(prediction_type, steps, timesteps):
    layer = generator(infer_timesteps=steps, prediction_type=prediction_type)
    actual = layer(INTERESTS, CHANNELS, LIVE)
    weights = denoiser_weights(layer.denoiser)
    alphas = oracles.linear_alphas_cumprod(40, 1e-4, 0.02)
    for b in range(4):

        def predict_x0(x, t, b=b):
            out = oracles.denoise(x, CLEAN[b], CHANNELS[b], [t] * 3, LIVE[b], 2, weights)
            if prediction_type == "sample":
                return out / np.sqrt(6)
            return (x - np.sqrt(1 - alphas[t]) * out) / np.sqrt(alphas[t])

        noise = layer.sampling_noise.numpy()[0]
        expected = oracles.sample(CLEAN[b], noise, timesteps, alphas, predict_x0)
        np.testing.assert_allclose(actual[b], expected * LIVE[b][:, None], atol=2e-4)


@pytest.mark.parametrize("prediction_type", ["sample", "epsilon"])
def test_the_loss_equals_the_equations_and_comes_in_training_alone(prediction_type):
    layer = generator(0.5, prediction_type=prediction_type)
    assert layer.losses == [] and float(layer.diffusion_loss.count) == 0
    draws = RandomStream(3)
    layer(INTERESTS, CHANNELS, LIVE, training=True)
    timesteps = draws.integers([4, 3], 40).numpy()
    noise = draws.normal([4, 3, 6]).numpy()
    alphas = oracles.linear_alphas_cumprod(40, 1e-4, 0.02)
    weights, errors = denoiser_weights(layer.denoiser), []
    for b in range(4):
        alpha = alphas[timesteps[b]][:, np.newaxis]
        noisy = np.sqrt(alpha) * CLEAN[b] + np.sqrt(1 - alpha) * noise[b]
        out = oracles.denoise(noisy, CLEAN[b], CHANNELS[b], timesteps[b], LIVE[b], 2, weights)
        error = out / np.sqrt(6) - CLEAN[b] if prediction_type == "sample" else out - noise[b]
        errors += [*np.sum(error**2, axis=1)[LIVE[b]]]
    (loss,) = layer.losses
    assert float(loss) == pytest.approx(0.5 * np.mean(errors), rel=1e-4)
    assert float(layer.diffusion_loss.result()) == pytest.approx(np.mean(errors), rel=1e-4)
    assert [metric.name for metric in layer.metrics] == ["diffusion_loss"]


def test_training_draws_anew():
    layer = Generator(Diffusion(40, 1, 10), DenoiserConfig(n_layers=1))
    first, second = (layer(INTERESTS, CHANNELS, training=True).numpy() for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("prediction_type", ["sample", "epsilon"])
def test_dead_channels_generate_zero_and_without_a_live_one_the_loss_is_zero(prediction_type):
    layer = generator(prediction_type=prediction_type)
    generated = layer(INTERESTS, CHANNELS, LIVE).numpy()
    assert not generated[~LIVE].any() and (generated[LIVE] != 0).all()
    layer(INTERESTS, CHANNELS, np.zeros_like(LIVE), training=True)
    assert float(layer.losses[0]) == 0


def test_every_setting_survives_the_config():
    diffusion = Diffusion(50, 2, 20, "cosine", 1e-3, 0.03, "epsilon", None)
    layer = Generator(diffusion, DenoiserConfig(1, 3, 2, 0.1), 0.2, 2, True, seed=9)
    copy = Generator.from_config(layer.get_config())
    assert copy.diffusion == diffusion and copy.denoiser_config == layer.denoiser_config
    assert copy.get_config() == layer.get_config()


def test_the_default_is_one_step_with_gradient():
    assert Diffusion().sampler_grad_steps == 1


def test_the_default_start_is_the_first_tenth_and_leaves_room_for_the_steps():
    assert Diffusion(timesteps=1000, infer_timesteps=10).sampling_timesteps[0] == 99
    steps = Diffusion(timesteps=20, infer_timesteps=10).sampling_timesteps
    assert steps.tolist() == [*range(9, -1, -1)]


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("timesteps", 10.5, "`timesteps` .* received 10.5"),
        ("infer_timesteps", 0, "`infer_timesteps` .* received 0"),
        ("start_timestep", 1000, "`start_timestep` .* received 1000"),
        ("start_timestep", 5, "`steps` must be at most start_timestep .* received 10"),
        ("beta_sche", "sqrt", "`beta_sche` .* received 'sqrt'"),
        ("beta_start", 0, "`beta_start` .* received 0"),
        ("prediction_type", "velocity", "`prediction_type` .* received 'velocity'"),
        ("sampler_grad_steps", 0, "`sampler_grad_steps` .* received 0"),
    ],
)
def test_a_diffusion_that_cannot_be_is_refused(argument, value, message):
    with pytest.raises(ValueError, match=message):
        Diffusion(**{argument: value})
