import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import NoiseSchedule
from tests.layers import oracles
from tests.layers.helpers import normal


def exp_betas(steps):
    x = 1 + np.arange(steps) * 2 * steps / (steps - 1)
    return 1 - np.exp(-0.1 / steps - x * 9.9 / (2 * steps**2))


def cosine_betas(steps):
    signal = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.clip(1 - signal[1:] / signal[:-1], 1e-4, 0.9999)


@pytest.mark.parametrize("steps", [2, 50, 1000])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("linear", lambda steps: np.linspace(1e-4, 0.02, steps)),
        ("exp", exp_betas),
        ("cosine", cosine_betas),
    ],
)
def test_betas_equal_their_formula(kind, steps, expected):
    schedule = NoiseSchedule(kind, steps, beta_start=1e-4, beta_end=0.02)
    assert schedule.betas.dtype == schedule.alphas_cumprod.dtype == np.float64
    np.testing.assert_allclose(schedule.betas, expected(steps), rtol=1e-9)
    single = NoiseSchedule(kind, timesteps=1)
    assert 0 < single.betas[0] < 1 and single.sampling_timesteps(0, 1).tolist() == [0]
    np.testing.assert_allclose(schedule.alphas_cumprod, np.cumprod(1 - expected(steps)), rtol=1e-9)


def test_add_noise_mixes_by_the_square_roots():
    schedule = NoiseSchedule("linear", 100)
    alphas = oracles.linear_alphas_cumprod(100, 1e-4, 0.02)
    x0, noise = normal(0, 2, 3, 4), normal(1, 2, 3, 4)
    t = np.array([[0, 5, 99], [7, 7, 50]])
    actual = schedule.add_noise(x0, noise, tf.constant(t))
    alpha = alphas[t][:, :, np.newaxis]
    expected = np.sqrt(alpha) * x0 + np.sqrt(1 - alpha) * noise
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_one_timestep_for_all_equals_a_tensor_of_it():
    schedule = NoiseSchedule("exp", 20)
    x, other = normal(0, 2, 3, 4), normal(1, 2, 3, 4)
    t, previous = tf.fill([2, 3], 9), tf.fill([2, 3], 4)
    for of_int, of_tensor in [
        (schedule.add_noise(x, other, 9), schedule.add_noise(x, other, t)),
        (schedule.predict_x0(x, other, 9), schedule.predict_x0(x, other, t)),
        (schedule.predict_noise(x, other, 9), schedule.predict_noise(x, other, t)),
        (schedule.step(x, other, 9, 4), schedule.step(x, other, t, previous)),
        (schedule.step(x, other, 9, -1), schedule.step(x, other, t, tf.fill([2, 3], -1))),
        (schedule.step(x, other, 9, 4), schedule.step(x, other, tf.constant(9), tf.constant(4))),
    ]:
        np.testing.assert_allclose(of_int, of_tensor, rtol=1e-6)


def test_predictions_undo_the_forward_process():
    schedule = NoiseSchedule("cosine", 40)
    x0, noise = normal(0, 3, 4), normal(1, 3, 4)
    noisy = schedule.add_noise(x0, noise, 20)
    np.testing.assert_allclose(schedule.predict_x0(noisy, noise, 20), x0, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(schedule.predict_noise(noisy, x0, 20), noise, rtol=1e-4, atol=1e-5)


def test_a_step_with_the_true_x0_lands_on_the_forward_process_or_on_x0():
    schedule = NoiseSchedule("linear", 100)
    x0, noise = normal(0, 3, 4), normal(1, 3, 4)
    noisy = schedule.add_noise(x0, noise, 80)
    expected = schedule.add_noise(x0, noise, 30)
    np.testing.assert_allclose(schedule.step(noisy, x0, 80, 30), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(schedule.step(noisy, x0, 80, -1), x0)


@pytest.mark.parametrize("prediction_type", ["sample", "epsilon"])
def test_weights_of_steps_are_those_of_the_step(prediction_type):
    schedule, timesteps = NoiseSchedule("linear", 100), np.array([80, 30, 0, -1])
    x, predicted = normal(0, 2, 8), normal(1, 2, 8)
    for t, previous, *weights in zip(
        timesteps, timesteps[1:], *schedule.step_weights(timesteps, prediction_type), strict=False
    ):
        x0 = predicted
        if prediction_type == "epsilon":
            x0 = schedule.predict_x0(x, predicted, int(t))
        expected = schedule.step(x, x0, int(t), int(previous))
        np.testing.assert_allclose(weights[0] * x + weights[1] * predicted, expected, atol=2e-5)


def test_sampling_timesteps_go_down_evenly_to_zero_and_are_always_different():
    schedule = NoiseSchedule("linear", 60)
    for start, steps, expected in ((59, 1, [59]), (10, 3, [10, 5, 0]), (5, 3, [5, 3, 0])):
        assert schedule.sampling_timesteps(start, steps).tolist() == expected
    for start in range(60):
        for steps in range(2, start + 2):
            timesteps = schedule.sampling_timesteps(start, steps)
            assert len(timesteps) == steps
            assert (timesteps[0], timesteps[-1]) == (start, 0)
            assert (np.diff(timesteps) < 0).all()


@pytest.mark.parametrize(
    ("start", "steps", "message"),
    [
        (9, 11, r"`steps` must be at most start_timestep \+ 1 = 10.* received 11"),
        (100, 5, r"`start_timestep` must be in \[0, timesteps\) = \[0, 100\), received 100"),
        (-1, 1, "`start_timestep` .* received -1"),
        (9, 0, "`steps` .* received 0"),
    ],
)
def test_refuses_sampling_that_cannot_be(start, steps, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule("linear", 100).sampling_timesteps(start, steps)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "sigmoid"}, "`kind` .*'cosine'.* received 'sigmoid'"),
        ({"timesteps": 0}, "`timesteps` .* received 0"),
        ({"timesteps": 10.0}, "`timesteps` .* received 10.0"),
        ({"beta_start": 0.0}, r"`beta_start` must be a number in \(0, 1\), received 0.0"),
        ({"beta_end": 1}, "`beta_end` .* received 1"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(**arguments)


@pytest.mark.parametrize("t", [-1, 100])
def test_refuses_timesteps_outside_the_process(t):
    schedule = NoiseSchedule("linear", 100)
    with pytest.raises(ValueError, match=rf"`t` must be in \[0, timesteps\).* received {t}"):
        schedule.add_noise(tf.zeros([1]), tf.zeros([1]), t)
