"""The product against the straightforward reference: the same numbers, gradients and updates."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.straightforward import Straightforward
from diffumin_tf.input.batch import Batch, HistoryGroup
from tests.small_model import build

LENGTH = 10
# Auxiliary losses weigh so much here that their gradients are no smaller than that of the clicks.
SMALL = {
    "seq_len": LENGTH,
    "infer_timesteps": 1,
    "sampler_grad_steps": None,  # the reference differentiates every sampling step
    "deep_layers": [4],
    "activation": "relu",
    "lamda1": 0.5,
    "lamda2": 0.25,
}
MINIMAL = {"candidate": ["item", "category"], "behaviours": ["item_list", "category_list"]}

# Both sum the same float32 terms, in another order. Measured over the cases below and five seeds
# of `batch`: up to 9e-7 on scores, logits and losses; on gradients up to 2.5e-5 of the largest
# entry of the variable, or 6e-7 where large terms cancel, as they do for shifts and scales before
# a batch norm. Gradients that are not zero by construction have entries of 9e-5 and more.
TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
CANCELLATION = 2e-6

HISTORIES = (
    "with holes, full, empty, of one behaviour, of old behaviours only, of a behaviour repeated, "
    "of unknown ids, of few ids with holes"
).split(", ")


def small(**changes):
    """A small model and its reference."""
    model, _ = build(**{**SMALL, **changes})
    return model, Straightforward(model)


def reset_noise(model):
    (unit,) = model.units
    if hasattr(unit, "_generate"):
        unit._generate.random.draws.assign(7)


def batch(length=LENGTH, fields=4, seed=0):
    """One sample for each of `HISTORIES`; what is masked has rows as well."""
    rng, size = np.random.default_rng(seed), len(HISTORIES)
    behaviours = rng.integers(1, 60, [size, length, 2])
    mask = rng.random([size, length]) < 0.6
    index, full = np.arange(length), np.ones(length, bool)
    mask[1:7] = full, ~full, index == length // 2, index >= length - 4, full, full
    behaviours[5] = behaviours[5, 0]
    behaviours[6] = 0
    few = behaviours[7, rng.integers(0, 2, length) % length]
    behaviours[7] = few * rng.integers(0, 2, [length, 1])
    return Batch(
        fields=tf.constant(rng.integers(0, 60, [size, fields]), tf.int32),
        histories=(one_group(behaviours, mask),),
        dense=tf.constant(rng.standard_normal([size, 1]), tf.float32),
        user=tf.constant(rng.integers(1, 5, size), tf.int64),
        label=tf.constant(rng.integers(0, 2, size), tf.float32),
    )


def one_group(behaviours, mask):
    return HistoryGroup(tf.constant(behaviours, tf.int32), tf.constant(mask), tf.range(len(mask)))


def training_outcome(model, forward, label):
    """Logits, auxiliary losses, and the gradient of the whole loss for every variable."""
    reset_noise(model)
    with tf.GradientTape() as tape:
        logits, losses = forward()
        total = tf.add_n([model.click_loss(label, logits), *losses])
    variables = model.trainable_variables
    gradients = tape.gradient(total, variables, unconnected_gradients="zero")
    return logits, losses, [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE)


def assert_same_function(model, reference, batch, reference_batch=None):
    """Compares scores, then logits, auxiliary losses and every gradient in training."""
    reference_batch = reference_batch or batch
    assert_close(model.predict_click(batch)["pctr"], reference.score(reference_batch))

    def product_forward():
        return model(batch, training=True), model.losses

    def reference_forward():
        logits, losses = reference.logits(reference_batch, training=True)
        return logits, list(losses.values())

    logits, losses, gradients = training_outcome(model, product_forward, batch.label)
    expected = training_outcome(model, reference_forward, batch.label)
    assert_close(logits, expected[0])
    assert_close(losses, expected[1])
    assert_same_changes(gradients, expected[2], model.trainable_variables)


def assert_same_changes(actual, expected, variables):
    for one, other, variable in zip(actual, expected, variables, strict=True):
        tolerance = GRADIENT_TOLERANCE * np.abs(other).max() + CANCELLATION
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance, err_msg=variable.name)


@pytest.fixture(scope="module")
def plain():
    return small()


@pytest.mark.parametrize("kind", range(len(HISTORIES)), ids=HISTORIES)
def test_same_function_when_all_histories_are(kind, plain):
    mixed, kinds = batch(), [kind] * len(HISTORIES)
    (group,) = mixed.histories
    alike = one_group(tf.gather(group.rows, kinds), tf.gather(group.mask, kinds))
    assert_same_function(*plain, mixed._replace(histories=(alike,)))


@pytest.mark.parametrize(
    "changes",
    [
        {"channel_num": 1, "aggregation": "sum"},
        {"channel_num": 4, "n_layers": 2, "infer_timesteps": 2, "num_heads": 4},
        {"prediction_type": "epsilon", "infer_timesteps": 2, "aggregation": "softmax"},
        {"start_timestep": 0, "n_layers": 2, "subseq_len": 0},
        {"seq_len": 1, "subseq_len": 1},
        {"subseq_len": LENGTH, "use_dmig": False, "features": MINIMAL},
        {"top_p": 1.0, "use_cmic": False},
        {"top_p": 100.0, "channel_share": True},
        {"use_omie": False, "features": {**MINIMAL, "candidate": ["hour", "category", "item"]}},
        {"use_dmig": False, "top_p": 100.0, "features": {**MINIMAL, "context": ["hour"]}},
    ],
    ids=str,
)
def test_same_function_with(changes):
    model, reference = small(**changes)
    length = changes.get("seq_len", LENGTH)
    assert_same_function(model, reference, batch(length, len(model.layout.fields)))


@pytest.mark.parametrize("users", [(), [7] * 8, [1, 2, 1, 3, 4, 3, 3, 1]], ids=str)
def test_same_function_whoever_the_users_are(users, plain):
    users = tf.constant(users, tf.int64) if users else users
    assert_same_function(*plain, batch()._replace(user=users))


@pytest.mark.parametrize("length", [1, 2])
def test_a_batch_shorter_than_k_counts_as_padded(length, plain):
    whole = batch()
    (group,) = whole.histories
    cut = one_group(group.rows[:, :length], group.mask[:, :length])
    padded = one_group(group.rows, group.mask & (tf.range(LENGTH) < length))
    assert_same_function(
        *plain, whole._replace(histories=(padded,)), whole._replace(histories=(cut,))
    )


def one_step(model, step):
    """Loss, and how far a training step moves weights and moving averages."""
    averages = [v for v in model.non_trainable_variables if "moving" in v.name]
    variables = model.trainable_variables + averages
    # Plain descent beside the table, because Adam makes a step of the noise of a zero gradient.
    model.compile(tf.keras.optimizers.SGD(1.0), tf.keras.optimizers.Adagrad(0.5))
    reset_noise(model)
    before = [variable.numpy() for variable in variables]
    loss = step()
    return loss, [v.numpy() - b for v, b in zip(variables, before, strict=True)], variables


def test_one_step_moves_weights_and_averages_as_the_product_does():
    (product, _), (model, reference) = small(), small()
    loss, moves, _ = one_step(product, lambda: product.train_step(batch())["total_loss"])
    expected = one_step(model, lambda: reference.train_step(batch()))
    assert_close(loss, expected[0])
    assert_same_changes(moves, *expected[1:])


def test_graphs_compute_the_same(plain):
    model, reference = plain
    signature = tf.nest.map_structure(
        lambda x: tf.TensorSpec([None, None, *x.shape[2:]][: len(x.shape)], x.dtype), batch()
    )
    score = tf.function(reference.score, input_signature=[signature], autograph=False)
    assert_close(score(batch()), reference.score(batch()))
    losses = []
    for loss in (reference.loss, tf.function(reference.loss, autograph=False)):
        reset_noise(model)
        losses.append(loss(batch()))
    assert_close(*losses)


@pytest.mark.parametrize(
    "changes",
    [{"dropout_rate": 0.1}, {"input_units": ["handle_rec_unit:Long_term_DiffuMIN"] * 2}],
    ids=str,
)
def test_a_model_it_cannot_follow_is_refused(changes):
    with pytest.raises(ValueError, match="`model` must have"):
        small(**changes)
