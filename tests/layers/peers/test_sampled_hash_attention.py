import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import SampledHashAttention
from tests.layers.helpers import (
    OTHER_SHAPE,
    assert_batch_mates_never_matter,
    assert_finite,
    assert_same,
    assert_saving_keeps_outputs,
    copy_of,
    normal,
)
from tests.layers.peer_oracles import sampled_hash_attention

BATCH, LENGTH, WIDTH = 4, 12, 5


def case(seed=0):
    mask = np.random.default_rng(seed).random([BATCH, LENGTH]) < 0.7
    mask[1] = False
    return normal(seed, BATCH, LENGTH, WIDTH), normal(seed + 1, BATCH, WIDTH), mask


@pytest.mark.parametrize(("bits", "width"), [(12, 3), (8, 1), (6, 6), (48, 3)])
def test_equals_the_equations(bits, width):
    layer, (history, candidate, mask) = SampledHashAttention(bits, width, seed=1), case()
    found = layer(history, candidate, mask)
    hyperplanes = layer.hash.hyperplanes.numpy()
    for b in range(BATCH):
        expected = sampled_hash_attention(history[b], candidate[b], mask[b], hyperplanes, width)
        np.testing.assert_allclose(found[b], expected, atol=1e-5)
    assert np.abs(found).max() > 0.05


def test_no_mask_means_all_valid():
    layer, (history, candidate, _) = SampledHashAttention(12, 3), case()
    everything = np.ones([BATCH, LENGTH], bool)
    assert_same(layer(history, candidate), layer(history, candidate, everything))


def test_a_behaviour_like_the_candidate_always_counts_and_its_opposite_never():
    layer, candidate = SampledHashAttention(24, 3), normal(1, BATCH, WIDTH)
    direction = candidate / np.linalg.norm(candidate, axis=1, keepdims=True)
    history = np.stack([3 * candidate, -candidate], axis=1)
    np.testing.assert_allclose(layer(history, candidate), direction, atol=1e-6)
    assert not layer(history[:, 1:], candidate).numpy().any()


def test_padding_never_changes_an_interest():
    layer, (history, candidate, mask) = SampledHashAttention(24, 2), case()
    longer = np.pad(history, [(0, 0), (0, 9), (0, 0)])
    longer[:, LENGTH:] = candidate[:, None]
    found = layer(longer, candidate, np.pad(mask, [(0, 0), (0, 9)]))
    assert_same(found, layer(history, candidate, mask), OTHER_SHAPE)


@pytest.mark.parametrize("length", [0, LENGTH])
def test_empty_histories_give_zero_with_finite_gradients(length):
    layer = SampledHashAttention(12, 3)
    history, candidate = tf.zeros([2, length, WIDTH]), tf.constant(normal(1, 2, WIDTH))
    with tf.GradientTape() as tape:
        tape.watch(history)
        interest = layer(history, candidate, tf.zeros([2, length], tf.bool))
        loss = tf.reduce_sum(interest)
    assert interest.shape == (2, WIDTH) and not interest.numpy().any()
    assert_finite(tape.gradient(loss, history))


def test_the_candidate_gets_no_gradient_and_only_what_collides_does():
    layer, (history, candidate, mask) = SampledHashAttention(6, 6, seed=1), case()
    history, candidate = tf.constant(history), tf.constant(candidate)
    with tf.GradientTape() as tape:
        tape.watch([history, candidate])
        loss = tf.reduce_sum(layer(history, candidate, mask) ** 3)
    of_history, of_candidate = tape.gradient(loss, [history, candidate])
    assert of_candidate is None
    collides = np.all(layer.hash(history) == layer.hash(candidate)[:, None], axis=2) & mask
    moved = np.any(of_history != 0, axis=2)
    assert collides.any() and not (moved & ~collides).any()


def test_batch_mates_never_change_an_interest():
    assert_batch_mates_never_matter(SampledHashAttention(12, 3), list(case()))


def test_survives_config_and_saving(tmp_path):
    layer, inputs = SampledHashAttention(12, 4, seed=3), [tf.constant(x) for x in case()]
    layer(*inputs)
    assert_same(copy_of(layer, *inputs)(*inputs), layer(*inputs))
    assert_saving_keeps_outputs(layer, inputs, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 0}, "`bits` .* received 0"),
        ({"bits": 10, "width": 3}, "`width` must divide `bits` 10, received 3"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SampledHashAttention(**arguments)
