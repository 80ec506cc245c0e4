import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import OrthogonalMultiInterestExtractor as Extractor
from diffumin_tf.layers.diffumin.gram_schmidt import orthonormalise
from tests.layers import oracles
from tests.layers.helpers import (
    OTHER_SHAPE,
    assert_batch_mates_never_matter,
    assert_finite,
    assert_same,
    assert_saving_keeps_outputs,
    copy_of,
    normal,
    random_ops,
)


def case(seed, batch, length, width, lengths):
    mask = np.arange(length) < np.array(lengths)[:, None]
    return normal(seed, batch, length, width), normal(seed + 1, batch, width), mask


def places(top_p, length):
    return max(1, -(-round(top_p * length) // 100))


@pytest.mark.parametrize("aggregation", ["mean", "sum", "softmax"])
@pytest.mark.parametrize(
    ("width", "channels", "top_p", "seq_len", "lengths"),
    [
        (6, 3, 20, 20, [20, 0, 1, 3, 9]),
        (8, 4, 30, 12, [12, 7, 0, 2]),
        (5, 5, 100, 9, [9, 4]),
        (7, 1, 10, 9, [9, 0, 2]),
        (12, 2, 50, 100, [10, 30]),
    ],
)
def test_equals_the_equations(width, channels, top_p, seq_len, lengths, aggregation):
    history, candidate, mask = case(width, len(lengths), max(lengths), width, lengths)
    layer = Extractor(
        channels, top_p, seq_len, channel_init="random", aggregation=aggregation, seed=1
    )
    interests, orthonormal, live, kept = layer(history, candidate, mask)
    kernel, bias = layer.projection.get_weights()
    for b in range(len(lengths)):
        expected = oracles.extract_interests(
            history[b],
            candidate[b],
            mask[b],
            kernel,
            bias,
            channels,
            places(top_p, seq_len),
            aggregation,
        )
        np.testing.assert_allclose(interests[b], expected[0], atol=2e-5, rtol=1e-4)
        np.testing.assert_allclose(orthonormal[b], expected[1], atol=2e-5)
        np.testing.assert_array_equal(kept[b], expected[2])
        np.testing.assert_array_equal(live[b], expected[2].any(axis=0))


@pytest.mark.parametrize(("orthogonal", "routing"), [(False, True), (True, False)])
def test_without_a_part_it_equals_the_equations_without_it(orthogonal, routing):
    history, candidate, mask = case(7, 3, 20, 6, [20, 1, 9])
    parts = {"orthogonal": orthogonal, "routing": routing}
    layer = Extractor(3, 20, 20, channel_init="random", seed=1, **parts)
    interests, channels, _, kept = layer(history, candidate, mask)
    complete = Extractor(3, 20, 20, channel_init="random", seed=1)(history, candidate, mask)
    assert np.abs(interests - complete.interests).max() > 1e-3
    for b in range(3):
        expected = oracles.extract_interests(
            history[b],
            candidate[b],
            mask[b],
            *layer.projection.get_weights(),
            3,
            4,
            "mean",
            **parts,
        )
        np.testing.assert_allclose(interests[b], expected[0], atol=2e-5, rtol=1e-4)
        np.testing.assert_allclose(channels[b], expected[1], atol=2e-5)
        np.testing.assert_array_equal(kept[b], expected[2])


def test_scattered_mask_equals_the_equations():
    history, candidate, _ = case(3, 4, 30, 6, [30] * 4)
    mask = np.random.default_rng(0).random([4, 30]) < 0.4
    layer = Extractor(3, top_p=10, channel_init="random", seed=2)
    interests, _, _, kept = layer(history, candidate, mask)
    weights = layer.projection.get_weights()
    for b in range(4):
        expected = oracles.extract_interests(
            history[b], candidate[b], mask[b], *weights, 3, 3, "mean"
        )
        np.testing.assert_array_equal(kept[b], expected[2])
        np.testing.assert_allclose(interests[b], expected[0], atol=2e-5, rtol=1e-4)


def test_no_mask_means_all_valid():
    history, candidate, mask = case(0, 3, 10, 6, [10] * 3)
    layer = Extractor(3)
    assert_same(layer(history, candidate), layer(history, candidate, mask))


@pytest.mark.parametrize("channel_init", ["field_aligned", "random"])
def test_channels_are_orthonormal(channel_init):
    layer = Extractor(8, channel_init=channel_init, field_dim=4, seed=0)
    candidate = np.concatenate([normal(0, 16, 32), 1e-3 * normal(1, 16, 32), np.zeros([1, 32])])
    channels = layer(np.zeros([33, 2, 32], np.float32), candidate).channels
    gram = tf.matmul(channels, channels, transpose_b=True)
    np.testing.assert_allclose(gram, np.tile(np.eye(8), [33, 1, 1]), atol=2e-6)


def test_almost_dependent_vectors_are_orthonormalised():
    base = normal(0, 4, 1, 16)
    vectors = np.concatenate([base, base + 1e-3 * normal(1, 4, 3, 16)], axis=1)
    channels = orthonormalise(tf.constant(vectors))
    gram = tf.matmul(channels, channels, transpose_b=True)
    np.testing.assert_allclose(gram, np.tile(np.eye(4), [4, 1, 1]), atol=2e-6)


def test_dependent_and_zero_vectors_give_zero_and_finite_gradients():
    vector = normal(0, 1, 1, 4)
    vectors = tf.constant(np.concatenate([vector, 2 * vector, np.zeros([1, 1, 4])], axis=1))
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        channels = orthonormalise(vectors)
        loss = tf.reduce_sum(channels * normal(1, 1, 3, 4))
    np.testing.assert_array_equal(channels[0, 1:], np.zeros([2, 4]))
    gradient = tape.gradient(loss, vectors)
    assert_finite(gradient)
    np.testing.assert_array_equal(gradient[0, 1:], np.zeros([2, 4]))


def test_diagonal_is_positive_and_channels_follow_the_candidate_continuously():
    layer = Extractor(4, channel_init="random", seed=0)
    candidate, direction = normal(0, 64, 16), normal(1, 64, 16)
    history = np.zeros([64, 1, 16], np.float32)
    channels = layer(history, candidate).channels.numpy()
    vectors = layer.projection(candidate).numpy().reshape(64, 4, 16)
    assert (np.sum(vectors * channels, axis=-1) > 0).all()
    moved = layer(history, candidate + 1e-4 * direction).channels.numpy()
    assert 0 < np.abs(moved - channels).max() < 1e-2


def test_candidate_scale_and_sign_of_the_kernel_never_switch_a_channel():
    layer = Extractor(3, channel_init="random", seed=0)
    candidate, history = normal(0, 8, 12), np.zeros([8, 1, 12], np.float32)
    layer(history, candidate)
    layer.projection.bias.assign(tf.zeros([36]))
    channels = layer(history, candidate).channels
    assert_same(layer(history, 7.0 * candidate).channels, channels, tolerance=1e-5)
    assert_same(layer(history, -candidate).channels, -channels, tolerance=1e-5)


def test_field_aligned_channels_start_as_the_fields_of_the_candidate():
    layer = Extractor(2, init_noise=0.0, aligned_fields=[1, 0])
    candidate = np.array([[3.0, 4.0, 0.0, 5.0]], np.float32)
    channels = layer(np.zeros([1, 1, 4], np.float32), candidate).channels
    np.testing.assert_allclose(channels[0], [[0, 0, 0, 1], [0.6, 0.8, 0, 0]], atol=1e-3)


def test_ties_go_to_the_first_channel_and_the_most_recent_behaviours():
    layer = Extractor(2, top_p=20, init_noise=0.0, field_dim=2)
    candidate = np.array([[1.0, 0.0, 1.0, 0.0]], np.float32)
    history = np.tile(np.float32([1, 0, 0, 0]), [1, 10, 1])
    mask = np.ones([1, 10], bool)
    mask[0, 0] = False
    layer(history, candidate)
    layer.projection.bias.assign(tf.zeros([8]))
    kept = layer(history, candidate, mask).kept.numpy()
    np.testing.assert_array_equal(np.flatnonzero(kept[0, :, 0]), [1, 2])
    assert not kept[0, :, 1].any()
    both = layer(np.tile(np.float32([1, 0, 1, 0]), [1, 10, 1]), candidate).kept.numpy()
    np.testing.assert_array_equal(both.sum(axis=1), [[2, 0]])


@pytest.mark.parametrize(
    ("top_p", "seq_len", "length", "expected"),
    [(20, 10, 10, 2), (21, 10, 10, 3), (0.1, 10, 10, 1), (100, 40, 8, 8), (16.1, 1000, 200, 161)],
)
def test_a_channel_keeps_at_most_top_p_percent(top_p, seq_len, length, expected):
    layer = Extractor(1, top_p=top_p, seq_len=seq_len)
    history = np.ones([1, length, 4], np.float32)
    kept = layer(history, np.ones([1, 4], np.float32)).kept
    assert np.sum(kept) == expected


def test_percentages_of_an_unknown_length_are_not_rounded_up_by_floating_point():
    layer = Extractor(1, top_p=1.1)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 4])])
    def kept(history):
        return layer(history, tf.ones([1, 4])).kept

    assert np.sum(kept(np.ones([1, 1000, 4], np.float32))) == 11


