"""The network of the diffusion process, plain and fast."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import Denoiser
from diffumin_tf.layers.attention import MASKED, attend
from diffumin_tf.layers.diffumin.fast_denoiser import FastDenoiser, attend_to_few
from tests.layers import oracles
from tests.layers.helpers import (
    OTHER_SHAPE,
    assert_finite,
    assert_same,
    denoiser_weights,
    normal,
    random_ops,
    randomise,
)

LIVE = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1]], bool)


def inputs(width, batch=4, count=3):
    tensors = [normal(seed, batch, count, width) for seed in range(3)]
    return *tensors, np.random.default_rng(3).integers(0, 100, [batch, count])


def built(width, *arguments, **changes):
    denoiser = Denoiser(*arguments, **changes)
    denoiser.build([None, 3, width])
    randomise(denoiser)
    return denoiser


@pytest.mark.parametrize(("width", "heads", "layers"), [(4, 2, 1), (6, 3, 2), (5, 1, 2), (1, 1, 1)])
def test_equals_the_equations(width, heads, layers):
    denoiser = built(width, layers, heads, dff_factor=2)
    noisy, context, channels, timestep = inputs(width)
    actual = denoiser(noisy, context, channels, timestep, LIVE)
    weights = denoiser_weights(denoiser)
    for b in range(4):
        expected = oracles.denoise(
            noisy[b], context[b], channels[b], timestep[b], LIVE[b], heads, weights
        )
        np.testing.assert_allclose(actual[b], expected, atol=5e-5)


@pytest.mark.parametrize("timestep", [7, np.arange(12).reshape([4, 3])], ids=["one", "each"])
@pytest.mark.parametrize(("width", "heads", "layers"), [(4, 2, 1), (4, 2, 2), (6, 3, 3)])
def test_the_fast_one_equals_the_plain_one_in_values_and_all_gradients(
    width, heads, layers, timestep
):
    denoiser = built(width, layers, heads, 2)
    noisy, context, channels, _ = map(tf.constant, inputs(width))
    sources = [noisy, context, channels, *denoiser.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(sources[:3])
        fast = FastDenoiser(denoiser)
        prepared = fast.prepare(context, channels, tf.constant(LIVE))
        time = fast.embed_time(timestep)
        quick = [fast(x, prepared, time) for x in (noisy, 2 * noisy)]
        plain = [denoiser(x, context, channels, timestep, LIVE) for x in (noisy, 2 * noisy)]
        losses = [tf.reduce_sum(tf.stack(x) * normal(5, 2, 4, 3, width)) for x in (quick, plain)]
    assert_same(quick, plain, OTHER_SHAPE)
    assert np.abs(quick[0] - quick[1]).max() > 1e-3
    gradients = [tape.gradient(x, sources) for x in losses]
    assert_same(*gradients, tolerance=2e-5)
    assert all(np.abs(gradient).max() > 0 for gradient in gradients[0])


def test_dropout_of_the_fast_one_acts_in_training_alone():
    denoiser = built(4, 2, 2, 2, dropout_rate=0.5)
    noisy, context, channels, _ = map(tf.constant, inputs(4))

    def run(training):
        fast = FastDenoiser(denoiser)
        prepared = fast.prepare(context, channels, tf.constant(LIVE))
        return fast(noisy, prepared, fast.embed_time(7), training)

    assert_same(run(False), denoiser(noisy, context, channels, 7, LIVE), OTHER_SHAPE)
    assert np.abs(run(True) - run(True)).max() > 0.01
    assert random_ops(lambda: run(False)) == set() != random_ops(lambda: run(True))


def by_slots(query, keys, values, mask, heads):
    """`attend_to_few` with the arguments of `attend`."""
    slots = [tf.transpose(x, [1, 0, 2]) for x in (query, keys, values)]
    seen = tf.where(tf.transpose(mask), 0.0, MASKED)[:, :, tf.newaxis]
    seen = tf.reshape(tf.repeat(seen, heads, axis=2), [keys.shape[1], -1])
    return tf.transpose(attend_to_few(*slots, seen, heads), [1, 0, 2])


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("queries", [1, 5])
def test_attention_to_few_keys_equals_attention(heads, queries):
    mask = np.random.default_rng(0).random([50, 3]) < 0.5
    mask[:, 1] |= ~mask.any(axis=1)
    assert len(np.unique(mask, axis=0)) == 7
    query, keys, values = normal(0, 50, queries, 8), normal(1, 50, 3, 8), normal(2, 50, 3, 8)
    # `attend` is given zeros for what is masked.
    keys, values = (x * mask[..., np.newaxis].astype(np.float32) for x in (keys, values))
    tensors = [tf.constant(x) for x in (3 * query, keys, values)]
    results = []
    for function in (attend, by_slots):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            attended = function(*tensors, mask, heads)
            loss = tf.reduce_sum(attended * normal(3, 50, queries, 8))
        results.append([attended, *tape.gradient(loss, tensors)])
    assert_same(results[1], results[0], tolerance=OTHER_SHAPE)
    _, _, to_keys, to_values = results[1]
    for gradient in (to_keys, to_values):
        assert not gradient[~mask].numpy().any() and (gradient[mask].numpy() != 0).any()


@pytest.mark.parametrize("logit", [1e3, 1e30])
def test_attention_to_few_keys_stays_finite_for_large_logits(logit):
    keys = tf.constant([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    query = tf.constant([[[logit, 0.0]]])
    with tf.GradientTape() as tape:
        tape.watch([query, keys])
        attended = by_slots(query, keys, keys, tf.constant([[True, True, False]]), 1)
        loss = tf.reduce_sum(attended)
    np.testing.assert_array_equal(attended, [[[1.0, 0.0]]])
    assert_finite(tape.gradient(loss, [query, keys]))
