import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import Denoiser
from diffumin_tf.layers.diffumin.denoiser import sinusoid
from tests.layers import oracles
from tests.layers.helpers import (
    OTHER_SHAPE,
    assert_batch_mates_never_matter,
    assert_finite,
    assert_same,
    assert_saving_keeps_outputs,
    copy_of,
    denoiser_weights,
    normal,
    random_ops,
    randomise,
)

LIVE = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1]], bool)


def inputs(width, batch=4, count=3):
    tensors = [normal(seed, batch, count, width) for seed in range(3)]
    return *tensors, np.random.default_rng(3).integers(0, 100, [batch, count])


@pytest.mark.parametrize(("width", "heads", "layers"), [(4, 2, 1), (6, 3, 2), (5, 1, 2), (1, 1, 1)])
def test_equals_the_equations(width, heads, layers):
    denoiser = Denoiser(layers, heads, dff_factor=2)
    noisy, context, channels, timestep = inputs(width)
    denoiser(noisy, context, channels, timestep, LIVE)
    randomise(denoiser)
    actual = denoiser(noisy, context, channels, timestep, LIVE)
    weights = denoiser_weights(denoiser)
    for b in range(4):
        expected = oracles.denoise(
            noisy[b], context[b], channels[b], timestep[b], LIVE[b], heads, weights
        )
        np.testing.assert_allclose(actual[b], expected, atol=5e-5)


def test_one_timestep_for_all_equals_a_tensor_of_it():
    denoiser = Denoiser(1, 2, 2)
    *tensors, _ = inputs(4)
    expected = denoiser(*tensors, np.full([4, 3], 7))
    assert_same(denoiser(*tensors, 7), expected, tolerance=OTHER_SHAPE)
    assert np.abs(denoiser(*tensors, 8) - expected).max() > 1e-3


@pytest.mark.parametrize("timestep", [7, np.arange(12).reshape([4, 3])], ids=["one", "each"])
def test_a_step_of_what_was_prepared_once_equals_a_call(timestep):
    denoiser = Denoiser(2, 2, 2)
    noisy, context, channels, _ = map(tf.constant, inputs(4))
    denoiser(noisy, context, channels, timestep, LIVE)
    randomise(denoiser)
    with tf.GradientTape(persistent=True) as tape:
        watched = [noisy, context, channels]
        tape.watch(watched)
        prepared, time = denoiser.prepare(context, channels, LIVE), denoiser.embed_time(timestep)
        stepped = [denoiser.step(x, prepared, time) for x in (noisy, 2 * noisy)]
        called = [denoiser(x, context, channels, timestep, LIVE) for x in (noisy, 2 * noisy)]
        losses = [tf.reduce_sum(tf.stack(x) * normal(5, 2, 4, 3, 4)) for x in (stepped, called)]
    assert_same(stepped, called)
    assert np.abs(stepped[0] - stepped[1]).max() > 1e-3
    gradients = [tape.gradient(x, [*watched, *denoiser.trainable_variables]) for x in losses]
    assert_same(*gradients, tolerance=1e-5)


def test_a_timestep_among_many_is_embedded_like_that_timestep():
    denoiser = Denoiser(1, 2, 2)
    denoiser(*inputs(4))
    randomise(denoiser)
    weights = denoiser_weights(denoiser)
    times = denoiser.embed_time(tf.constant([99, 40, 0]))
    kernels = [weights["blocks"][0][name] for name in ("query", "key", "value")]
    for place, timestep in enumerate([99, 40, 0]):
        expected = oracles.time_embedding(timestep, weights)
        np.testing.assert_allclose(times.embedding[place], expected, atol=1e-5)
        for projected, kernel in zip(times.projected, kernels, strict=True):
            np.testing.assert_allclose(projected[place], expected @ kernel, atol=1e-5)
        alone = denoiser.embed_time(timestep)
        assert_same(alone, tf.nest.map_structure(lambda x, p=place: x[p], times), OTHER_SHAPE)


def test_no_live_means_all_live():
    denoiser = Denoiser(1, 2, 2)
    assert_same(denoiser(*inputs(4)), denoiser(*inputs(4), np.ones([4, 3], bool)))