def test_padding_and_batch_mates_never_change_an_output():
    history, candidate, mask = case(5, 6, 20, 8, [20, 0, 3, 11, 20, 1])
    layer = Extractor(4, top_p=15, seq_len=20, seed=0)
    expected = layer(history, candidate, mask)
    padded = np.concatenate([history, 9 * normal(9, 6, 13, 8)], axis=1)
    padded_mask = np.concatenate([mask, np.zeros([6, 13], bool)], axis=1)
    actual = layer(padded, candidate, padded_mask)
    assert_same(actual[:3], expected[:3], tolerance=OTHER_SHAPE)
    np.testing.assert_array_equal(actual.kept[:, :20], expected.kept)
    assert not np.any(actual.kept[:, 20:])
    assert_batch_mates_never_matter(layer, [history, candidate, mask])


def test_gradients_are_finite_for_empty_history_and_zero_input():
    history, candidate, mask = case(0, 3, 5, 6, [5, 0, 2])
    history[2], candidate[2] = 0, 0
    for aggregation in ("mean", "sum", "softmax"):
        layer = Extractor(3, aggregation=aggregation, seed=0)
        inputs = [tf.constant(history), tf.constant(candidate)]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            interests, channels, live, _ = layer(*inputs, mask)
            loss = tf.reduce_sum(interests * 3.0) + tf.reduce_sum(channels)
        np.testing.assert_array_equal(interests[1], np.zeros([3, 6]))
        assert not np.any(live[1])
        gradients = tape.gradient(loss, [*inputs, *layer.trainable_variables])
        assert_finite(gradients)
        assert np.any(gradients[0][0] != 0)


