import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import ContrastiveMultiInterestCalibrator as Calibrator
from tests.layers import oracles
from tests.layers.helpers import normal, randomise


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


@pytest.mark.parametrize(("other", "has_negatives"), [(2**40, False), (2**40 + 2**33, True)])
def test_samples_of_the_same_user_of_63_bits_are_no_negatives(other, has_negatives):
    interests, generated, _, _ = case(4)
    loss = loss_of(Calibrator(temp=0.5), interests, generated, np.int64([2**40] * 3 + [other]))
    assert loss > 0.01 if has_negatives else loss == pytest.approx(0, abs=1e-6)


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
def test_no_negative_or_no_live_channel_gives_loss_zero(batch):
    interests, generated, users, _ = case(batch)
    assert loss_of(Calibrator(), interests, generated, users, np.full([batch, 3], batch == 1)) == 0
