"""How DMIG samples: which steps are differentiated, in parts or not, compiled or not."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import DenoiserConfig, Diffusion, RandomStream
from diffumin_tf.layers import DiffusionMultiInterestGenerator as Generator
from diffumin_tf.layers.diffumin.noise_schedule import CLEAN
from tests.layers.helpers import OTHER_SHAPE, assert_finite, assert_same, flat, normal, randomise

LIVE = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1], [1, 1, 0]], bool)
INTERESTS = tf.constant(normal(0, 5, 3, 4) * LIVE[:, :, None])
CHANNELS = tf.constant(normal(1, 5, 3, 4))
WEIGHT = normal(2, 5, 3, 4)


def layer_of(parts=1, jit_compile=False, dropout_rate=0.0, n_layers=2, **diffusion):
    """A layer with weights and random numbers that are always the same."""
    process = {"timesteps": 40, "infer_timesteps": 3, "start_timestep": 10, **diffusion}
    network = DenoiserConfig(n_layers, dff_factor=2, dropout_rate=dropout_rate)
    layer = Generator(Diffusion(**process), network, parts=parts, jit_compile=jit_compile, seed=3)
    layer(INTERESTS, CHANNELS, LIVE)
    randomise(layer, scale=0.15)
    layer.random.draws.assign(0)
    return layer


def trained(layer, with_loss=False, function=None):
    """What a training call generates, and the gradients of it (and of L_d)."""
    weights = [*layer.denoiser.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch([INTERESTS, CHANNELS])
        generated = (function or layer)(INTERESTS, CHANNELS, LIVE, training=True)
        loss = tf.reduce_sum(generated * WEIGHT)
        if with_loss:
            loss += layer.losses[0]
    return [generated, *tape.gradient(loss, [INTERESTS, CHANNELS, *weights])]


def furthest(one, other):
    return max(np.abs(a - b).max() for a, b in zip(flat(one), flat(other), strict=True))


@pytest.mark.parametrize(
    ("grad_steps", "prediction_type"),
    [(1, "sample"), (1, "epsilon"), (2, "sample"), (50, "sample"), (None, "epsilon")],
)
def test_gradients_are_those_of_a_sampler_stopped_before_the_last_steps(
    grad_steps, prediction_type
):
    layer = layer_of(sampler_grad_steps=grad_steps, prediction_type=prediction_type)
    draws = RandomStream(3)
    draws.integers([5, 3], 40)  # timesteps and noise of the loss
    draws.normal([5, 3, 4])
    noise = draws.normal([5, 3, 4])

    def sample(interests, channels, live, training):
        x0 = tf.math.divide_no_nan(interests, tf.norm(interests, axis=2, keepdims=True))
        x = layer.schedule.add_noise(x0, noise, 10)
        for index, (t, previous) in enumerate([(10, 5), (5, 0), (0, CLEAN)]):
            if index and index == 3 - (grad_steps or 3):
                x = tf.stop_gradient(x)
            clean = layer.denoiser(x, x0, channels, t, live)
            if prediction_type == "sample":
                clean /= 2.0  # √d
            else:
                clean = layer.schedule.predict_x0(x, clean, t)
            x = layer.schedule.step(x, clean, t, previous)
        return x * tf.cast(live, tf.float32)[:, :, tf.newaxis]

    # A vector of length zero has no derivative; the layer's own gradient there is zero.
    actual, expected = trained(layer), trained(layer, function=sample)
    actual[1], expected[1] = (tf.boolean_mask(x[1], LIVE) for x in (actual, expected))
    assert_same(actual, expected, tolerance=2e-5)


@pytest.mark.parametrize("parts", [2, 7])
def test_parts_of_the_batch_never_change_a_result(parts):
    whole, layer = layer_of(n_layers=1), layer_of(n_layers=1, parts=parts)
    expected = whole(INTERESTS, CHANNELS, LIVE)
    assert_same(layer(INTERESTS, CHANNELS, LIVE), expected, tolerance=OTHER_SHAPE)
    learnt = [x(INTERESTS, CHANNELS, LIVE, training=True) for x in (layer, whole)]
    assert_same([learnt[0], layer.losses], [learnt[1], whole.losses])
    assert layer(INTERESTS[:0], CHANNELS[:0]).shape == (0, 3, 4)


QUICK = {"infer_timesteps": 2, "n_layers": 1, "sampler_grad_steps": 1}


def test_compiled_it_gives_the_same_values_losses_and_gradients():
    plain, compiled = (layer_of(**QUICK, jit_compile=jit) for jit in (False, True))
    expected = trained(plain, with_loss=True)
    assert_same(trained(compiled, with_loss=True), expected, tolerance=1e-5)
    assert_same(compiled.losses, plain.losses, tolerance=1e-5)
    assert_same(compiled.diffusion_loss.result(), plain.diffusion_loss.result(), tolerance=1e-5)
    assert_same(compiled(INTERESTS, CHANNELS, LIVE), plain(INTERESTS, CHANNELS, LIVE))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_dropout_reaches_the_steps_without_gradient(jit_compile):
    layer = layer_of(**QUICK, dropout_rate=0.3, jit_compile=jit_compile)
    first = layer(INTERESTS, CHANNELS, LIVE, training=True)
    layer.random.draws.assign(0)
    second = layer(INTERESTS, CHANNELS, LIVE, training=True)
    assert_finite([first, second])
    assert furthest(first, second) > 1e-3