def test_dead_channels_and_batch_mates_never_change_an_output():
    denoiser = Denoiser(2, 2, 2)
    noisy, context, channels, timestep = inputs(4)
    expected = denoiser(noisy, context, channels, timestep, LIVE).numpy()
    other = np.where(LIVE[:, :, None], context, 5 * normal(8, 4, 3, 4))
    actual = denoiser(noisy, other, channels, timestep, LIVE).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    assert_batch_mates_never_matter(denoiser, [noisy, context, channels, timestep, LIVE])


def test_live_context_and_the_channel_do_change_the_output():
    denoiser = Denoiser(1, 2, 2)
    noisy, context, channels, timestep = inputs(4)
    expected = denoiser(noisy, context, channels, timestep, LIVE).numpy()
    context[3, 2] += 1
    changed = denoiser(noisy, context, channels, timestep, LIVE).numpy()
    assert np.abs(changed[3, 0] - expected[3, 0]).max() > 1e-4
    channels[0, 1] += 1
    changed = denoiser(noisy, context, channels, timestep, LIVE).numpy()
    assert np.abs(changed[0, 1] - expected[0, 1]).max() > 1e-4
    np.testing.assert_allclose(changed[0, 0], expected[0, 0], atol=1e-6)


def test_sinusoid_of_odd_width_ends_in_zero():
    waves = sinusoid(tf.constant([[0, 3]]), 5).numpy()
    angle = 3 / 10_000**0.5
    expected = [np.sin(3), np.sin(angle), np.cos(3), np.cos(angle), 0]
    np.testing.assert_allclose(waves[0, 1], expected, rtol=1e-5)
    np.testing.assert_array_equal(waves[0, 0], [0, 0, 1, 1, 0])


def test_gradients_are_finite_for_zero_input_and_no_live_channel():
    denoiser = Denoiser(2, 2, 2)
    zeros = tf.zeros([2, 3, 4])
    with tf.GradientTape() as tape:
        tape.watch(zeros)
        loss = tf.reduce_sum(denoiser(zeros, zeros, zeros, 0, tf.zeros([2, 3], tf.bool)) ** 2)
    assert_finite(tape.gradient(loss, [zeros, *denoiser.trainable_variables]))


def test_inference_has_no_random_op_with_dropout():
    denoiser = Denoiser(1, 2, 2, dropout_rate=0.5)
    assert random_ops(lambda: denoiser(*inputs(4), training=False)) == set()
    assert random_ops(lambda: denoiser(*inputs(4), training=True)) != set()


def test_survives_config_and_saving(tmp_path):
    tensors = [tf.constant(x) for x in (*inputs(5), LIVE)]
    denoiser = Denoiser(1, 1, 3, dropout_rate=0.1, seed=2)
    expected = denoiser(*tensors)
    assert_same(copy_of(denoiser, *tensors)(*tensors), expected)
    assert_saving_keeps_outputs(denoiser, tensors, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 2, 2), "`n_layers` .* received 0"),
        ((1, "2", 2), "`num_heads` .* received '2'"),
        ((1, 2, 0), "`dff_factor` .* received 0"),
        ((1, 2, 2, -0.1), "`dropout_rate` .* received -0.1"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Denoiser(*arguments)


@pytest.mark.parametrize(
    ("place", "shape", "message"),
    [
        (0, [4, 6], r"`noisy` .*\[B, C, d\].* \(4, 6\)"),
        (1, [4, 3, 5], r"`context` .* received shape \(4, 3, 5\)"),
        (2, [4, 2, 4], r"`channels` .* received shape \(4, 2, 4\)"),
        (3, [4, 2], r"`timestep` .* received shape \(4, 2\)"),
        (4, [3, 3], r"`live` .* received shape \(3, 3\)"),
    ],
)
def test_refuses_bad_shapes(place, shape, message):
    tensors = [*inputs(4), LIVE]
    tensors[place] = np.zeros(shape, tensors[place].dtype)
    with pytest.raises(ValueError, match=message):
        Denoiser(1, 2, 2)(*tensors)


def test_refuses_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match="`num_heads` must divide the width 4 .* received 3"):
        Denoiser(1, 3, 2)(*inputs(4))
