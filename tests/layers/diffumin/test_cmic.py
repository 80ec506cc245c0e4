import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import ContrastiveMultiInterestCalibrator as Calibrator
from tests.layers import oracles
from tests.layers.helpers import (
    assert_finite,
    assert_same,
    assert_saving_keeps_outputs,
    copy_of,
    normal,
    randomise,
)


def case(batch, count=3, width=4):
    rng = np.random.default_rng(batch)
    live = rng.random([batch, count]) < 0.7
    users = rng.integers(0, max(batch // 2, 1), batch)
    interests, generated = normal(0, batch, count, width), normal(1, batch, count, width)
    return interests, generated, users, live


def loss_of(layer, *inputs):
    layer(*inputs, training=True)
    return float(layer.losses[0]) / layer.loss_weight


@pytest.mark.parametrize("batch", [2, 5, 9])
@pytest.mark.parametrize("temp", [0.1, 1.0])
@pytest.mark.parametrize("by_user", [True, False])
def test_loss_equals_the_equations(batch, temp, by_user):
    layer = Calibrator(temp=temp, hidden_factor=2)
    interests, generated, users, live = case(batch)
    layer(interests, generated)
    randomise(layer)
    actual = loss_of(layer, interests, generated, users if by_user else None, live)
    expected = oracles.contrastive_loss(
        interests,
        generated,
        users if by_user else np.arange(batch),
        live,
        temp,
        layer.extracted_head.get_weights(),
        layer.generated_head.get_weights(),
    )
    assert actual == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert float(layer.contrastive_loss.result()) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_samples_of_the_same_user_are_no_negatives():
    layer = Calibrator(temp=0.5)
    interests, generated, _, _ = case(4)
    assert loss_of(layer, interests, generated, [7, 7, 7, 7]) == pytest.approx(0, abs=1e-6)
    assert loss_of(layer, interests, generated, [7, 7, 7, 8]) > 0.1


def test_user_ids_of_63_bits_are_told_apart():
    layer = Calibrator(temp=0.5)
    interests, generated, _, _ = case(2)
    users = np.array([2**40, 2**40 + 2**33], np.int64)
    assert loss_of(layer, interests, generated, users) > 0.01


def test_dead_channels_change_nothing():
    layer = Calibrator()
    interests, generated, users, live = case(6)
    expected = loss_of(layer, interests, generated, users, live)
    junk = np.where(live[:, :, None], generated, 5.0)
    assert loss_of(layer, interests, junk, users, live) == pytest.approx(expected, rel=1e-6)


def test_passes_the_generated_interests_through():
    interests, generated, users, live = case(5)
    layer = Calibrator()
    for training in (False, True):
        np.testing.assert_array_equal(
            layer(interests, generated, users, live, training=training), generated
        )


def test_loss_and_metric_only_in_training_but_heads_are_built():
    layer = Calibrator()
    layer(*case(5))
    assert layer.losses == []
    assert float(layer.contrastive_loss.count) == 0
    assert len(layer.trainable_variables) == 8
    graph = tf.function(lambda: layer(*case(5), training=False)).get_concrete_function().graph
    assert not [op for op in graph.get_operations() if op.type == "MatMul"]
    layer(*case(5), training=True)
    assert len(layer.losses) == 1
    assert [metric.name for metric in layer.metrics] == ["contrastive_loss"]


@pytest.mark.parametrize("batch", [1, 3])
def test_no_negative_or_no_live_channel_gives_loss_zero_and_finite_gradients(batch):
    layer = Calibrator()
    interests, generated = tf.zeros([batch, 3, 4]), tf.constant(normal(1, batch, 3, 4))
    live = tf.fill([batch, 3], batch == 1)
    with tf.GradientTape() as tape:
        tape.watch([interests, generated])
        layer(interests, generated, live=live, training=True)
        loss = layer.losses[0]
    assert float(loss) == 0
    gradients = tape.gradient(loss, [interests, generated, *layer.trainable_variables])
    assert_finite(gradients)


def test_training_pulls_pairs_together():
    layer = Calibrator(temp=0.5, loss_weight=1.0)
    interests, generated = tf.constant(normal(0, 8, 3, 4)), tf.constant(normal(1, 8, 3, 4))
    optimizer = tf.keras.optimizers.Adam(0.01)
    losses = []
    for _ in range(30):
        with tf.GradientTape() as tape:
            layer(interests, generated, training=True)
            loss = layer.losses[0]
        optimizer.minimize(loss, layer.trainable_variables, tape=tape)
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]


def test_survives_config_and_saving(tmp_path):
    tensors = [tf.constant(x) for x in case(5)]
    layer = Calibrator(temp=0.2, loss_weight=0.3, hidden_factor=2)
    expected = loss_of(layer, *tensors)
    assert loss_of(copy_of(layer, *tensors), *tensors) == pytest.approx(expected, rel=1e-6)
    loaded = assert_saving_keeps_outputs(layer, tensors, tmp_path)
    assert_same(loss_of(loaded.layers[-1], *tensors), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temp": 0}, "`temp` must be a number above 0, received 0"),
        ({"loss_weight": -0.1}, "`loss_weight` .* received -0.1"),
        ({"hidden_factor": 0}, "`hidden_factor` .* received 0"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Calibrator(**arguments)


@pytest.mark.parametrize(
    ("place", "shape", "message"),
    [
        (0, [5, 4], r"`interests` .*\[B, C, d\].* \(5, 4\)"),
        (1, [5, 3, 5], r"`generated` .* received shape \(5, 3, 5\)"),
        (2, [5, 1], r"`user_ids` .* received shape \(5, 1\)"),
        (3, [5, 2], r"`live` .* received shape \(5, 2\)"),
    ],
)
def test_refuses_bad_shapes(place, shape, message):
    tensors = list(case(5))
    tensors[place] = np.zeros(shape, tensors[place].dtype)
    with pytest.raises(ValueError, match=message):
        Calibrator()(*tensors)