def test_dropped_behaviours_receive_no_gradient():
    history, candidate, mask = case(1, 2, 20, 6, [20, 8])
    layer = Extractor(3, top_p=10, seed=0)
    history = tf.constant(history)
    with tf.GradientTape() as tape:
        tape.watch(history)
        extracted = layer(history, candidate, mask)
        loss = tf.reduce_sum(extracted.interests * normal(0, 2, 3, 6))
    touched = np.any(tape.gradient(loss, history).numpy() != 0, axis=-1)
    np.testing.assert_array_equal(touched, np.any(extracted.kept, axis=-1))


@pytest.mark.parametrize("seq_len", [None, 40])
def test_unknown_length_in_a_graph_equals_eager(seq_len):
    layer = Extractor(3, top_p=15, seq_len=seq_len, seed=0)
    history, candidate, mask = case(0, 2, 13, 6, [13, 5])
    expected = layer(history, candidate, mask)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 6]), tf.TensorSpec([None, 6])])
    def extract(history, candidate):
        return layer(history, candidate)

    assert_same(extract(history, candidate), layer(history, candidate))
    assert_same(tf.function(layer)(history, candidate, mask), expected)
    assert random_ops(lambda: layer(history, candidate, mask)) == set()


def test_survives_config_and_saving(tmp_path):
    history, candidate, mask = map(tf.constant, case(0, 3, 12, 6, [12, 0, 5]))
    layer = Extractor(3, 30, 12, 2, "field_aligned", 0.05, "softmax", [2, 0], False, False, seed=3)
    expected = layer(history, candidate, mask)
    copy = copy_of(layer, history, candidate, mask)
    assert_same(copy(history, candidate, mask), expected)
    loaded = assert_saving_keeps_outputs(layer, [history, candidate, mask], tmp_path)
    assert_same(loaded([history, candidate, mask]), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "`channels` .* received 0"),
        ({"channels": 2, "top_p": 0}, r"`top_p` .* in \(0, 100\], received 0"),
        ({"channels": 2, "top_p": 101}, "`top_p` .* received 101"),
        ({"channels": 2, "seq_len": -1}, "`seq_len` .* received -1"),
        ({"channels": 2, "field_dim": 0}, "`field_dim` .* received 0"),
        ({"channels": 2, "channel_init": "zeros"}, "`channel_init` .*random.* received 'zeros'"),
        ({"channels": 2, "init_noise": -0.1}, "`init_noise` .* received -0.1"),
        ({"channels": 2, "aggregation": "max"}, "`aggregation` .*softmax.* received 'max'"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Extractor(**arguments)


@pytest.mark.parametrize(
    ("arguments", "shapes", "message"),
    [
        ({"channels": 7}, [(2, 5, 6), (2, 6)], "`channels` must be at most the width 6"),
        ({"channels": 4}, [(2, 5, 6), (2, 6)], "`field_dim` must be given, or `channel_init`"),
        ({"channels": 3}, [(2, 6), (2, 6)], r"`history` .*\[B, L, d\].* \(2, 6\)"),
        ({"channels": 3}, [(2, 5, 6), (2, 5)], r"`candidate` .* \(2, 6\), received shape \(2, 5\)"),
        ({"channels": 3}, [(2, 5, 6), (3, 6)], r"`candidate` .* received shape \(3, 6\)"),
        ({"channels": 3}, [(2, 5, 6), (2, 6), (2, 4)], r"`mask` .* received shape \(2, 4\)"),
    ],
)
def test_refuses_bad_shapes(arguments, shapes, message):
    with pytest.raises(ValueError, match=message):
        Extractor(**arguments)(*(tf.zeros(shape) for shape in shapes))
